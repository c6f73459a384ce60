"""Every word of the nodes in every language of locales/, and none that no node says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.comfyui import ComfyServer
from tests.locales import (
    FOLDER,
    SYNTAX,
    TRANSLATED,
    english,
    leaves,
    lost_numbers,
    phrases_file,
    read,
    translated,
)

SCRIPT = "run `python -m tests.write_locales` and fill in what it says"
every_language = pytest.mark.parametrize("language", TRANSLATED)
# what is the same word in both languages
SAME = {
    "VAE", "vae", "cfg", "seed", "sampler", "sigmas", "latent", "batch", "filter", "mode", "image", "solver", "angle",
    "iterations", "report", "restoration", "start", "conditioning", "severity", "gamma",
}  # fmt: skip


def english_files() -> dict[str, Any]:
    return {name: read(FOLDER / "en" / f"{name}.json") for name in ("nodeDefs", "main")}


@pytest.mark.comfyui
@pytest.mark.slow
def test_english_is_what_the_nodes_say(comfy: ComfyServer) -> None:
    node_defs, main = english(comfy.get("/object_info"))
    assert english_files() == {"nodeDefs": node_defs, "main": main}, SCRIPT


@every_language
def test_a_language_says_everything_that_english_says_and_no_more(language: str) -> None:
    texts, phrases = english_files(), read(phrases_file(language))
    said = {phrase for part in texts.values() for phrase in leaves(part)}
    assert {phrase for phrase in said if not phrases.get(phrase)} == set(), SCRIPT
    assert set(phrases) - said == set(), SCRIPT
    for name, part in texts.items():
        assert read(FOLDER / language / f"{name}.json") == translated(part, phrases), SCRIPT


@every_language
def test_a_translation_is_one(language: str) -> None:
    """It keeps the numbers and the names of things, and is another text."""
    phrases = read(phrases_file(language))
    assert {phrase: lost for phrase, text in phrases.items() if (lost := lost_numbers(phrase, text))} == {}
    same = {phrase for phrase, text in phrases.items() if phrase == text}
    assert {phrase for phrase in same if " " in phrase} == set()
    assert same <= SAME
    assert all(text == text.strip() and (text[-1] in ".。") == (phrase[-1] == ".") for phrase, text in phrases.items())


@every_language
def test_different_things_have_different_names(language: str) -> None:
    texts = read(FOLDER / language / "nodeDefs.json")
    names = [node["display_name"] for node in texts.values()]
    assert len(set(names)) == len(names)
    for node in texts.values():
        labels = [entry["name"] for entry in node["inputs"].values()]
        assert len(set(labels)) == len(labels), node["display_name"]


@pytest.mark.parametrize("language", ["en", *TRANSLATED])
def test_the_interface_can_read_the_words(language: str) -> None:
    """Names and descriptions pass through its message format; tooltips do not."""
    for node in read(FOLDER / language / "nodeDefs.json").values():
        sockets = [*node["inputs"].values(), *node["outputs"].values()]
        for text in (node["display_name"], node["description"], *(socket["name"] for socket in sockets)):
            assert not set(text) & set(SYNTAX), text


@pytest.mark.comfyui
@pytest.mark.slow
def test_the_host_serves_them(comfy: ComfyServer) -> None:
    served = comfy.get("/i18n")
    assert set(served) == {"en", *TRANSLATED}
    for language in served:
        assert served[language]["nodeDefs"] == json.loads(
            (FOLDER / language / "nodeDefs.json").read_text(encoding="utf-8")
        )
        assert served[language]["nodeCategories"]


def test_a_lost_number_is_noticed() -> None:
    assert lost_numbers("uses 0.3 to 3.0, such as std_min=0.3", "nimmt 0.3 bis 30, etwa std_max=0.3") == [
        "3.0",
        "std_min",
    ]
    assert lost_numbers("0 is LDPS; taesd, taesdxl", "0 ist LDPS; taesd und taesdxl") == []
