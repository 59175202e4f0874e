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

from adapters.wechat.places import app_of
from adapters.wechat.render import anchor, in_text, joined
from adapters.wechat.settings import PATH, WechatAccount
from core.messages import Delivery, Segment

FILES = "files"
"""No account may be called so."""
OPEN_FOR = timedelta(minutes=30)
_MAC_BYTES = 16


class FileLinks:
    def __init__(self, accounts: Mapping[str, WechatAccount], no_address: str) -> None:
        """`accounts` by app id. `no_address`: said in a file's place where nobody told our own address."""
        self._accounts = accounts
        self._no_address = no_address

    def in_text(self, delivery: Delivery) -> str:
        """The delivery as text, a file in it as its link."""
        segment = delivery.segment
        if segment.media is None:
            return in_text(segment)
        account = self._accounts[app_of(delivery.chat_id)]
        if not account.public_url:
            return joined([segment.text, self._no_address])
        until = int(time.time() + OPEN_FOR.total_seconds())
        address = f"{account.public_url}{PATH}/{FILES}/{self._seal(account, delivery.id, until)}"
        return joined([segment.text, anchor(address, segment.media.name)])

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
