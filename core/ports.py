"""Everything core needs from outside, as small Protocols. Implementations live in storage/ and adapters/.

The store's units of work are plain functions of a `Transaction`: what one function does commits
together or not at all. They run beside the event loop (in the SQLite writer's thread, or on an
aiomysql connection), so they hold no `await` and touch nothing but the transaction and their arguments.
"""

from __future__ import annotations

import builtins
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from core.messages import (
    EVERY_PLATFORM,
    ChatMessage,
    ConversationKind,
    Deleted,
    Delivery,
    DeliveryState,
    Edited,
    IncomingMessage,
    Left,
    Moved,
    Platform,
    PlatformEvent,
    Reacted,
    Segment,
)
from core.model.events import ModelEvent, ModelUsage, PromptMessage
from core.settings import ConversationSettings, PersonSettings

T = TypeVar("T")


class Clock(Protocol):
    def now(self) -> datetime:
        """Aware UTC."""
        ...


# --- what adapters call -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Accepted:
    """Where an event went. `duplicate`: it had been stored before; the ids are those of then."""

    inbox_id: int
    conversation_id: int
    duplicate: bool


class Inbox(Protocol):
    async def accept(self, message: IncomingMessage) -> Accepted | None:
        """Store the message durably (this returns after the commit), then wake its conversation.

        None: in its group it is nothing to the bot, and was not stored.
        Raises StoreUnavailable if it was not stored: tell the platform to hand it over again.
        Raises IdempotencyConflict if the event id is known with another text.
        """
        ...

    def overhears(self, platform: Platform, chat_id: str) -> bool:
        """Whether what is said in a group without being meant for the bot may be something to it.

        Costs nothing: True as long as nobody looked lately.
        """
        ...

    async def note(self, event: PlatformEvent) -> None:
        """Store what became of a message or a chat. The same event again changes nothing.

        Raises StoreUnavailable if it was not stored.
        """
        ...


class Sender(Protocol):
    """A channel's way out. The outbox calls it; one call is one delivery to one chat."""

    async def send(self, delivery: Delivery) -> str | None:
        """Send and return the platform's id of the sent message, if it has one.

        Raises DeliveryFailed, HeldBack, RecipientGone or ChatGoesOn.
        """
        ...

    async def show_typing(self, chat_id: str) -> None:
        """Let the person see that an answer is being written. Best effort: never raises."""
        ...

    async def show_preview(
        self, chat_id: str, preview_id: int, text: str, message_id: str | None
    ) -> str | None:
        """Show the beginning of an answer that is being written.

        `message_id`: the message that shows it so far. Returned is the one that shows it now and is to be
        replaced by the answer; None where it goes away by itself. Raises DeliveryFailed or RecipientGone.
        """
        ...

    async def may_manage(self, chat_id: str, user_id: str) -> bool:
        """Whether somebody is one of a group's administrators. Raises DeliveryFailed, RecipientGone, ChatGoesOn."""
        ...


# --- the model ----------------------------------------------------------------------------------


class Model(Protocol):
    def stream(self, prompt: Sequence[PromptMessage]) -> AsyncGenerator[ModelEvent, None]:
        """Answer a prompt: `TextDelta`s, at the end one `Finished`; `Restarted` voids what came before.

        Raises ModelUnavailable when nothing that was tried gave a whole answer.
        """
        ...

    @property
    def available(self) -> bool:
        """Whether a call made now would be let through to some endpoint (no breaker in the way)."""
        ...


# --- wake-ups -----------------------------------------------------------------------------------


class Wakeups(Protocol):
    """Tells workers that a conversation has something to do. A lost wake-up costs only the sweeper's delay."""

    async def wake(self, conversation_id: int) -> None: ...

    async def next(self) -> int:
        """Wait for the next conversation to look at. Cancel-safe."""
        ...

    async def close(self) -> None: ...


# --- the store ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pending:
    """A stored message that waits for its turn."""

    inbox_id: int
    user_id: int
    received_at: datetime
    message: IncomingMessage
    edits: int = 0
    """How often it was changed while it waited."""


