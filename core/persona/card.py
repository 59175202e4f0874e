"""Who the bot is: a persona card, read from TOML once at start."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import ConfigError
from core.language import Language
from core.settings import ReplyStyle

DEFAULT_CARD = Path(__file__).with_name("xinyu.toml")


@dataclass(frozen=True, slots=True)
class Persona:
    names: dict[Language, str]
    prompts: dict[Language, str]
    style: ReplyStyle = ReplyStyle.WHOLE
    """How its answers go out where nobody chose otherwise."""


def load_card(path: Path = DEFAULT_CARD) -> Persona:
    """Read a card. Raises ConfigError saying what is missing or malformed."""
    try:
        card = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"PERSONA_FILE {path}: {error}") from error
    name = _text(card, "name", path)
    prompt = card.get("prompt", {})
    zh = _text(prompt, "zh", path)
    return Persona(
        names={Language.ZH: name, Language.EN: card.get("name_en", name)},
        prompts={Language.ZH: zh, Language.EN: prompt.get("en", zh)},
        style=_style(card, path),
    )


def _style(card: dict[str, Any], path: Path) -> ReplyStyle:
    value = card.get("style", ReplyStyle.WHOLE)
    if value not in set(ReplyStyle):
        raise ConfigError(f"PERSONA_FILE {path}: `style` must be one of {', '.join(ReplyStyle)}")
    return ReplyStyle(value)


def _text(table: dict[str, Any], key: str, path: Path) -> str:
    value = table.get(key)
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f"PERSONA_FILE {path}: `{key}` must be a text that is not empty")
    return value.strip()
