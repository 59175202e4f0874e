"""What a Telegram message holds beside its text: attachments, the words it answers, whom it forwards."""

from __future__ import annotations

from datetime import timedelta

from telegram import (
    Message,
    MessageOrigin,
    MessageOriginChannel,
    MessageOriginChat,
    MessageOriginHiddenUser,
    MessageOriginUser,
)

from core.messages import Attachment, AttachmentKind, Quote
from core.text import NotText, clean

NAME_CHARACTERS = 80
SOMEBODY = "?"
"""Whose name is not told."""


def attachments_of(message: Message) -> tuple[Attachment, ...]:
    """What was sent beside the text. Telegram sets `document` beside `animation` and `location` beside `venue`."""
    found = _seen_or_heard(message) or _other(message)
    return (found,) if found is not None else ()


def _seen_or_heard(message: Message) -> Attachment | None:
    if message.photo:
        return Attachment(AttachmentKind.PHOTO, file_id=message.photo[-1].file_id)
    if message.animation:
        return Attachment(AttachmentKind.ANIMATION, file_id=message.animation.file_id)
    if message.video:
        return Attachment(AttachmentKind.VIDEO, file_id=message.video.file_id)
    if message.voice:
        voice = message.voice
        return Attachment(AttachmentKind.VOICE, seconds=_seconds(voice.duration), file_id=voice.file_id)
    if message.audio:
        audio = message.audio
        return Attachment(
            AttachmentKind.AUDIO, name=name_of(audio.title or audio.file_name), file_id=audio.file_id
        )
    if message.video_note:
        note = message.video_note
        return Attachment(AttachmentKind.VIDEO_NOTE, seconds=_seconds(note.duration), file_id=note.file_id)
    if message.sticker:
        sticker = message.sticker
        return Attachment(AttachmentKind.STICKER, emoji=name_of(sticker.emoji), file_id=sticker.file_id)
    return None


def _other(message: Message) -> Attachment | None:
    if message.document:
        document = message.document
        return Attachment(AttachmentKind.DOCUMENT, name=name_of(document.file_name), file_id=document.file_id)
    if message.venue:
        return Attachment(AttachmentKind.VENUE, name=name_of(message.venue.title))
    if message.location:
        return Attachment(AttachmentKind.LOCATION)
    if message.contact:
        return Attachment(AttachmentKind.CONTACT, name=name_of(message.contact.first_name))
    if message.poll:
        return Attachment(AttachmentKind.POLL, name=name_of(message.poll.question))
    if message.dice:
        return Attachment(AttachmentKind.DICE, emoji=name_of(message.dice.emoji), value=message.dice.value)
    return None


def forwarded_from(message: Message) -> str | None:
    """Whose words it forwards; empty where that is not told, None if it forwards nothing."""
    return None if message.forward_origin is None else _name_of_origin(message.forward_origin)


def _name_of_origin(origin: MessageOrigin | None) -> str:
    match origin:
        case MessageOriginUser(sender_user=user):
            return name_of(user.first_name)
        case MessageOriginHiddenUser(sender_user_name=name):
            return name_of(name)
        case MessageOriginChat(sender_chat=chat) | MessageOriginChannel(chat=chat):
            return name_of(chat.title)
    return ""


def quote_of(message: Message, bot_id: int) -> Quote | None:
    """The words that this is an answer to: the part that was picked out, else all of them."""
    earlier = message.reply_to_message
    if earlier is not None and earlier.forum_topic_created is not None:
        return None  # in a topic everything answers its first message
    text = message.quote.text if message.quote else None
    if text is None and earlier is not None:
        text = earlier.text or earlier.caption
    if not text:
        return None
    if earlier is None:  # of another chat
        return Quote(text, of_bot=False, speaker=_origin_name(message))
    writer = earlier.from_user
    of_bot = writer is not None and writer.id == bot_id
    if earlier.sender_chat is not None:
        return Quote(text, of_bot=False, speaker=name_of(earlier.sender_chat.title))
    of_self = writer is not None and message.from_user is not None and writer.id == message.from_user.id
    return Quote(text, of_bot, speaker="" if of_self or writer is None else name_of(writer.first_name))


def _origin_name(message: Message) -> str:
    origin = message.external_reply.origin if message.external_reply else None
    return _name_of_origin(origin) or SOMEBODY


def name_of(name: str | None) -> str:
    """A name on one line, not too long and nothing but text: it stands in the middle of sentences."""
    try:
        return " ".join(clean(name or "").split())[:NAME_CHARACTERS]
    except NotText:
        return ""


def _seconds(duration: int | timedelta) -> int:
    """The library gives seconds or a timedelta, by its configuration."""
    return int(duration.total_seconds()) if isinstance(duration, timedelta) else duration