@dataclass(frozen=True, slots=True)
class ClaimedConversation:
    """A conversation under our lease, as the turn needs it: read in one go."""

    id: int
    platform: Platform
    chat_id: str
    kind: ConversationKind
    settings: ConversationSettings
    """What holds there."""
    own_settings: ConversationSettings
    """What of that is set for this very place, not for one that it lies in."""
    person: PersonSettings
    """Of whoever spoke first among those who wait."""
    paused: bool
    preview_message_id: str | None
    """A message that an earlier try at this turn left in the chat."""
    attempts: int
    """How often it was claimed without a turn being finished: a message that kills us shows here."""
    pending: tuple[Pending, ...]
    deferred: tuple[Pending, ...]
    """Messages that only the offline listener answered so far."""
    window: tuple[ChatMessage, ...]
    """The newest messages of the history, oldest first."""


@dataclass(frozen=True, slots=True)
class TurnResult:
    """What a turn decided, to be committed as one."""

    turn_id: int
    conversation_id: int
    owner: str
    """Who holds the conversation's lease: the commit is refused if that has changed."""
    addressee: Pending
    """Whose message the reply answers; the reply is sealed with their key."""
    answered: tuple[Pending, ...]
    """New messages that this turn answers."""
    late: tuple[Pending, ...]
    """Deferred messages that this turn answers at last."""
    moved_on: tuple[Pending, ...]
    """Deferred messages that need no answer of their own any more."""
    said: tuple[ChatMessage, ...]
    """What is written into the history of the new messages, each under its message's id."""
    reply: ChatMessage
    segments: tuple[Segment, ...]
    """What goes out through the outbox; empty where the client fetches the reply itself."""
    defer: bool
    """Only the listener answered: a real answer is to follow."""
    usage: ModelUsage | None
    finished_at: datetime
    push_after: datetime | None = None
    """Until then the answer rides on the response to the message, if at all; None: it is pushed at once."""
    effect: Callable[[Transaction], None] | None = None
    """What a command changes."""
    written: bool = True
    """Whether the reply goes into the history."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The stored answer to one message."""

    turn_id: int
    conversation_id: int
    reply: ChatMessage
    deferred: bool


@dataclass(frozen=True, slots=True)
class Tried:
    """How often a platform brought a message, and when it first did."""

    times: int
    first_at: datetime


@dataclass(frozen=True, slots=True)
class Seen:
    """The newest message that was stored of a private chat."""

    chat_id: str
    event_id: str


class InboxRows(Protocol):
    def add(self, messages: Sequence[IncomingMessage], now: datetime) -> list[Accepted | None]:
        """Store each message once, with its user, identity and conversation where they are new.

        None for what is nothing to the bot in its group.
        """
        ...

    def pending(self, conversation_id: int) -> tuple[Pending, ...]:
        """Messages of a conversation that wait for a turn, in order."""
        ...

    def waiting_of(self, user_id: int) -> tuple[Pending, ...]:
        """All that a person said and that waits for its turn, wherever."""
        ...

    def news(self, conversation_id: int, after: int) -> tuple[Pending, ...]:
        """Waiting messages that came after that one, and those that were changed while they waited."""
        ...

    def text_of(self, inbox_id: int) -> str | None:
        """What a stored message said in words, answered or not; None if that is not kept."""
        ...

    def edit(self, event: Edited, now: datetime) -> Accepted | None:
        """Replace a message that waits for its answer, or note in the history that an answered one was changed.

        None if it is to be accepted as a new message: nothing of it is known, or it says now that its writer is in
        danger. Accepted is where there may be something to do.
        """
        ...

    def delete(self, event: Deleted, now: datetime) -> int | None:
        """Messages are no more: what waits is settled unanswered, what stands in the history leaves it, a reply
        of ours with it. The conversation, if a message of its was waiting."""
        ...

    def newest_seen(self, platform: Platform, since: datetime, limit: int) -> tuple[Seen, ...]:
        """The newest message of each private chat that has any since then, the newest of them first."""
        ...

    def is_waiting(self, inbox_id: int) -> bool:
        """Whether a message waits for its turn. One that is not there any more (erased) does not."""
        ...

    def try_again(self, inbox_id: int) -> Tried | None:
        """Its platform brought it once more: how often by now; None if it is not there any more."""
        ...

    def outcome_of(self, inbox_id: int) -> Outcome | None:
        """The answer to a message; None while there is none."""
        ...

    def conversations_waiting(
        self, owner: str, now: datetime, limit: int, platforms: Sequence[Platform] = EVERY_PLATFORM
    ) -> list[int]:
        """Conversations on these platforms with pending messages that `owner` may claim, longest waiting first."""
        ...

    def conversations_deferred(
        self,
        owner: str,
        since: datetime,
        now: datetime,
        limit: int,
        platforms: Sequence[Platform] = EVERY_PLATFORM,
    ) -> list[int]:
        """Claimable conversations whose newest messages, since then, only the listener answered.

        Not those that cannot be written to, or are paused.
        """
        ...


