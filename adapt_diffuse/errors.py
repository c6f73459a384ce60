"""The one exception of the package: its message is a sentence for the person in front of the screen."""


class AdaptDiffuseError(ValueError):
    """Input that cannot be used. The message says what is wrong, with which input, and what to do.

    It is one line, whatever it quotes: names of files and errors of libraries have line breaks at times.
    """

    def __init__(self, message: str):
        super().__init__(" ".join(message.splitlines()))


# hosts show the name with its module before the sentence, and inside them that is a long path
AdaptDiffuseError.__module__ = "adapt_diffuse"
