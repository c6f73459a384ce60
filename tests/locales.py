"""The words of the nodes in the languages of the interface: locales/, made from the schemas and lists of phrases.

The host reads ``locales/LANGUAGE/nodeDefs.json`` and ``main.json``. ``python -m tests.write_locales`` writes both:
English from the nodes themselves, the others by looking each phrase up in ``locales/phrases-LANGUAGE.json``. A phrase
that is reworded in the code is a new phrase, so no translation can outlive what it translates.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.comfyui import REPOSITORY
from tests.released import OURS

FOLDER = REPOSITORY / "locales"
TRANSLATED = ("zh", "ja", "fr", "de")
CATEGORY_OF_THE_HOST = "loaders"  # it has its own word for these
NAME_OF_THE_PACK = "adapt & diffuse"
SYNTAX = "{}@|"  # of the interface's message format: it would read these as placeholders, links and plurals
Texts = dict[str, Any]


def english(object_info: dict[str, Any]) -> tuple[Texts, Texts]:
    """(nodeDefs, main) in English, from what the host says of its nodes."""
    ours = {name: info for name, info in sorted(object_info.items()) if name.startswith(OURS)}
    steps = {step for info in ours.values() for step in info["category"].split("/")}
    categories = {step: step for step in sorted(steps - {CATEGORY_OF_THE_HOST, NAME_OF_THE_PACK})}
    return {name: node_texts(info) for name, info in ours.items()}, {"nodeCategories": categories}


def node_texts(info: dict[str, Any]) -> Texts:
    inputs = {
        name.replace(".", "_"): {"name": settings.get("display_name") or name, "tooltip": settings["tooltip"]}
        for group in ("required", "optional")
        for name, (_, settings) in info["input"].get(group, {}).items()
    }
    outputs = {
        str(number): {"name": name, "tooltip": tooltip}
        for number, (name, tooltip) in enumerate(zip(info["output_name"], info["output_tooltips"], strict=True))
    }
    return {
        "display_name": info["display_name"],
        "description": info["description"],
        "inputs": inputs,
        "outputs": outputs,
    }


def leaves(texts: Texts) -> Iterator[str]:
    """Every phrase, in the order of the nodes."""
    for value in texts.values():
        if isinstance(value, str):
            yield value
        else:
            yield from leaves(value)


def translated(texts: Texts, phrases: dict[str, str]) -> Texts:
    """``texts`` with the phrases of another language; what has no phrase is left out, and the host shows English."""
    found: Texts = {}
    for key, value in texts.items():
        if not isinstance(value, str):
            found[key] = translated(value, phrases)
        elif phrases.get(value):
            found[key] = phrases[value]
    return found


def phrases_file(language: str) -> Path:
    return FOLDER / f"phrases-{language}.json"


def read(path: Path) -> Texts:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def write(path: Path, texts: Texts) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(texts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def lost_numbers(phrase: str, translation: str) -> list[str]:
    """Numbers and names of files, models and settings in an English phrase that its translation lacks."""

    def exact(text: str) -> Counter[str]:
        return Counter(re.findall(r"\d+(?:\.\d+)?|[a-z]+_[a-z_]+(?==)|models/\w+|taesd\w*|taef\d", text))

    return sorted((exact(phrase) - exact(translation)).elements())