class ConversationRows(Protocol):
    def claim(
        self,
        conversation_id: int,
        owner: str,
        now: datetime,
        until: datetime,
        window: int,
        platforms: Sequence[Platform] = EVERY_PLATFORM,
    ) -> ClaimedConversation | None:
        """Take the lease and read what a turn needs.

        None if somebody else holds it, it is on none of these platforms, or nothing waits.
        """
        ...

    def renew(self, owner: str, conversation_ids: Sequence[int], until: datetime) -> None:
        """Push out the owner's leases on these conversations."""
        ...

    def release(self, conversation_id: int, owner: str) -> None:
        """Give the lease back: nothing was done and nothing went wrong."""
        ...

    def postpone(self, conversation_id: int, owner: str, not_before: datetime) -> None:
        """Give the lease back, for nobody to take before that time: a turn broke."""
        ...

    def release_all(self, owner: str) -> None:
        """Give back every lease of a process that is gone, conversations' and deliveries' alike."""
        ...

    def lease_owners(self) -> list[str]:
        """Everybody who holds a lease now."""
        ...

    def history(
        self, platform: Platform, chat_id: str, before: int | None, limit: int
    ) -> tuple[ChatMessage, ...]:
        """A conversation as its person sees it (waiting messages included), oldest first."""
        ...

    def update_settings(self, conversation_id: int, settings: ConversationSettings) -> None: ...

    def forget_settings(self, platform: Platform, chat_id: str) -> None:
        """What was set for a place and for all places in it, pauses too."""
        ...

    def pause(self, conversation_id: int, since: datetime | None) -> None:
        """Nothing is sent there unasked from now on; None: it is again."""
        ...

    def begin_anew(self, conversation_id: int, window_from: int) -> None:
        """What was said before that id is no part of any prompt any more, and owed no late answer."""
        ...

    def set_preview(self, conversation_id: int, owner: str, message_id: str) -> None:
        """Remember which message shows a part of the answer that is being written."""
        ...

    def leave(self, event: Left, now: datetime) -> None:
        """Nothing can be sent to a group and the places in it any more, and nothing is set there."""
        ...

    def groups(self, platform: Platform) -> tuple[str, ...]:
        """The groups, without the places in them, that could be written to when last heard of."""
        ...

    def set_reachable(self, platform: Platform, chat_id: str, *, reachable: bool, now: datetime) -> None: ...

    def move(self, event: Moved) -> int | None:
        """A chat goes on under another id: its conversation, or both made one; its id, None if there was none."""
        ...


class TurnRows(Protocol):
    def commit(self, result: TurnResult) -> None:
        """Write everything a finished turn leaves behind and give its conversation's lease back.

        Raises LeaseLost, and writes nothing, if the lease is no longer ours or a message of the turn
        is settled already.
        """
        ...


