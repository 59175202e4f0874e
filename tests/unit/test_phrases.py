"""What the bot says by itself: both languages are complete, in every room that has locales."""

from __future__ import annotations

import string
import tomllib
from pathlib import Path
from typing import Any

import pytest

from core.language import Language
from core.persona.card import load_card
from core.phrases import ListenerMood, load_phrases
from core.safety.protocol import load_protocols
from core.safety.rules import Risk

ROOT = Path(__file__).parents[2]
FOLDERS = sorted(folder for top in ("core", "adapters", "bot") for folder in (ROOT / top).rglob("locales"))


def entries(table: dict[str, Any], at: str = "") -> dict[str, list[str]]:
    """Each key's texts: one, or the ways to say it."""
    found: dict[str, list[str]] = {}
    for name, value in table.items():
        key = f"{at}{name}"
        if isinstance(value, dict):
            found |= entries(value, f"{key}.")
        else:
            found[key] = value if isinstance(value, list) else [value]
    return found


def read(folder: Path, language: Language) -> dict[str, list[str]]:
    return entries(tomllib.loads((folder / f"{language}.toml").read_text(encoding="utf-8")))


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def test_the_folders_are_found() -> None:
    assert {folder.relative_to(ROOT).as_posix() for folder in FOLDERS} >= {
        "core/locales",
        "adapters/telegram/locales",
        "adapters/web/locales",
    }


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.relative_to(ROOT).as_posix())
class TestLocales:
    def test_both_languages_and_no_other_are_there(self, folder: Path) -> None:
        assert {file.name for file in folder.iterdir()} == {f"{language}.toml" for language in Language}

    def test_both_have_the_same_keys_and_placeholders(self, folder: Path) -> None:
        zh, en = read(folder, Language.ZH), read(folder, Language.EN)
        assert zh.keys() == en.keys()
        for key, ways in zh.items():
            wanted = {frozenset(placeholders(text)) for text in [*ways, *en[key]]}
            assert len(wanted) == 1, key

    def test_every_text_says_something_in_its_language(self, folder: Path) -> None:
        for language in Language:
            for key, ways in read(folder, language).items():
                assert ways, key
                assert all(isinstance(text, str) and text.strip() for text in ways), key
                assert len(set(ways)) == len(ways), f"{key} says the same twice"
        for key, ways in read(folder, Language.EN).items():
            if key.endswith(("other_language", "value.language.zh")):  # a language's name stands in itself
                continue
            assert not any("\u4e00" <= character <= "\u9fff" for text in ways for character in text), key


@pytest.mark.parametrize("language", Language)
@pytest.mark.parametrize("mood", ListenerMood)
def test_the_listener_varies_between_turns_and_not_within_one(language: Language, mood: ListenerMood) -> None:
    phrases = load_phrases()[language]
    ways = phrases.listener[mood]
    assert {phrases.listener_says(mood, turn_id) for turn_id in range(50)} == set(ways)
    assert phrases.listener_says(mood, 123) == phrases.listener_says(mood, 123)


def test_the_persona_and_the_protocol_speak_both() -> None:
    persona, protocols = load_card(), load_protocols()
    assert persona.names.keys() == persona.prompts.keys() == set(Language)
    assert persona.prompts[Language.ZH] != persona.prompts[Language.EN]
    assert "12356" in protocols.text(Risk.HIGH, Language.ZH)
    assert "988" in protocols.text(Risk.HIGH, Language.EN)
