"""Sending to Telegram."""

from __future__ import annotations

import structlog
from telegram import Bot
from telegram.constants import ChatAction
from telegram.error import TelegramError

from adapters.telegram.errors import translate, word_for
from core.messages import Delivery

log = structlog.get_logger()


class TelegramSender:
    """Implements core.ports.Sender."""

    def __init__(self, bot: Bot) -> None:
        self._bot = bot

    async def send(self, delivery: Delivery) -> str | None:
        if not delivery.segment.text.strip():
            return None  # a piece of a text with thousands of blanks: Telegram refuses it, nobody misses it
        try:
            sent = await self._bot.send_message(chat_id=int(delivery.chat_id), text=delivery.segment.text)
        except TelegramError as error:
            raise translate(error) from error
        return str(sent.message_id)

    async def show_typing(self, chat_id: str) -> None:
        try:
            await self._bot.send_chat_action(chat_id=int(chat_id), action=ChatAction.TYPING)
        except TelegramError as error:
            log.debug("typing_not_shown", reason=word_for(error))