class DeliveryRows(Protocol):
    def claim(
        self, conversation_id: int, owner: str, now: datetime, until: datetime
    ) -> builtins.list[Delivery]:
        """Lease the conversation's unsent deliveries; those due now, in order, up to the first that is not."""
        ...

    def renew(self, owner: str, conversation_ids: Sequence[int], until: datetime) -> None:
        """Push out the owner's leases on these conversations' deliveries."""
        ...

    def mark_sent(
        self,
        delivery_id: int,
        platform_message_id: str | None,
        now: datetime,
        keep_until: datetime | None = None,
    ) -> None:
        """`keep_until`: how long its body is still needed; None: not at all."""
        ...

    def hold(self, conversation_id: int, reason: str, now: datetime) -> int:
        """Whatever is unsent there waits for the person's next message; how many that are."""
        ...

    def passable(self, conversation_id: int, event_id: str, now: datetime) -> Passable:
        """What may ride on the response to an event, in order: what did already, else all that nobody is sending."""
        ...

    def pass_on(
        self,
        conversation_id: int,
        event_id: str,
        delivery_ids: Sequence[int],
        now: datetime,
        until: datetime,
        *,
        rest_due: bool,
    ) -> None:
        """These ride on the response to that event; whatever is not marked sent by `until` is due again then.

        `rest_due`: the conversation's other deliveries may be pushed from now on. Raises LeaseLost, and changes
        nothing, if one of them is in other hands by now.
        """
        ...

    def mark_passed(self, conversation_id: int, event_id: str, now: datetime, keep_until: datetime) -> None:
        """The response to that event is out: what rode on it is sent."""
        ...

    def is_owed(self, conversation_id: int, event_id: str) -> bool:
        """Whether anything is unsent there, or rode on the response to that event."""
        ...

    def kept(self, delivery_id: int, now: datetime) -> Segment | None:
        """A delivery's segment, as long as its body is kept."""
        ...

    def has_kept(self, now: datetime) -> bool:
        """Whether any body is needed no more."""
        ...

    def forget_kept(self, now: datetime) -> int:
        """Empty the bodies that are needed no more; how many."""
        ...

    def mark_failed(
        self, delivery_id: int, owner: str, reason: str, next_attempt_at: datetime | None, now: datetime
    ) -> None:
        """Another attempt at that time, or never (`None`: a dead letter).

        Nothing, if the owner's lease was lost meanwhile: whoever has it now decides.
        """
        ...

    def bury_conversation(self, conversation_id: int, reason: str, now: datetime) -> int:
        """The recipient is gone: every unsent delivery becomes a dead letter; how many.

        The conversation is marked as one that cannot be written to.
        """
        ...

    def sent_since(self, platforms: Sequence[Platform], since: datetime) -> builtins.list[SentDelivery]:
        """What was sent since then, oldest first: the pace goes on from there."""
        ...

    def conversations_due(
        self, owner: str, now: datetime, limit: int, platforms: Sequence[Platform] = EVERY_PLATFORM
    ) -> builtins.list[int]:
        """Conversations on these platforms with deliveries that are due and that `owner` may claim."""
        ...

    def list(self, state: DeliveryState, limit: int) -> builtins.list[DeliveryRecord]: ...

    def replay(self, delivery_ids: Sequence[int], now: datetime) -> int:
        """Dead letters back to pending; how many were dead."""
        ...


@dataclass(frozen=True, slots=True)
class Passable:
    """What may ride on a response."""

    deliveries: tuple[Delivery, ...]
    again: bool
    """They rode on it before: the platform lost that response and asks again."""


@dataclass(frozen=True, slots=True)
class SentDelivery:
    platform: Platform
    chat_id: str
    kind: ConversationKind
    sent_at: datetime


@dataclass(frozen=True, slots=True)
class DeliveryRecord:
    """A delivery as an operator sees it: no text."""

    id: int
    platform: Platform
    state: DeliveryState
    attempts: int
    reason: str | None
    created_at: datetime
    next_attempt_at: datetime


@dataclass(frozen=True, slots=True)
class ApiKey:
    id: int
    name: str
    scopes: frozenset[str]
    created_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None


class PeopleRows(Protocol):
    def update_settings(self, user_id: int, settings: PersonSettings) -> None: ...

    def export(self, user_id: int) -> PersonRecord:
        """All that is kept of a person."""
        ...

    def erase(self, by: Pending, erase_at: datetime, here: int) -> None:
        """Destroy everything of a person but what this transaction writes for them after it, in conversation `here`.

        `by`: the message that asks for it. What they wrote after it is a stranger's, as their account is. What
        is left (a farewell on its way) goes with `erase_left`.
        """
        ...

    def is_leaving(self) -> bool:
        """Whether anything is left of erased people."""
        ...

    def erase_left(self, now: datetime) -> int:
        """Destroy what is left of erased people whose farewell is out, or whose time is over; how many people."""
        ...


@dataclass(frozen=True, slots=True)
class PersonRecord:
    """A person's data as they are handed out: plain values, ready for JSON."""

    accounts: tuple[dict[str, str], ...]
    settings: PersonSettings
    since: datetime
    chats: tuple[dict[str, object], ...]
    """Their private chats with what is set there."""
    messages: tuple[dict[str, str], ...]
    """What they said, and what was said to them; not what still waits."""
    feedback: tuple[dict[str, str], ...]
    usage: tuple[dict[str, str | int], ...]


