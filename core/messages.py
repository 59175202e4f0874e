"""What people say and what the bot answers, free of any platform.

Adapters make an `IncomingMessage` of whatever their platform sends, once, at the edge; nothing
behind them looks at a platform's own types again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
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


class AttachmentKind(StrEnum):
    PHOTO = "photo"
    VIDEO = "video"
    ANIMATION = "animation"
    VOICE = "voice"
    AUDIO = "audio"
    VIDEO_NOTE = "video_note"
    STICKER = "sticker"
    DOCUMENT = "document"
    LOCATION = "location"
    VENUE = "venue"
    CONTACT = "contact"
    POLL = "poll"
    DICE = "dice"
    LINK = "link"


@dataclass(frozen=True, slots=True)
class Attachment:
    """Something that was sent beside a text, or without one. What a kind does not have is empty."""

    kind: AttachmentKind
    name: str = ""
    """A file's, a place's, a contact's name; a poll's question; what a link leads to."""
    seconds: int = 0
    emoji: str = ""
    """A sticker's or a dice's."""
    value: int = 0
    """What a dice shows."""
    file_id: str = ""
    """The platform's own name for the file."""


@dataclass(frozen=True, slots=True)
class Quote:
    """The earlier words that a message answers."""

    text: str
    of_bot: bool
    speaker: str = ""
    """Who said them, in a group."""


@dataclass(frozen=True, slots=True)
class Command:
    """What a person asked for in so many words, or by pressing a button: core/commands answers it."""

    name: str
    argument: str = ""
    message_id: str | None = None
    """The message whose button was pressed."""


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
    message_id: str | None = None
    """The platform's id of the message within its chat."""
    attachments: tuple[Attachment, ...] = ()
    quote: Quote | None = None
    forwarded_from: str | None = None
    """Whose words these are, if not the sender's; empty where that is not told."""
    speaker: str = ""
    """The sender's name, in a group."""
    addressed: bool = True
    """Whether it is meant for the bot. In a group, what is not is stored only where the bot answers everything."""
    bundle: str | None = None
    """Messages with the same one were sent as one (an album)."""
    command: Command | None = None
    response: str | None = None
    """The platform's handle for the answer to this very message, where that has a way of its own (a Discord
    interaction)."""
    manages: bool | None = None
    """Whether the sender is an administrator there; None: the platform did not say so beside the message."""


@dataclass(frozen=True, slots=True)
class Edited:
    """A message was changed after it was sent: `message` is all of it anew, under the edit's own event id."""

    message: IncomingMessage
    late: bool = False
    """It was written too long ago to be taken for something new, if nothing of it is known."""


@dataclass(frozen=True, slots=True)
class Reacted:
    """A person's reactions on a message of the bot's, all that stand now; none: they were taken back."""

    platform: Platform
    chat_id: str
    sender_id: str
    message_id: str
    emojis: tuple[str, ...]
    taken_back: str = ""
    """The one that stands no more, where that is all the platform tells: `emojis` is empty then, whatever stands."""


@dataclass(frozen=True, slots=True)
class Deleted:
    """Messages were deleted, by whomever: what waits is not answered, what was said is said no more."""

    platform: Platform
    chat_id: str
    message_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Left:
    """The bot is no member of a group any more: what was set for it, and for all places in it, goes."""

    platform: Platform
    chat_id: str


@dataclass(frozen=True, slots=True)
class ReachChanged:
    """A chat can be written to from now on, or no more: the bot was blocked, unblocked, removed."""

    platform: Platform
    chat_id: str
    reachable: bool


@dataclass(frozen=True, slots=True)
class Moved:
    """A chat goes on under another id."""

    platform: Platform
    chat_id: str
    new_chat_id: str


PlatformEvent = Edited | Deleted | Reacted | ReachChanged | Left | Moved
"""What happens in a chat beside new messages."""


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
    EDIT = "edit"
    """That a person changed what they had said, after it was answered."""
    COMMAND = "command"
    """A command, or the answer to one: never put into a prompt."""


NOT_FOR_THE_MODEL = frozenset({Source.LISTENER, Source.COMMAND})


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
class Button:
    """Pressing it is saying its command (`settings language=en`), for the one person it was made for."""

    label: str
    command: str
    chosen: bool = False
    """Among a segment's choices: the one that stands."""
    asks: str = ""
    """What the person is to write after pressing it, with an example; that follows the command."""


@dataclass(frozen=True, slots=True)
class ChannelPicker:
    """Choosing among a group's channels is saying `command` with their ids, with commas."""

    label: str
    command: str
    chosen: tuple[str, ...] = ()


class MediaKind(StrEnum):
    PHOTO = "photo"
    VOICE = "voice"
    DOCUMENT = "document"


@dataclass(frozen=True, slots=True)
class Media:
    """A picture (PNG, JPEG), a voice note (OGG with Opus) or a file, whole."""

    kind: MediaKind
    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Segment:
    """One piece of a reply: text, or media with the text as its caption."""

    text: str
    marks: tuple[Mark, ...] = ()
    buttons: tuple[tuple[Button, ...], ...] = ()
    """Rows of them."""
    choices: tuple[Button, ...] = ()
    """Values of one thing, of which one stands: above the buttons, two in a row or as a list to select from."""
    picker: ChannelPicker | None = None
    owner: str = ""
    """The platform's id of the one person who may press the buttons."""
    media: Media | None = None
    replaces: str | None = None
    """The platform's id of a message of ours that becomes this one; without a text it only loses its buttons."""
    answers: str | None = None
    """The platform's id of the message that this visibly answers."""
    silent: bool = False
    """It arrives without a sound."""
    urgent: bool = False
    """It overtakes whatever else is on its way to the chat."""
    pause_seconds: float = 0.0
    """How long after the segment before it goes out."""
    response: str | None = None
    """The handle of the message it answers (IncomingMessage.response): it goes out that way."""
    follows: bool = False
    """Another segment was the response; this comes after it."""

    @property
    def rows(self) -> tuple[tuple[Button, ...], ...]:
        """All its buttons, the choices among them two in a row, for platforms without lists."""
        ticked = [
            replace(choice, label=f"✓ {choice.label}") if choice.chosen else choice for choice in self.choices
        ]
        return (*(tuple(ticked[index : index + 2]) for index in range(0, len(ticked), 2)), *self.buttons)


class DeliveryState(StrEnum):
    PENDING = "pending"
    HELD = "held"
    """The platform takes nothing until the person writes again: it goes with the answer to that."""
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
    pending: bool = True
    """False: it rode on a response already, and is looked at again only because that was lost."""
