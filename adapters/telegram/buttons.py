"""Buttons under messages. What a button says is sealed: who pressed it, and that we made it, are checked.

Telegram's own words (Bot API, CallbackQuery): a query can come with data that no button had.
"""

from __future__ import annotations

import base64
import hashlib
import hmac

from telegram import InlineKeyboardButton, InlineKeyboardMarkup
from telegram.constants import InlineKeyboardButtonLimit

from core.messages import Segment

DATA_BYTES = int(InlineKeyboardButtonLimit.MAX_CALLBACK_DATA)
_MAC_BYTES = 8


class ButtonSeal:
    """Makes and checks what buttons hold: `command|owner|mac`, the mac keyed by the bot's token."""

    def __init__(self, token: str) -> None:
        self._key = hashlib.sha256(b"xinyu:buttons:1:" + token.encode()).digest()

    def seal(self, command: str, owner: str, place: str) -> str:
        """The data of a button for one person in one place. Raises ValueError if it is more than Telegram takes."""
        data = f"{command}|{owner}|{self._mac(command, owner, place)}"
        if len(data.encode()) > DATA_BYTES:
            raise ValueError(f"a button's command of more than {DATA_BYTES} bytes: {command}")
        return data

    def open(self, data: str, presser: str, place: str) -> str | None:
        """The command, if this person may press it there; None for anybody else and anything forged."""
        command, _, rest = data.partition("|")
        owner, _, mac = rest.partition("|")
        ours = hmac.compare_digest(mac.encode(errors="replace"), self._mac(command, owner, place).encode())
        return command if ours and owner == presser else None

    def _mac(self, command: str, owner: str, place: str) -> str:
        text = "\0".join((command, owner, place)).encode(errors="replace")
        digest = hmac.digest(self._key, text, "sha256")[:_MAC_BYTES]
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def keyboard(segment: Segment, seal: ButtonSeal, place: str) -> InlineKeyboardMarkup | None:
    """The segment's buttons as Telegram takes them."""
    if not segment.rows:
        return None
    return InlineKeyboardMarkup(
        [
            [
                InlineKeyboardButton(
                    button.label, callback_data=seal.seal(button.command, segment.owner, place)
                )
                for button in row
            ]
            for row in segment.rows
        ]
    )
