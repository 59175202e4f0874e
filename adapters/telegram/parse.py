"""A Telegram update as what core knows: a message, or something that became of one or of a chat.

Parsing asks nobody and never fails: what cannot be read, and what is nobody's words, is a fixed word for the log.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from telegram import (
    CallbackQuery,
    ChatMemberUpdated,
    Message,
    MessageEntity,
    MessageReactionUpdated,
    ReactionTypeEmoji,
    Update,
    User,
)
from telegram.constants import ChatMemberStatus, ChatType

from adapters.telegram.buttons import ButtonSeal
from adapters.telegram.content import attachments_of, forwarded_from, quote_of
from adapters.telegram.places import place_of
from core.commands.asked import JOINED, command_of, pressed
from core.messages import (
    Command,
    ConversationKind,
    Edited,
    IncomingMessage,
    Moved,
    Platform,
    PlatformEvent,
    ReachChanged,
    Reacted,
)
from core.text import NotText, clean

ALLOWED_UPDATES = ["message", "edited_message", "callback_query", "message_reaction", "my_chat_member"]
"""Telegram sends only these kinds (Bot API, getUpdates and setWebhook)."""
UNREADABLE = "unreadable"
NAME_CHARACTERS = 40
_KIND = re.compile(r"[a-z_]{1,40}")
_THERE = (ChatMemberStatus.MEMBER, ChatMemberStatus.ADMINISTRATOR, ChatMemberStatus.OWNER)


@dataclass(frozen=True, slots=True)
class Pressed:
    """A button was pressed: `message` says what that asks for, None where it is not the presser's to press."""

    query_id: str
    message: IncomingMessage | None
    language: str | None = None
    """The presser's."""


Parsed = IncomingMessage | PlatformEvent | Pressed


@dataclass(frozen=True, slots=True)
class Me:
    """The bot, as its messages name it."""

    id: int
    username: str
    seal: ButtonSeal


def parse(update: dict[str, Any], me: Me) -> Parsed | str:
    """What an update is to core, or a fixed word for why it is nothing."""
    try:
        return _of(Update.de_json(update), me) or _unknown(update)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, OSError):
        # Nothing of it may be shown, and no other update may wait behind it.
        return UNREADABLE


def _of(update: Update, me: Me) -> Parsed | str | None:
    event_id = f"{me.id}:{update.update_id}"
    if update.message is not None:
        return _of_message(update.message, event_id, me)
    if update.edited_message is not None:
        edited = _said(update.edited_message, event_id, me)
        return Edited(edited) if isinstance(edited, IncomingMessage) else edited
    if update.callback_query is not None:
        return _of_press(update.callback_query, event_id, me)
    if update.message_reaction is not None:
        return _of_reaction(update.message_reaction)
    if update.my_chat_member is not None:
        return _of_membership(update.my_chat_member, event_id)
    return None


def _unknown(update: dict[str, Any]) -> str:
    """The kind of an update that we do nothing with, by Telegram's own name for it."""
    kind = next((name for name in update if name != "update_id"), "")
    return f"update_{kind}" if _KIND.fullmatch(kind) else UNREADABLE


def _of_message(message: Message, event_id: str, me: Me) -> Parsed | str:
    if message.migrate_to_chat_id is not None:
        return Moved(Platform.TELEGRAM, str(message.chat.id), str(message.migrate_to_chat_id))
    if message.migrate_from_chat_id is not None:
        return Moved(Platform.TELEGRAM, str(message.migrate_from_chat_id), str(message.chat.id))
    return _said(message, event_id, me)


def _said(message: Message, event_id: str, me: Me) -> IncomingMessage | str:
    if message.from_user is None or message.chat.type == ChatType.CHANNEL:
        return f"chat_{message.chat.type}"
    if message.from_user.is_bot and message.sender_chat is None:
        return "of_a_bot"
    if message.is_automatic_forward:  # a channel's post in the group that discusses it
        return "automatic_forward"
    try:
        said = clean(message.text or message.caption or "")
    except NotText:
        return "not_unicode"
    attachments = attachments_of(message)
    if not said and not attachments:
        return "blank" if message.text or message.caption else "nothing_said"
    kind = _kind(message.chat.type)
    if (text := _for_us(said, me)) is None:
        return "command_for_another_bot"
    command = command_of(text) if not attachments and message.forward_origin is None else None
    quote = quote_of(message, me.id)
    return IncomingMessage(
        platform=Platform.TELEGRAM,
        event_id=event_id,
        chat_id=place_of(message),
        sender_id=str(message.from_user.id),
        text=text,
        sent_at=message.date,
        kind=kind,
        alone=command is not None,
        language=message.from_user.language_code,
        message_id=str(message.message_id),
        attachments=attachments,
        quote=replace(quote, text=clean(quote.text)) if quote else None,
        forwarded_from=_name(forwarded_from(message)),
        speaker=_speaker(message) if kind is ConversationKind.GROUP else "",
        addressed=kind is ConversationKind.PRIVATE or command is not None or _addressed(message, me),
        bundle=f"{message.chat.id}:{message.media_group_id}" if message.media_group_id else None,
        command=command,
    )


