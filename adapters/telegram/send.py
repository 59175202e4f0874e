"""Sending to Telegram."""

from __future__ import annotations

import structlog
from telegram import Bot, MessageEntity
from telegram.constants import ChatAction
from telegram.error import TelegramError

from adapters.telegram.errors import translate, word_for
from core.messages import Delivery, MarkKind, Segment

log = structlog.get_logger()


class TelegramSender:
    """Implements core.ports.Sender."""

    def __init__(self, bot: Bot) -> None:
        self._bot = bot

    async def send(self, delivery: Delivery) -> str | None:
        if not delivery.segment.text.strip():
            return None  # a piece of a text with thousands of blanks: Telegram refuses it, nobody misses it
        try:
            sent = await self._bot.send_message(
                chat_id=int(delivery.chat_id),
                text=delivery.segment.text,
                entities=entities_of(delivery.segment),
            )
        except TelegramError as error:
            raise translate(error) from error
        return str(sent.message_id)

    async def show_typing(self, chat_id: str) -> None:
        try:
            await self._bot.send_chat_action(chat_id=int(chat_id), action=ChatAction.TYPING)
        except TelegramError as error:
            log.debug("typing_not_shown", reason=word_for(error))


_TYPES = {
    MarkKind.BOLD: MessageEntity.BOLD,
    MarkKind.ITALIC: MessageEntity.ITALIC,
    MarkKind.STRIKETHROUGH: MessageEntity.STRIKETHROUGH,
    MarkKind.CODE: MessageEntity.CODE,
    MarkKind.PRE: MessageEntity.PRE,
    MarkKind.QUOTE: MessageEntity.BLOCKQUOTE,
    MarkKind.LINK: MessageEntity.TEXT_LINK,
}


def entities_of(segment: Segment) -> list[MessageEntity]:
    """The marks in Telegram's words: offsets and lengths count UTF-16 code units (Bot API, MessageEntity)."""
    return [
        MessageEntity(
            type=_TYPES[mark.kind],
            offset=_units(segment.text[: mark.start]),
            length=_units(segment.text[mark.start : mark.end]),
            url=mark.value if mark.kind is MarkKind.LINK else None,
            language=mark.value or None if mark.kind is MarkKind.PRE else None,
        )
        for mark in segment.marks
    ]


def _units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2
