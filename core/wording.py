"""A message in words, for the model and the history: what was sent, what it answers, whose words they are."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import groupby
from pathlib import Path

from core.language import Language, language_of
from core.messages import Attachment, AttachmentKind, ConversationKind, IncomingMessage, Quote
from core.ports import Pending

LOCALES = Path(__file__).parent / "locales"
QUOTED_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class Saying:
    """One thing that a person said, perhaps in several messages (an album)."""

    first: Pending
    text: str
    kept: str
    """What of it stays in the history."""


def sayings(messages: Sequence[Pending]) -> list[Saying]:
    """What was said, in order: messages of one bundle are one saying."""
    bundles: dict[str, list[Pending]] = {}
    for pending in messages:
        bundles.setdefault(pending.message.bundle or str(pending.inbox_id), []).append(pending)
    said = []
    for together in bundles.values():
        message = _joined([pending.message for pending in together])
        said.append(Saying(together[0], in_words(message), kept_in_words(message)))
    return said


def in_words(message: IncomingMessage) -> str:
    """The message as one text."""
    words = _words(language_of(message.text, message.language))
    parts = (
        _forwarded(message.forwarded_from, words),
        _answered(message.quote, words),
        *_sent(message.attachments, words),
        message.text,
    )
    text = "\n".join(part for part in parts if part)
    if message.kind is ConversationKind.GROUP and message.speaker:
        # Nobody is to look like another by writing a line that begins with a name.
        return words["speaker"].format(name=message.speaker, text=text.replace("\n", "\n  "))
    return text


def kept_in_words(message: IncomingMessage) -> str:
    """The message as it stays in the history: what others said is theirs, to keep or to have erased."""
    if message.quote is not None and message.quote.speaker:
        message = replace(message, quote=None)
    return in_words(message)


def edited_in_words(before: str, message: IncomingMessage) -> str:
    """That somebody changed what they had said, `before`, after it was answered."""
    words = _words(language_of(message.text, message.language))
    shown = " ".join(_shortened(before).split())  # on one line: what follows the first is what they say now
    return words["edited"].format(before=shown, text=kept_in_words(message))


def said_at_last(edited: str) -> str:
    """The words that an `edited_in_words` ends in."""
    return edited.partition("\n")[2]


def _joined(messages: Sequence[IncomingMessage]) -> IncomingMessage:
    """The messages of one bundle as one."""
    return replace(
        messages[0],
        text="\n".join(message.text for message in messages if message.text),
        attachments=tuple(attachment for message in messages for attachment in message.attachments),
    )


@cache
def _words(language: Language) -> Mapping[str, str]:
    table = tomllib.loads((LOCALES / f"{language}.toml").read_text(encoding="utf-8"))
    content: dict[str, str] = table["content"]
    return content


def _sent(attachments: Sequence[Attachment], words: Mapping[str, str]) -> list[str]:
    """Each attachment; several photos (videos) in a row as so many."""
    told = []
    for kind, grouped in groupby(attachments, key=lambda attachment: attachment.kind):
        together = list(grouped)
        if len(together) > 1 and f"{kind}s" in words:
            told.append(words[f"{kind}s"].format(count=len(together)))
        else:
            told += [_one(attachment, words) for attachment in together]
    return told


def _one(attachment: Attachment, words: Mapping[str, str]) -> str:
    if attachment.kind is AttachmentKind.STICKER and attachment.emoji:
        return attachment.emoji  # what a sticker means
    if attachment.kind is AttachmentKind.VOICE and not attachment.seconds:
        return words["voice_unmeasured"]
    return words[attachment.kind].format(
        name=attachment.name or words["unnamed"],
        seconds=attachment.seconds,
        emoji=attachment.emoji,
        value=attachment.value,
    )


def _forwarded(name: str | None, words: Mapping[str, str]) -> str | None:
    if name is None:
        return None
    return words["forwarded_from"].format(name=name) if name else words["forwarded"]


def _answered(quote: Quote | None, words: Mapping[str, str]) -> str | None:
    if quote is None:
        return None
    text = _shortened(quote.text)
    if quote.of_bot:
        return words["quote_of_you"].format(text=text)
    if quote.speaker:
        return words["quote_of_other"].format(name=quote.speaker, text=text)
    return words["quote_of_self"].format(text=text)


def _shortened(text: str) -> str:
    return text if len(text) <= QUOTED_CHARACTERS else text[:QUOTED_CHARACTERS] + "…"
