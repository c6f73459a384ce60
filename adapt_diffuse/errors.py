"""The one exception of the package: its message is a sentence for the person in front of the screen."""

import sys
from collections.abc import Callable
from pathlib import Path


class AdaptDiffuseError(ValueError):
    """Input that cannot be used. The message says what is wrong, with which input, and what to do.

    It is one line, whatever it quotes: names of files and errors of libraries have line breaks at times.
    """

    def __init__(self, message: str):
        super().__init__(" ".join(message.splitlines()))


# hosts show the name with its module before the sentence, and inside them that is a long path
AdaptDiffuseError.__module__ = "adapt_diffuse"


def run_script(main: Callable[[], None]) -> None:
    """Call a script's ``main``: what it refuses is one sentence on standard error, and exit status 1.

    Raises:
        SystemExit: with that sentence.
    """
    try:
        main()
    except AdaptDiffuseError as error:
        raise SystemExit(f"{Path(sys.argv[0]).stem}: {error}") from error
