"""A Telegram update as a message, if it is one that we answer: today, what people send in private chats."""

from __future__ import annotations

from typing import Any

from telegram import Update
from telegram.constants import ChatType

from adapters.telegram.content import text_of
from core.messages import ConversationKind, IncomingMessage, Platform
from core.text import NotText, clean

ALLOWED_UPDATES = ["message"]
"""Telegram sends only these kinds (Bot API, getUpdates and setWebhook)."""
UNREADABLE = "unreadable"


def parse(update: dict[str, Any], bot_id: str) -> IncomingMessage | str:
    """The message, or a fixed word for why there is none to answer."""
    try:
        return _message_of(Update.de_json(update), bot_id)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, OSError):
        # Nothing of it may be shown, and no other update may wait behind it.
        return UNREADABLE


def _message_of(update: Update, bot_id: str) -> IncomingMessage | str:
    message = update.message
    if message is None or message.from_user is None:
        return "no_message"
    if message.chat.type != ChatType.PRIVATE:
        return f"chat_{message.chat.type}"
    said = text_of(message, int(bot_id))
    if said is None:
        return "nothing_said"
    try:
        text = clean(said)
    except NotText:
        return "not_unicode"
    if not text:
        return "blank"
    return IncomingMessage(
        platform=Platform.TELEGRAM,
        event_id=f"{bot_id}:{update.update_id}",
        chat_id=str(message.chat.id),
        sender_id=str(message.from_user.id),
        text=text,
        sent_at=message.date,
        kind=ConversationKind.PRIVATE,
        language=message.from_user.language_code,
    )
