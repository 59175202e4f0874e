"""What the adapter says by itself, and the names of its commands, out of locales/*.toml."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.language import Language

LOCALES = Path(__file__).parent / "locales"


@dataclass(frozen=True, slots=True)
class Notices:
    not_yours: Mapping[Language, str]
    choose: Mapping[Language, str]
    silent_here: Mapping[Language, str]
    not_mine: Mapping[Language, str]
    noted: Mapping[Language, str]
    trouble: Mapping[Language, str]
    commands: Mapping[Language, Mapping[str, str]]
    """Names of slash commands and menu entries, as each language's people see them."""


def load_notices() -> Notices:
    tables = {language: _table(language) for language in Language}

    def said(name: str) -> Mapping[Language, str]:
        return {language: table["notices"][name] for language, table in tables.items()}

    return Notices(
        not_yours=said("not_yours"),
        choose=said("choose"),
        silent_here=said("silent_here"),
        not_mine=said("not_mine"),
        noted=said("noted"),
        trouble=said("trouble"),
        commands={language: table["commands"] for language, table in tables.items()},
    )


def _table(language: Language) -> dict[str, Any]:
    return tomllib.loads((LOCALES / f"{language}.toml").read_text(encoding="utf-8"))
