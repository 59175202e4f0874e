"""Sending to Telegram."""

from __future__ import annotations

import unicodedata
from typing import Any

import structlog
from telegram import Bot, InputFile, MessageEntity, ReplyParameters
from telegram.constants import ChatAction, ChatID, ChatMemberStatus
from telegram.error import BadRequest, InvalidToken, TelegramError

from adapters.telegram.buttons import ButtonSeal, keyboard
from adapters.telegram.errors import is_not_modified, is_nothing_to_edit, translate, word_for
from adapters.telegram.places import chat_of, topic_of
from adapters.telegram.render import render
from core.errors import DeliveryFailed
from core.messages import Delivery, MarkKind, Media, MediaKind, Segment

log = structlog.get_logger()

_MANAGERS = (ChatMemberStatus.ADMINISTRATOR, ChatMemberStatus.OWNER)


class TelegramSender:
    """Implements core.ports.Sender."""

    def __init__(self, bot: Bot, seal: ButtonSeal) -> None:
        self._bot = bot
        self._seal = seal
        self._drafts = True
        """Whether the server offers sendMessageDraft, as far as we know."""

    async def send(self, delivery: Delivery) -> str | None:
        segment = delivery.segment
        try:
            if segment.replaces is not None and segment.media is None:
                return await self._replace(delivery.chat_id, segment, segment.replaces)
            if segment.media is not None:
                return await self._send_media(delivery.chat_id, segment, segment.media)
            return await self._send_text(delivery.chat_id, segment)
        except TelegramError as error:
            raise translate(error) from error
        except ValueError as error:  # a button that says more than one can hold: it never will
            log.exception("segment_does_not_fit", delivery_id=delivery.id)
            raise DeliveryFailed("refused", permanent=True) from error

    async def _send_text(self, place: str, segment: Segment) -> str | None:
        if is_blank(segment.text):
            return None  # a piece of a text with thousands of blanks: Telegram refuses it, nobody misses it
        sent = await self._bot.send_message(
            chat_id=chat_of(place),
            message_thread_id=topic_of(place),
            text=segment.text,
            entities=entities_of(segment),
            reply_markup=keyboard(segment, self._seal, place),
            reply_parameters=_answering(segment),
            disable_notification=segment.silent or None,
        )
        return str(sent.message_id)

    async def _send_media(self, place: str, segment: Segment, media: Media) -> str:
        file = InputFile(media.data, filename=media.name)
        common: dict[str, Any] = {
            "message_thread_id": topic_of(place),
            "caption": segment.text or None,
            "caption_entities": entities_of(segment),
            "reply_markup": keyboard(segment, self._seal, place),
            "reply_parameters": _answering(segment),
            "disable_notification": segment.silent or None,
        }
        match media.kind:
            case MediaKind.PHOTO:
                sent = await self._bot.send_photo(chat_of(place), file, **common)
            case MediaKind.VOICE:
                sent = await self._bot.send_voice(chat_of(place), file, **common)
            case MediaKind.DOCUMENT:
                sent = await self._bot.send_document(chat_of(place), file, **common)
        return str(sent.message_id)

    async def _replace(self, place: str, segment: Segment, message_id: str) -> str | None:
        """Change a message of ours; one that is no more is sent anew."""
        markup = keyboard(segment, self._seal, place)
        try:
            if is_blank(segment.text):
                await self._bot.edit_message_reply_markup(
                    chat_of(place), int(message_id), reply_markup=markup
                )
                return None  # it stays what it was: the delivery is not found by its id
            await self._bot.edit_message_text(
                segment.text,
                chat_of(place),
                int(message_id),
                entities=entities_of(segment),
                reply_markup=markup,
            )
        except BadRequest as error:
            if is_not_modified(error):
                return message_id if not is_blank(segment.text) else None
            if is_nothing_to_edit(error):
                return await self._send_text(place, segment)
            raise
        return message_id

    async def show_typing(self, chat_id: str) -> None:
        try:
            await self._bot.send_chat_action(
                chat_id=chat_of(chat_id), action=ChatAction.TYPING, message_thread_id=topic_of(chat_id)
            )
        except TelegramError as error:
            log.debug("typing_not_shown", reason=word_for(error))

    async def show_preview(
        self, chat_id: str, preview_id: int, text: str, message_id: str | None
    ) -> str | None:
        """By a draft, which goes away by itself; on a server without drafts by a message that is edited."""
        beginning = render(text)[0]
        try:
            if message_id is not None:
                await self._replace(chat_id, beginning, message_id)
                return message_id
            if self._drafts and await self._drafted(chat_id, preview_id, beginning):
                return None
            return await self._send_text(chat_id, beginning)
        except TelegramError as error:
            raise translate(error) from error

    async def _drafted(self, place: str, preview_id: int, segment: Segment) -> bool:
        """Whether the server knows drafts (Bot API 9.3 and newer, sendMessageDraft)."""
        try:
            await self._bot.send_message_draft(
                chat_of(place),
                preview_id,
                segment.text,
                message_thread_id=topic_of(place),
                entities=entities_of(segment),
            )
        except InvalidToken:  # the library's name for a 404: a method that this server does not know
            self._drafts = False
            log.info("telegram_without_drafts")
        return self._drafts

    async def may_manage(self, chat_id: str, user_id: str) -> bool:
        if int(user_id) == ChatID.ANONYMOUS_ADMIN:
            return True
        try:
            member = await self._bot.get_chat_member(chat_of(chat_id), int(user_id))
        except TelegramError as error:
            raise translate(error) from error
        return member.status in _MANAGERS


def is_blank(text: str) -> bool:
    """Whether nothing is to be seen of it: Telegram calls that empty."""
    return all(
        character.isspace() or character in _INVISIBLE or unicodedata.category(character) == "Cf"
        for character in text
    )


_INVISIBLE = frozenset("\u2800\u3164\u115f\u1160\uffa0")


def _answering(segment: Segment) -> ReplyParameters | None:
    if segment.answers is None:
        return None
    return ReplyParameters(message_id=int(segment.answers), allow_sending_without_reply=True)


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
