"""What the checks look at: the settings, or as much of them as is right."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dotenv import dotenv_values

from bot.settings import CONFIG_FILE, Settings, load_settings
from core.errors import ConfigError
from core.model.prices import DEFAULT_PRICES, load_prices
from core.persona.card import load_personas
from storage.keys import parse_key

RIGHT_ALONE = frozenset(
    [
        "DATA_DIR",
        "LOG_DIR",
        "TIMEZONE",
        "LLM_BASE_URL",
        "LLM_API_KEY",
        "TELEGRAM_API_BASE_URL",
        "TELEGRAM_BOT_TOKEN",
    ]
)
"""What the machine's checks need, and what contradicts no other setting."""
_UNKNOWN = ": no such setting"
_NAME = re.compile(r"[A-Z][A-Z0-9_]*|[a-z_]+")


@dataclass(frozen=True, slots=True)
class Surroundings:
    settings: Settings
    whole: bool
    """Otherwise `settings` are those of RIGHT_ALONE that are right, and the defaults for all others."""
    problems: tuple[str, ...]
    """Why `xinyu run` would not start, one a line: a setting's name and what is wanted, never its value."""
    warnings: tuple[str, ...]
    config_file: Path
    config_named: bool
    """XINYU_CONFIG says that there is such a file."""
    set_in_file: frozenset[str]
    """Names that have a value in the file."""


def look_around(environ: Mapping[str, str]) -> Surroundings:
    path = Path(environ.get("XINYU_CONFIG", CONFIG_FILE))
    try:
        loaded = load_settings(environ)
    except ConfigError as error:
        lines, warnings = str(error).splitlines(), tuple[str, ...]()
        settings, whole = _right_ones({**_values(path), **environ}, lines), False
        problems = tuple(map(_shown, lines))
    else:
        settings, whole, warnings = loaded.settings, True, loaded.warnings
        problems = _problems_of_values(settings)
    named = "XINYU_CONFIG" in environ
    return Surroundings(settings, whole, problems, warnings, path, named, frozenset(_values(path)))


def _values(path: Path) -> dict[str, str]:
    try:
        if not path.is_file():  # a pipe gives what it holds only once
            return {}
        values = dotenv_values(path, interpolate=False, encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):  # load_settings says so, too
        return {}
    return {name: value for name, value in values.items() if value and value.strip()}


def _shown(problem: str) -> str:
    """Without what looks like no setting's name: a secret that slipped onto a line of its own."""
    name, marker, rest = problem.partition(_UNKNOWN)
    return problem if not marker or _NAME.fullmatch(name) else f"{name[:3]}…{marker}{rest}"


def _right_ones(given: Mapping[str, str], problems: Iterable[str]) -> Settings:
    wrong = {line.partition(":")[0] for line in problems}
    right = {name: value for name, value in given.items() if name in RIGHT_ALONE - wrong}
    return load_settings(right, Path(os.devnull)).settings


def _problems_of_values(settings: Settings) -> tuple[str, ...]:
    """What only shows when the files that settings name are read, and the key is used."""
    problems = []
    for read in (_card, _prices, _key):
        try:
            read(settings)
        except ConfigError as error:
            problems.append(str(error))
    return tuple(problems)


def _card(settings: Settings) -> None:
    load_personas(settings.persona_file, settings.personas_dir)


def _prices(settings: Settings) -> None:
    load_prices(settings.prices_file or DEFAULT_PRICES)


def _key(settings: Settings) -> None:
    if settings.encryption_key is not None:
        parse_key(settings.encryption_key.get_secret_value())
