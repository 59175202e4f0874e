"""The custom menu below the chat, from a TOML file. developers.weixin.qq.com, "创建接口" (Custom menus: create)."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from core.commands.words import command_in_words
from core.errors import ConfigError

DEFAULT_MENU = Path(__file__).with_name("menu.toml")
BUTTONS, BELOW = 3, 5
NAME_BYTES, NAME_BELOW_BYTES = 16, 60
KEY_BYTES, URL_BYTES = 128, 1024


def load_menu(path: Path) -> dict[str, Any]:
    """The menu as the API takes it. Raises ConfigError with every problem, one a line."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read as TOML ({type(error).__name__}: {error})") from error
    problems: list[str] = []
    buttons = _listed(table.get("button"), "button", BUTTONS, problems)
    made = [_button(button, f"button {number}", problems) for number, button in enumerate(buttons, 1)]
    if not buttons and not problems:
        problems.append("button: at least one [[button]] is needed")
    if problems:
        raise ConfigError("\n".join(f"{path}: {problem}" for problem in problems))
    return {"button": made}


def _button(button: dict[str, Any], where: str, problems: list[str]) -> dict[str, Any]:
    below = button.get("below")
    if below is None:
        return _leaf(button, where, NAME_BYTES, problems)
    name = _text(button, "name", where, NAME_BYTES, problems)
    subs = _listed(below, f"{where}, below", BELOW, problems)
    if not subs:
        problems.append(f"{where}, below: nothing in it")
    return {
        "name": name,
        "sub_button": [
            _leaf(sub, f"{where}, below {number}", NAME_BELOW_BYTES, problems)
            for number, sub in enumerate(subs, 1)
        ],
    }


def _leaf(button: dict[str, Any], where: str, name_bytes: int, problems: list[str]) -> dict[str, Any]:
    name = _text(button, "name", where, name_bytes, problems)
    if "url" in button:
        url = _text(button, "url", where, URL_BYTES, problems)
        if not url.startswith(("http://", "https://")):
            problems.append(f"{where}: url must begin with https://")
        return {"type": "view", "name": name, "url": url}
    says = _text(button, "says", where, KEY_BYTES, problems)
    if says and command_in_words(says) is None:
        problems.append(f"{where}: says is no command: {says}. docs/wechat.md lists them")
    return {"type": "click", "name": name, "key": says}


def _listed(found: object, where: str, limit: int, problems: list[str]) -> list[dict[str, Any]]:
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        problems.append(f"{where}: expected [[button]] tables")
        return []
    if len(found) > limit:
        problems.append(f"{where}: at most {limit}")
    return found


def _text(button: dict[str, Any], key: str, where: str, limit: int, problems: list[str]) -> str:
    value = button.get(key)
    if not isinstance(value, str) or not value.strip():
        problems.append(f"{where}: {key} is missing")
        return ""
    if len(value.encode()) > limit:
        problems.append(f"{where}: {key} is longer than {limit} bytes")
    return value
