"""What people say and what the bot answers, free of any platform.

Adapters make an `IncomingMessage` of whatever their platform sends, once, at the edge; nothing
behind them looks at a platform's own types again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Platform(StrEnum):
    TELEGRAM = "telegram"
    DISCORD = "discord"
    WECHAT = "wechat"
    WEB = "web"
    TERMINAL = "terminal"


EVERY_PLATFORM = tuple(Platform)
FETCHED = frozenset({Platform.WEB, Platform.TERMINAL})
"""Where clients fetch their answers: nothing is pushed, so every worker can answer there."""


class ConversationKind(StrEnum):
    PRIVATE = "private"
    GROUP = "group"


@dataclass(frozen=True, slots=True)
class IncomingMessage:
    """One event that a platform handed over, normalised.

    `event_id` is unique on its platform for ever: the same event handed over again (a webhook's
    retry, a client's Idempotency-Key) has the same one and is answered once.
    `alone` keeps the message out of any burst: it is a turn of its own, begun at once.
    """

    platform: Platform
    event_id: str
    chat_id: str
    sender_id: str
    text: str
    sent_at: datetime
    kind: ConversationKind = ConversationKind.PRIVATE
    alone: bool = False
    language: str | None = None
    """BCP 47 tag that the platform reports for the sender, if it does."""


class Role(StrEnum):
    USER = "user"
    ASSISTANT = "assistant"


class Source(StrEnum):
    """Who wrote a message of the history."""

    PERSON = "person"
    MODEL = "model"
    LISTENER = "listener"
    """The offline listener: shown to the person, never put into a prompt."""
    PROTOCOL = "protocol"
    """The safety protocol's words to a person in danger."""


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message of a conversation's history."""

    id: int
    turn_id: int
    role: Role
    text: str
    source: Source
    created_at: datetime


class MarkKind(StrEnum):
    BOLD = "bold"
    ITALIC = "italic"
    STRIKETHROUGH = "strikethrough"
    CODE = "code"
    PRE = "pre"
    """A block of code; the mark's value is its language, if that is known."""
    QUOTE = "quote"
    LINK = "link"
    """The mark's value is the address."""


@dataclass(frozen=True, slots=True)
class Mark:
    """How a part of a text is set off: from character `start` to before `end`."""

    kind: MarkKind
    start: int
    end: int
    value: str = ""


@dataclass(frozen=True, slots=True)
class Segment:
    """One piece of a reply: today text; pictures, voice and buttons come with their channels."""

    text: str
    marks: tuple[Mark, ...] = ()


class DeliveryState(StrEnum):
    PENDING = "pending"
    SENT = "sent"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One reply segment on its way out to one conversation."""

    id: int
    conversation_id: int
    platform: Platform
    chat_id: str
    kind: ConversationKind
    segment: Segment
    attempts: int = 0
