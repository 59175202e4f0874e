"""Further Official Accounts, from the TOML file that WECHAT_ACCOUNTS names."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from adapters.wechat.crypto import AES_KEY
from adapters.wechat.files import FILES
from adapters.wechat.settings import Delivery, WechatAccount
from core.errors import ConfigError

APP_ID = re.compile(r"wx[0-9A-Za-z]{6,30}")
TOKEN = re.compile(r"[0-9A-Za-z_]{3,32}")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_KEYS = frozenset({"name", "app_id", "app_secret", "token", "encoding_aes_key", "delivery"})


def load_accounts(path: Path, api_base_url: str, public_url: str) -> list[WechatAccount]:
    """Raises ConfigError with every problem, one a line; never a secret."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"WECHAT_ACCOUNTS: {path} cannot be read as TOML ({type(error).__name__})"
        ) from error
    listed = table.get("account", [])
    if (
        not isinstance(listed, list)
        or not all(isinstance(one, dict) for one in listed)
        or table.keys() - {"account"}
    ):
        raise ConfigError(f"WECHAT_ACCOUNTS: {path}: expected [[account]] tables and nothing else")
    problems: list[str] = []
    accounts = []
    for number, found in enumerate(listed, 1):
        wrong = _problems(found)
        problems += [f"WECHAT_ACCOUNTS: {path}: account {number}: {problem}" for problem in wrong]
        if not wrong:
            delivery = Delivery(found.pop("delivery", Delivery.AUTO))
            accounts.append(
                WechatAccount(**found, delivery=delivery, api_base_url=api_base_url, public_url=public_url)
            )
    names = [account.name for account in accounts]
    if len(set(names)) < len(names) or len({account.app_id for account in accounts}) < len(accounts):
        problems.append(f"WECHAT_ACCOUNTS: {path}: each account needs a name and an app_id of its own")
    if problems:
        raise ConfigError("\n".join(problems))
    return accounts


def _problems(found: dict[str, Any]) -> list[str]:
    texts = {key: value for key, value in found.items() if isinstance(value, str)}
    wrong = [f"{key}: no such setting" for key in found.keys() - _KEYS]
    wrong += [f"{key}: expected a text" for key in found.keys() - texts.keys()]
    name = texts.get("name", "")
    if not _NAME.fullmatch(name) or name == FILES:
        wrong.append(
            "name: expected a-z 0-9 _ -, the end of its address /webhooks/wechat/<name>; not `files`"
        )
    if not APP_ID.fullmatch(texts.get("app_id", "")):
        wrong.append("app_id: expected the AppID, such as wx0123456789abcdef")
    if not TOKEN.fullmatch(texts.get("token", "")):
        wrong.append("token: expected the Token of its settings page, 3 to 32 letters and digits")
    if texts.get("encoding_aes_key") and not AES_KEY.fullmatch(texts["encoding_aes_key"]):
        wrong.append("encoding_aes_key: expected the 43 characters of the EncodingAESKey")
    if "delivery" in texts and texts["delivery"] not in list(Delivery):
        wrong.append(f"delivery: expected one of {', '.join(Delivery)}")
    if texts.get("delivery") == Delivery.CERTIFIED and not texts.get("app_secret"):
        wrong.append("app_secret: delivery = certified needs it")
    return wrong
