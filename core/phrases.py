"""What the bot says by itself, out of locales/*.toml."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from core.language import Language

LOCALES = Path(__file__).parent / "locales"


class ListenerMood(StrEnum):
    """Why the offline listener speaks."""

    UNAVAILABLE = "unavailable"
    STILL_UNAVAILABLE = "still_unavailable"
    DECLINED = "declined"


@dataclass(frozen=True, slots=True)
class Phrases:
    listener: dict[ListenerMood, tuple[str, ...]]
    late: str
    group: str
    speaks: dict[Language, str]
    commands: dict[str, Any]
    """What core/commands says, a table a command."""

    def listener_says(self, mood: ListenerMood, turn_id: int) -> str:
        """One of the ways to say it: the same for the same turn, varying between turns."""
        ways = self.listener[mood]
        return ways[turn_id % len(ways)]


def load_phrases() -> dict[Language, Phrases]:
    return {language: _load(language) for language in Language}


def _load(language: Language) -> Phrases:
    table = tomllib.loads((LOCALES / f"{language}.toml").read_text(encoding="utf-8"))
    return Phrases(
        listener={mood: tuple(table["listener"][mood]) for mood in ListenerMood},
        late=table["prompt"]["late"],
        group=table["prompt"]["group"],
        speaks={spoken: table["prompt"]["speaks"][spoken] for spoken in Language},
        commands=table["commands"],
    )
