"""What a person typed, as a message."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime

from core.messages import IncomingMessage, Platform
from core.text import NotText, clean

MESSAGE_LIMIT = 8000
"""Characters of one message, as on the web page."""
NAME_LIMIT = 64


class TooLong(ValueError):
    """More than MESSAGE_LIMIT characters; `args[0]` is how many."""


@dataclass(frozen=True, slots=True)
class Person:
    """Who sits at this terminal: each name has its own conversation."""

    name: str
    language: str | None
    """BCP 47 tag of the locale."""


def person_name(given: str) -> str | None:
    """The name as it is kept; None if it is none."""
    try:
        name = clean(given)
    except NotText:
        return None
    return name if 0 < len(name) <= NAME_LIMIT and "\n" not in name else None


def message_of(person: Person, typed: str, now: datetime) -> IncomingMessage | None:
    """What was typed, to be answered on its own and at once: there is no burst behind an Enter.

    None if nothing is left of it. Raises NotText, TooLong.
    """
    text = clean(typed)
    if len(text) > MESSAGE_LIMIT:
        raise TooLong(len(text))
    if not text:
        return None
    return IncomingMessage(
        platform=Platform.TERMINAL,
        event_id=uuid.uuid4().hex,
        chat_id=person.name,
        sender_id=person.name,
        text=text,
        sent_at=now,
        alone=True,
        language=person.language,
    )
