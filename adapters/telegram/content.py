"""What a Telegram message holds beside its text: attachments, the words it answers, whom it forwards."""

from __future__ import annotations

from datetime import timedelta

from telegram import (
    Message,
    MessageOriginChannel,
    MessageOriginChat,
    MessageOriginHiddenUser,
    MessageOriginUser,
)

from core.messages import Attachment, AttachmentKind, Quote

NAME_CHARACTERS = 80


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
            AttachmentKind.AUDIO, name=_name(audio.title or audio.file_name), file_id=audio.file_id
        )
    if message.video_note:
        note = message.video_note
        return Attachment(AttachmentKind.VIDEO_NOTE, seconds=_seconds(note.duration), file_id=note.file_id)
    if message.sticker:
        sticker = message.sticker
        return Attachment(AttachmentKind.STICKER, emoji=sticker.emoji or "", file_id=sticker.file_id)
    return None


def _other(message: Message) -> Attachment | None:
    if message.document:
        document = message.document
        return Attachment(AttachmentKind.DOCUMENT, name=_name(document.file_name), file_id=document.file_id)
    if message.venue:
        return Attachment(AttachmentKind.VENUE, name=_name(message.venue.title))
    if message.location:
        return Attachment(AttachmentKind.LOCATION)
    if message.contact:
        return Attachment(AttachmentKind.CONTACT, name=_name(message.contact.first_name))
    if message.poll:
        return Attachment(AttachmentKind.POLL, name=_name(message.poll.question))
    if message.dice:
        return Attachment(AttachmentKind.DICE, emoji=message.dice.emoji, value=message.dice.value)
    return None


def forwarded_from(message: Message) -> str | None:
    """Whose words it forwards; empty where that is not told, None if it forwards nothing."""
    match message.forward_origin:
        case None:
            return None
        case MessageOriginUser(sender_user=user):
            return _name(user.first_name)
        case MessageOriginHiddenUser(sender_user_name=name):
            return _name(name)
        case MessageOriginChat(sender_chat=chat) | MessageOriginChannel(chat=chat):
            return _name(chat.title)
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
    writer = earlier.from_user if earlier is not None else None
    if writer is None:
        return Quote(text, of_bot=False)
    of_self = message.from_user is not None and writer.id == message.from_user.id
    return Quote(text, of_bot=writer.id == bot_id, speaker="" if of_self else _name(writer.first_name))


def _name(name: str | None) -> str:
    return (name or "")[:NAME_CHARACTERS]


def _seconds(duration: int | timedelta) -> int:
    """The library gives seconds or a timedelta, by its configuration."""
    return int(duration.total_seconds()) if isinstance(duration, timedelta) else duration
