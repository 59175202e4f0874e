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
from telegram.constants import ChatID, ChatMemberStatus, ChatType

from adapters.telegram.buttons import ButtonSeal
from adapters.telegram.content import attachments_of, forwarded_from, name_of, quote_of
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
ANONYMOUS = str(int(ChatID.ANONYMOUS_ADMIN))
_COMMAND_TO = re.compile(r"(/[A-Za-z0-9_]{1,32})@([A-Za-z0-9_]{4,32})(?![A-Za-z0-9_])")
_BARE = frozenset(
    [
        *("message_id", "message_thread_id", "is_topic_message", "media_group_id", "date", "edit_date"),
        *("from", "sender_chat", "chat", "text", "caption"),
    ]
)
"""The parts of a message without which it is none."""
_LANGUAGE = re.compile(r"[A-Za-z0-9-]{2,35}")
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
    for readable in (update, _without_details(update)):
        try:
            return _of(Update.de_json(readable), me) or _unknown(update)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, OSError):
            continue  # nothing of it may be shown, and no other update may wait behind it
    return UNREADABLE


def _without_details(update: dict[str, Any]) -> dict[str, Any]:
    """The words alone: a detail of a shape that nobody knows must not cost somebody their message."""
    return {
        name: {key: part for key, part in value.items() if key in _BARE} if isinstance(value, dict) else value
        for name, value in update.items()
    }


def _of(update: Update, me: Me) -> Parsed | str | None:
    event_id = f"{me.id}:{update.update_id}"
    if update.message is not None:
        return _of_message(update.message, event_id, me)
    if update.edited_message is not None:
        edited = _said(update.edited_message, event_id, me)
        if isinstance(edited, str):
            return edited
        return Edited(replace(edited, sent_at=update.edited_message.edit_date or edited.sent_at))
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


def _what(message: Message) -> str:
    """The name of what a message holds that we have no words for, such as `_story`."""
    names = (name for name, value in message.to_dict().items() if value and name not in _BARE)
    return next((f"_{name}" for name in sorted(names) if _KIND.fullmatch(name)), "")


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
        return "blank" if message.text or message.caption else f"nothing_said{_what(message)}"
    kind = _kind(message.chat.type)
    text = _for_us(said, me) if kind is ConversationKind.GROUP else _without_our_name(said, me)
    if text is None:
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
        language=_language(message.from_user),
        message_id=str(message.message_id),
        attachments=attachments,
        quote=replace(quote, text=clean(quote.text)) if quote else None,
        forwarded_from=forwarded_from(message),
        speaker=_speaker(message) if kind is ConversationKind.GROUP else "",
        addressed=kind is ConversationKind.PRIVATE or command is not None or _addressed(message, me),
        bundle=f"{message.chat.id}:{message.media_group_id}" if message.media_group_id else None,
        command=command,
    )


def _kind(chat_type: str) -> ConversationKind:
    return ConversationKind.PRIVATE if chat_type == ChatType.PRIVATE else ConversationKind.GROUP


def _for_us(said: str, me: Me) -> str | None:
    """What is said in a group, without the bot's name in a command; None if it commands another bot."""
    found = _COMMAND_TO.match(said)
    if found is not None and found[2].lower() != me.username.lower():
        return None
    return _without_our_name(said, me)


def _without_our_name(said: str, me: Me) -> str:
    """`/help` for `/help@xinyu_bot`."""
    found = _COMMAND_TO.match(said)
    if found is None or found[2].lower() != me.username.lower():
        return said
    return said[: found.end(1)] + said[found.end() :]


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
        return name_of(message.sender_chat.title)
    return name_of(message.from_user.full_name if message.from_user else None)


def _of_press(query: CallbackQuery, event_id: str, me: Me) -> Pressed:
    message = query.message
    if not isinstance(message, Message) or query.data is None:  # of a game, or below an inline message
        return Pressed(query.id, None, query.from_user.language_code)
    place, presser = place_of(message), str(query.from_user.id)
    # Who commands as an anonymous administrator presses as themselves: whether they may is asked when it is done.
    command = me.seal.open(query.data, presser, place) or me.seal.open(query.data, ANONYMOUS, place)
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
        language=_language(user),
        command=command,
    )


def _language(user: User) -> str | None:
    code = user.language_code
    return code if code is not None and _LANGUAGE.fullmatch(code) else None


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
