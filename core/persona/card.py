"""Who the bot is: persona cards, read from TOML once at start."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import ConfigError
from core.language import Language
from core.settings import ReplyStyle

CARDS = Path(__file__).with_name("cards")
DEFAULT_CARD = CARDS / "xinyu.toml"
_NAMEABLE = re.compile(r"[A-Za-z0-9_-]{1,32}")
"""What a button's command can hold, and a typed one."""
MOST_CARDS = 20
"""As many as fit every platform's lists, with room for a language's or two."""


@dataclass(frozen=True, slots=True)
class Persona:
    id: str
    """The card's file name without its ending: how settings name it."""
    names: dict[Language, str]
    prompts: dict[Language, str]
    about: dict[Language, str]
    """Who they are, in a few words for those who choose."""
    style: ReplyStyle = ReplyStyle.WHOLE
    """How its answers go out where nobody chose otherwise."""


@dataclass(frozen=True, slots=True)
class Personas:
    """All that people may choose among; the first is the one of whoever chose none."""

    cards: tuple[Persona, ...]

    @property
    def default(self) -> Persona:
        return self.cards[0]

    def of(self, id_: str | None) -> Persona:
        """The persona of that id; the default one where its card is gone."""
        return next((card for card in self.cards if card.id == id_), self.default)


def load_personas(default: Path | None = None, folder: Path | None = None) -> Personas:
    """The default card (ours, if none is given), the operator's folder of them, then ours.

    The first card of an id is it. Raises ConfigError saying which card is wrong and how.
    """
    own = sorted(CARDS.glob("*.toml"))
    files = [default or DEFAULT_CARD, *(sorted(folder.glob("*.toml")) if folder else ()), *own]
    cards: dict[str, Persona] = {}
    for number, file in enumerate(files):
        if file.stem not in cards:
            try:
                cards[file.stem] = load_card(file)
            except ConfigError as error:
                raise ConfigError(f"{'PERSONAS_DIR' if number else 'PERSONA_FILE'} {error}") from error
    if len(cards) > MOST_CARDS:
        raise ConfigError(f"PERSONAS_DIR {folder}: more than {MOST_CARDS} personas, ours included")
    return Personas(tuple(cards.values()))


def load_card(path: Path = DEFAULT_CARD) -> Persona:
    """Read a card. Raises ConfigError saying what is missing or malformed."""
    try:
        card = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    if not _NAMEABLE.fullmatch(path.stem):
        raise ConfigError(f"{path}: its file name must be 1 to 32 of a-z A-Z 0-9 _ - and `.toml`")
    name = _text(card, "name", path)
    prompt, about = _table(card, "prompt", path), _table(card, "about", path)
    zh = _text(prompt, "zh", path)
    about_zh = _text(about, "zh", path, "")
    return Persona(
        id=path.stem,
        names={Language.ZH: name, Language.EN: _text(card, "name_en", path, name)},
        prompts={Language.ZH: zh, Language.EN: _text(prompt, "en", path, zh)},
        about={Language.ZH: about_zh, Language.EN: _text(about, "en", path, about_zh)},
        style=_style(card, path),
    )


def _style(card: dict[str, Any], path: Path) -> ReplyStyle:
    value = card.get("style", ReplyStyle.WHOLE)
    if value not in list(ReplyStyle):
        raise ConfigError(f"{path}: `style` must be one of {', '.join(ReplyStyle)}")
    return ReplyStyle(value)


def _table(card: dict[str, Any], key: str, path: Path) -> dict[str, Any]:
    value = card.get(key, {})
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: [{key}] must be a table with `zh` and `en`")
    return value


def _text(table: dict[str, Any], key: str, path: Path, otherwise: str | None = None) -> str:
    """A text of a card; with `otherwise` it may be left out."""
    value = table.get(key, otherwise)
    if not isinstance(value, str) or not (value.strip() or value == otherwise):
        raise ConfigError(f"{path}: `{key}` must be a text that is not empty")
    return value.strip()
