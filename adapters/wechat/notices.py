"""What the adapter says by itself, out of locales/*.toml."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from core.language import Language

LOCALES = Path(__file__).parent / "locales"


@dataclass(frozen=True, slots=True)
class Notices:
    later: str
    """The answer is not ready, and how to get it."""
    still_later: str
    """The same, to somebody who has asked for it."""
    more: str
    """There is more, and how to get it."""
    also_later: str
    """Here is what was kept; the answer to what was just said is still to come."""
    not_kept: str
    """What they said could not be stored."""
    open_link: str
    """Beside a link to a file."""
    no_address: str
    """In a file's place where it cannot be fetched from anywhere."""


def load_notices() -> dict[Language, Notices]:
    return {language: _load(language) for language in Language}


def _load(language: Language) -> Notices:
    table = tomllib.loads((LOCALES / f"{language}.toml").read_text(encoding="utf-8"))["notices"]
    return Notices(**table)
