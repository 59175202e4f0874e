"""A person's own data: take them along, or have them destroyed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import timedelta

from core.commands.asked import Asked, Done
from core.commands.words import WORDED
from core.messages import Button, Media, MediaKind, Role, Segment, Source
from core.ports import Pending, PersonRecord
from core.wording import in_words

FAREWELL_WITHIN = timedelta(minutes=15)
"""How long the last words may be on their way before they, too, are destroyed."""
FILE_BYTES = 4 * 1024 * 1024
"""Of one export file, about: as much as fits a delivery's row and any phone."""


async def export(asked: Asked) -> Done:
    user_id = asked.by.user_id
    record, waiting = await asked.store.read(
        lambda tx: (tx.people.export(user_id), tx.inbox.waiting_of(user_id))
    )
    record = replace(record, messages=(*record.messages, *map(_as_record, waiting)))
    day = asked.now.date().isoformat()
    files = await asyncio.to_thread(export_files, record, f"xinyu-{day}")
    media = [Segment("", media=Media(MediaKind.DOCUMENT, name, data)) for name, data in files]
    return Done((Segment(asked.say("export.text", count=len(record.messages))), *media))


def export_files(record: PersonRecord, name: str) -> list[tuple[str, bytes]]:
    """The record as JSON files of at most about FILE_BYTES: all but the messages in the first."""
    head = {
        "accounts": record.accounts,
        "settings": asdict(record.settings),
        "chats": record.chats,
        "since": record.since.isoformat(),
        "feedback": record.feedback,
        "usage": record.usage,
    }
    parts = _parts(record.messages)
    count = len(parts)
    files = []
    for number, messages in enumerate(parts, 1):
        content = {**(head if number == 1 else {}), "part": number, "parts": count, "messages": messages}
        text = json.dumps(content, ensure_ascii=False, indent=1, default=str)
        files.append((f"{name}.json" if count == 1 else f"{name}-{number}.json", text.encode()))
    return files


def _as_record(waiting: Pending) -> dict[str, str]:
    return {
        "at": waiting.received_at.isoformat(),
        "who": Role.USER.value,
        "source": Source.PERSON.value,
        "text": in_words(waiting.message),
    }


def _parts(messages: Sequence[dict[str, str]]) -> list[list[dict[str, str]]]:
    parts: list[list[dict[str, str]]] = [[]]
    size = 0
    for message in messages:
        length = len(message["text"].encode()) + 128
        if parts[-1] and size + length > FILE_BYTES:
            parts.append([])
            size = 0
        parts[-1].append(message)
        size += length
    return parts


async def delete_me(asked: Asked) -> Done:
    """Asks first; what the person then presses, or says in a button's words, says `yes` or `no`."""
    pressed_on, answer = asked.command.message_id, asked.command.argument
    if pressed_on is None and not _answered_in_words(asked):
        return ask_first(asked)
    if answer != "yes":
        return Done((Segment(asked.say("delete_me.kept"), replaces=pressed_on),))
    return erasing(asked, (Segment(asked.say("delete_me.gone"), replaces=pressed_on),))


def _answered_in_words(asked: Asked) -> bool:
    """Where there are no buttons, their words answer the question.

    A yes only if the question was the last thing said: a button's words may also be said of something else,
    and what is erased is gone.
    """
    if asked.conversation.platform not in WORDED:
        return False
    if asked.command.argument != "yes":
        return asked.command.argument == "no"
    questions = {phrases.commands["delete_me"]["ask"].strip() for phrases in asked.every_phrases.values()}
    last = asked.conversation.window[-1:]
    return any(said.role is Role.ASSISTANT and said.text in questions for said in last)


def ask_first(asked: Asked) -> Done:
    """Nothing is erased by one press."""
    yes = Button(asked.say("delete_me.yes"), "delete_me yes")
    no = Button(asked.say("delete_me.no"), "delete_me no")
    return Done((Segment(asked.say("delete_me.ask"), buttons=((yes,), (no,))),))


def erasing(asked: Asked, farewell: tuple[Segment, ...]) -> Done:
    """Destroy everything of the person in the turn's own commit; only the farewell is left, until it is out."""
    by, here, erase_at = asked.by, asked.conversation.id, asked.now + FAREWELL_WITHIN
    return Done(farewell, lambda tx: tx.people.erase(by, erase_at, here), written=False)
