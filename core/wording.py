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


def sayings(messages: Sequence[Pending]) -> list[Saying]:
    """What was said, in order: messages of one bundle are one saying."""
    said = []
    for bundle, grouped in groupby(messages, key=lambda pending: pending.message.bundle):
        together = list(grouped)
        if bundle is None:
            said += [Saying(pending, in_words(pending.message)) for pending in together]
        else:
            said.append(Saying(together[0], in_words(_joined([pending.message for pending in together]))))
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
        return words["speaker"].format(name=message.speaker, text=text)
    return text


def edited_in_words(before: str, message: IncomingMessage) -> str:
    """That somebody changed what they had said, `before`, after it was answered."""
    words = _words(language_of(message.text, message.language))
    return words["edited"].format(before=_shortened(before), text=in_words(message))


def says_the_same(known: str, message: IncomingMessage) -> bool:
    """Whether a known text, be it an earlier `edited_in_words`, ends in what the message says."""
    text = in_words(message)
    return known == text or known.endswith(f"\n{text}")


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
