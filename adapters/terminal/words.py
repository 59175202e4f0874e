"""The terminal's own words, in the language of the person's locale."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from core.language import Language

LOCALES = Path(__file__).parent / "locales"


@dataclass(frozen=True, slots=True)
class Words:
    """Each is explained by its text in locales/."""

    greeting: str
    honest: str
    keys: str
    earlier: str
    meanwhile: str
    you: str
    they: str
    writing: str
    again: str
    listener: str
    listener_deferred: str
    left: str
    late: str
    not_stored: str
    not_text: str
    too_long: str
    in_line: str
    history_failed: str
    finishing: str
    bye: str
    broken: str
    wrong_name: str


def load_words(language: Language, name: str) -> Words:
    """The words in a language, for a persona of this name."""
    table = tomllib.loads((LOCALES / f"{language}.toml").read_text(encoding="utf-8"))
    return Words(**{field.name: table[field.name].replace("{name}", name) for field in fields(Words)})


def language_tag(environ: Mapping[str, str]) -> str | None:
    """The locale's language as a BCP 47 tag, by POSIX's order; None where it names none."""
    name = next((environ[key] for key in ("LC_ALL", "LC_MESSAGES", "LANG") if environ.get(key)), "")
    tag = name.partition(".")[0].partition("@")[0].replace("_", "-")
    return tag if tag and tag not in ("C", "POSIX") else None


def language_of_locale(tag: str | None) -> Language:
    return Language.EN if tag is not None and tag.lower().startswith("en") else Language.ZH
