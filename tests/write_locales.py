"""Write locales/ from the nodes as they are: ``python -m tests.write_locales``, with ComfyUI at hand.

Phrases that a language lacks are added to locales/phrases-LANGUAGE.json with an empty translation to fill in, and those
that no node says any more are dropped; both are told.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.comfyui import ComfyServer
from tests.locales import FOLDER, TRANSLATED, english, leaves, phrases_file, read, translated, write


def main() -> int:
    with tempfile.TemporaryDirectory() as folder, ComfyServer(Path(folder)) as comfy:
        texts = dict(zip(("nodeDefs", "main"), english(comfy.get("/object_info")), strict=True))
    said = list(dict.fromkeys(phrase for part in texts.values() for phrase in leaves(part)))
    for name, part in texts.items():
        write(FOLDER / "en" / f"{name}.json", part)
    empty = 0
    for language in TRANSLATED:
        known = read(phrases_file(language))
        phrases = {phrase: known.get(phrase, "") for phrase in said}
        write(phrases_file(language), phrases)
        for name, part in texts.items():
            write(FOLDER / language / f"{name}.json", translated(part, phrases))
        for phrase in (phrase for phrase in known if phrase not in phrases):
            print(f"{language}: no longer said: {phrase}")
        for phrase in (phrase for phrase in said if not phrases[phrase]):
            print(f"{language}: to translate: {phrase}")
            empty += 1
    return 1 if empty else 0


if __name__ == "__main__":
    sys.exit(main())
