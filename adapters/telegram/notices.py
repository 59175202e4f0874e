"""What the adapter says by itself, out of locales/*.toml."""

from __future__ import annotations

import tomllib
from pathlib import Path

from core.language import Language

LOCALES = Path(__file__).parent / "locales"


def not_yours() -> dict[Language, str]:
    """What somebody is told who presses a button that is not theirs, or too old."""
    return {
        language: tomllib.loads((LOCALES / f"{language}.toml").read_text(encoding="utf-8"))["press"][
            "not_yours"
        ]
        for language in Language
    }
