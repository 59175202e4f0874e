"""What a Telegram message says, in words: its text or caption, what was sent with it, what it answers or forwards."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from datetime import timedelta
from functools import cache
from pathlib import Path

from telegram import (
    Message,
    MessageOriginChannel,
    MessageOriginChat,
    MessageOriginHiddenUser,
    MessageOriginUser,
)

from core.language import Language, language_of

LOCALES = Path(__file__).parent / "locales"
QUOTED_CHARACTERS = 300
NAME_CHARACTERS = 80


def text_of(message: Message, bot_id: int) -> str | None:
    """The message in words; None for what nobody said (somebody joined, a title changed) or we do not know."""
    said = message.text or message.caption
    hint = message.from_user.language_code if message.from_user else None
    words = _words(language_of(said or "", hint))
    sent = _sent(message, words)
    if not said and not sent:
        return None
    parts = (_forwarded(message, words), _answered(message, words, bot_id), sent, said)
    return "\n".join(part for part in parts if part)


@cache
def _words(language: Language) -> Mapping[str, str]:
    table = tomllib.loads((LOCALES / f"{language}.toml").read_text(encoding="utf-8"))
    content: dict[str, str] = table["content"]
    return content


def _sent(message: Message, words: Mapping[str, str]) -> str | None:
    """What was sent beside the text. Telegram sets `document` beside `animation` and `location` beside `venue`."""
    if message.photo:
        return words["photo"]
    if message.animation:
        return words["animation"]
    if message.video:
        return words["video"]
    if message.voice:
        return words["voice"].format(seconds=_seconds(message.voice.duration))
    if message.audio:
        return words["audio"].format(name=_name(message.audio.title or message.audio.file_name, words))
    if message.video_note:
        return words["video_note"].format(seconds=_seconds(message.video_note.duration))
    if message.sticker:
        return message.sticker.emoji or words["sticker"]
    return _sent_more(message, words)


def _sent_more(message: Message, words: Mapping[str, str]) -> str | None:
    if message.document:
        return words["document"].format(name=_name(message.document.file_name, words))
    if message.venue:
        return words["venue"].format(name=_name(message.venue.title, words))
    if message.location:
        return words["location"]
    if message.contact:
        return words["contact"].format(name=_name(message.contact.first_name, words))
    if message.poll:
        return words["poll"].format(name=_name(message.poll.question, words))
    if message.dice:
        return words["dice"].format(emoji=message.dice.emoji, value=message.dice.value)
    return None


def _forwarded(message: Message, words: Mapping[str, str]) -> str | None:
    match message.forward_origin:
        case None:
            return None
        case MessageOriginUser(sender_user=user):
            name = user.first_name
        case MessageOriginHiddenUser(sender_user_name=name):
            pass
        case MessageOriginChat(sender_chat=chat) | MessageOriginChannel(chat=chat):
            name = chat.title or ""
        case _:
            name = ""
    return words["forwarded_from"].format(name=name[:NAME_CHARACTERS]) if name else words["forwarded"]


def _answered(message: Message, words: Mapping[str, str], bot_id: int) -> str | None:
    """The words that this is an answer to: the part that was picked out, else the beginning of all of them."""
    earlier = message.reply_to_message
    quoted = message.quote.text if message.quote else None
    if quoted is None and earlier is not None:
        quoted = earlier.text or earlier.caption
    if not quoted:
        return None
    of_ours = earlier is not None and earlier.from_user is not None and earlier.from_user.id == bot_id
    shown = quoted if len(quoted) <= QUOTED_CHARACTERS else quoted[:QUOTED_CHARACTERS] + "…"
    return words["quote_of_you" if of_ours else "quote_of_self"].format(text=shown)


def _name(name: str | None, words: Mapping[str, str]) -> str:
    return name[:NAME_CHARACTERS] if name else words["unnamed"]


def _seconds(duration: int | timedelta) -> int:
    """The library gives seconds or a timedelta, by its configuration."""
    return int(duration.total_seconds()) if isinstance(duration, timedelta) else duration
