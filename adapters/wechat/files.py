"""Files that WeChat's messages cannot hold (an export), as links that open for half an hour.

The link names a delivery and is sealed with the account's token: it cannot be guessed, and the file lies nowhere but
in that delivery's sealed row.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Mapping
from datetime import timedelta

import structlog

from adapters.wechat.notices import Notices
from adapters.wechat.places import app_of
from adapters.wechat.render import anchor, in_text, joined
from adapters.wechat.settings import PATH, WechatAccount
from core.language import Language, language_of
from core.messages import Delivery, Segment

log = structlog.get_logger()

FILES = "files"
"""No account may be called so."""
OPEN_FOR = timedelta(minutes=30)
_MAC_BYTES = 16


class FileLinks:
    def __init__(self, accounts: Mapping[str, WechatAccount], notices: Mapping[Language, Notices]) -> None:
        """`accounts` by app id."""
        self._accounts = accounts
        self._notices = notices

    def in_text(self, delivery: Delivery) -> str:
        """The delivery as text, a file in it as its link."""
        segment = delivery.segment
        if segment.media is None:
            return in_text(segment)
        account = self._accounts[app_of(delivery.chat_id)]
        notices = self._notices[language_of(segment.text)]
        if not account.public_url:
            log.warning("wechat_file_without_public_url", app_id=account.app_id)
            return joined([segment.text, notices.no_address])
        until = int(time.time() + OPEN_FOR.total_seconds())
        address = f"{account.public_url}{PATH}/{FILES}/{self._seal(account, delivery.id, until)}"
        link = anchor(address, segment.media.name)
        return joined([segment.text, f"{link}\n{notices.open_link}"])

    def opened(self, sealed: str) -> int | None:
        """The delivery that a link names; None if it is none of ours, or too old."""
        try:
            raw = base64.urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4))
        except (binascii.Error, ValueError):
            return None
        body, mac = raw[:-_MAC_BYTES], raw[-_MAC_BYTES:]
        ours = any(hmac.compare_digest(mac, _mac(account, body)) for account in self._accounts.values())
        if not ours or len(body) != 16 or int.from_bytes(body[8:], "big") < time.time():
            return None
        return int.from_bytes(body[:8], "big")

    @staticmethod
    def _seal(account: WechatAccount, delivery_id: int, until: int) -> str:
        body = delivery_id.to_bytes(8, "big") + until.to_bytes(8, "big")
        return base64.urlsafe_b64encode(body + _mac(account, body)).rstrip(b"=").decode()


def keeps(segment: Segment) -> timedelta | None:
    """How long a sent segment is still fetched."""
    return OPEN_FOR if segment.media is not None else None


def _mac(account: WechatAccount, body: bytes) -> bytes:
    key = hashlib.sha256(b"xinyu:files:1:" + account.token.encode() + account.app_secret.encode()).digest()
    return hmac.digest(key, body, "sha256")[:_MAC_BYTES]