class MarkRows(Protocol):
    def set(self, name: str, at: datetime) -> None:
        """Write down how far something got."""
        ...

    def get(self, name: str) -> datetime | None: ...


class FeedbackRows(Protocol):
    def react(self, event: Reacted, verdict: str, now: datetime) -> bool:
        """Keep a person's reactions on an answer of ours, or forget them; False if it is none of ours."""
        ...

    def judge(self, conversation_id: int, user_id: int, message_id: str, verdict: str, now: datetime) -> bool:
        """Keep what a person said of an answer by button; False if that message is none of our answers."""
        ...


class ApiKeyRows(Protocol):
    def add(self, name: str, key_hash: bytes, scopes: frozenset[str], now: datetime) -> ApiKey: ...

    def find(self, key_hash: bytes) -> ApiKey | None:
        """The key with this hash, unless it was revoked."""
        ...

    def list(self) -> builtins.list[ApiKey]: ...

    def revoke(self, key_id: int, now: datetime) -> bool: ...

    def mark_used(self, key_id: int, now: datetime) -> None: ...


class Transaction(Protocol):
    """One transaction's view of every table group."""

    @property
    def inbox(self) -> InboxRows: ...
    @property
    def conversations(self) -> ConversationRows: ...
    @property
    def turns(self) -> TurnRows: ...
    @property
    def deliveries(self) -> DeliveryRows: ...
    @property
    def people(self) -> PeopleRows: ...
    @property
    def feedback(self) -> FeedbackRows: ...
    @property
    def marks(self) -> MarkRows: ...
    @property
    def api_keys(self) -> ApiKeyRows: ...


class Store(Protocol):
    async def write(self, unit: Callable[[Transaction], T]) -> T:
        """Run a unit of work; returns after it is durably committed, or raises with nothing stored.

        Raises StoreUnavailable when the database does not answer.
        """
        ...

    async def read(self, unit: Callable[[Transaction], T]) -> T:
        """Run a unit that only reads."""
        ...


# --- what processes share ------------------------------------------------------------------------


class SharedCache(Protocol):
    """Short-lived values that all processes share. It may forget at any time, and never raises."""

    async def get(self, key: str) -> str | None: ...

    async def put(self, key: str, value: str, ttl: timedelta) -> None: ...

    async def add(self, key: str, value: str, ttl: timedelta) -> str:
        """Put a value if there is none; the one that stands then."""
        ...

    async def remove(self, key: str, value: str) -> None:
        """Take a value away if it is still that one."""
        ...


# --- rate limits --------------------------------------------------------------------------------


class RateLimiter(Protocol):
    async def reserve(self, key: str, rate: float, burst: int) -> timedelta:
        """Take one token of `key` (refilled at `rate` a second up to `burst`); how long to wait before using it."""
        ...

    async def try_take(self, key: str, rate: float, burst: int) -> timedelta | None:
        """Take one token if there is one now (None), else how long until there is."""
        ...

    async def hold(self, key: str, rate: float, burst: int, wait: timedelta) -> None:
        """No token of `key` before so long from now."""
        ...

    async def recall(self, key: str, rate: float, ago: timedelta) -> None:
        """One token of `key` was taken so long ago, before this process began. Oldest first."""
        ...


# --- what is measured ---------------------------------------------------------------------------


class Measures(Protocol):
    """What core tells whoever counts. Cheap, and never raises."""

    def accepted(self, platform: Platform) -> None: ...

    def turn_finished(self, platform: Platform, outcome: str, seconds: float) -> None:
        """`outcome`: answered, deferred, declined, safety; `seconds` from the first message."""
        ...

    def turn_broke(self, reason: str) -> None:
        """A turn that will be run again. `reason`: lease_lost, not_stored, failed."""
        ...

    def model_answered(self, usage: ModelUsage) -> None: ...

    def model_failed(self, reason: str) -> None: ...

    def delivered(self, platform: Platform, outcome: str) -> None:
        """`outcome`: sent, retry, dead, gone, held."""
        ...

    def feedback_given(self, verdict: str) -> None:
        """`verdict`: good, bad, other."""
        ...