def _kind(chat_type: str) -> ConversationKind:
    return ConversationKind.PRIVATE if chat_type == ChatType.PRIVATE else ConversationKind.GROUP


def _for_us(said: str, me: Me) -> str | None:
    """The text without the bot's name in a command (`/help@xinyu_bot`); None if it commands another bot."""
    if not said.startswith("/"):
        return said
    first, blank, rest = said.partition(" ")
    command, at, name = first.partition("@")
    if not at or "\n" in first:
        return said
    return f"{command}{blank}{rest}" if name.lower() == me.username.lower() else None


def _addressed(message: Message, me: Me) -> bool:
    """Whether something in a group is meant for the bot: mentioned, answered, or commanded."""
    earlier = message.reply_to_message
    if (
        earlier is not None
        and earlier.from_user is not None
        and earlier.from_user.id == me.id
        and earlier.forum_topic_created is None
    ):
        return True
    entities = {**message.parse_entities(), **message.parse_caption_entities()}
    return any(_names(entity, text, me) for entity, text in entities.items())


def _names(entity: MessageEntity, text: str, me: Me) -> bool:
    if entity.type == MessageEntity.MENTION:
        return text.lower() == f"@{me.username}".lower()
    if entity.type == MessageEntity.TEXT_MENTION:
        return entity.user is not None and entity.user.id == me.id
    return entity.type == MessageEntity.BOT_COMMAND and text.lower().endswith(f"@{me.username}".lower())


def _speaker(message: Message) -> str:
    """The name that the others see: also a group's or a channel's, for which an administrator may speak."""
    if message.sender_chat is not None:
        return _name(message.sender_chat.title) or ""
    return _name(message.from_user.full_name) or "" if message.from_user else ""


def _name(name: str | None) -> str | None:
    """A name on one line and not too long: it goes in front of what somebody says."""
    if name is None:
        return None
    try:
        return " ".join(clean(name).split())[:NAME_CHARACTERS]
    except NotText:
        return ""


def _of_press(query: CallbackQuery, event_id: str, me: Me) -> Pressed:
    message = query.message
    if not isinstance(message, Message) or query.data is None:  # too old for Telegram to tell what it was
        return Pressed(query.id, None, query.from_user.language_code)
    place, presser = place_of(message), str(query.from_user.id)
    command = me.seal.open(query.data, presser, place)
    asked = pressed(command, str(message.message_id)) if command is not None else None
    if asked is None:
        return Pressed(query.id, None, query.from_user.language_code)
    return Pressed(
        query.id,
        _asking(asked, query.from_user, event_id, place, _kind(message.chat.type), datetime.now(UTC)),
    )


def _asking(
    command: Command,
    user: User,
    event_id: str,
    place: str,
    kind: ConversationKind,
    at: datetime,
) -> IncomingMessage:
    """A command that nobody typed, as a message."""
    return IncomingMessage(
        platform=Platform.TELEGRAM,
        event_id=event_id,
        chat_id=place,
        sender_id=str(user.id),
        text="",
        sent_at=at,
        kind=kind,
        alone=True,
        language=user.language_code,
        command=command,
    )


def _of_reaction(reaction: MessageReactionUpdated) -> Reacted | str:
    if reaction.user is None:  # a channel's, or an anonymous administrator's
        return "anonymous_reaction"
    return Reacted(
        platform=Platform.TELEGRAM,
        chat_id=str(reaction.chat.id),
        sender_id=str(reaction.user.id),
        message_id=str(reaction.message_id),
        emojis=tuple(
            sign.emoji if isinstance(sign, ReactionTypeEmoji) else "⭐" for sign in reaction.new_reaction
        ),
    )


def _of_membership(change: ChatMemberUpdated, event_id: str) -> Parsed | str:
    was, is_ = (
        member.status in _THERE or getattr(member, "is_member", False)
        for member in (change.old_chat_member, change.new_chat_member)
    )
    if change.chat.type == ChatType.CHANNEL:
        return "chat_channel"
    if is_ and not was and change.chat.type != ChatType.PRIVATE:
        return _asking(
            Command(JOINED),
            change.from_user,
            event_id,
            str(change.chat.id),
            ConversationKind.GROUP,
            change.date,
        )
    return ReachChanged(Platform.TELEGRAM, str(change.chat.id), is_)
