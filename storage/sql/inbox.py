"""The inbox: every event that a platform handed over, once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    Connection,
    bindparam,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)

from core.ids import new_id
from core.messages import (
    EVERY_PLATFORM,
    ConversationKind,
    Deleted,
    Edited,
    IncomingMessage,
    Platform,
    Role,
    Source,
)
from core.ports import Accepted, Outcome, Pending, Seen, Tried
from core.safety.rules import Risk, assess, risk_of
from core.wording import edited_in_words, kept_in_words, said_at_last
from storage.keys import KeyRing
from storage.sql import incoming, people
from storage.sql.history import HISTORY, HISTORY_COLUMNS, open_message
from storage.sql.insert import insert_new
from storage.sql.models import ChatMessageRow, Conversation, DeliveryRow, InboxMessage, User
from storage.sql.types import AnyRow, Utc, by_platform
from storage.sql.wanted import wanted


class InboxState(StrEnum):
    PENDING = "pending"
    DEFERRED = "deferred"
    """Only the offline listener answered so far."""
    DONE = "done"


class SqlInbox:
    """Implements core.ports.InboxRows."""

    def __init__(self, connection: Connection, keys: KeyRing) -> None:
        self._connection = connection
        self._keys = keys

    def add(self, messages: Sequence[IncomingMessage], now: datetime) -> list[Accepted | None]:
        wanted = self._wanted(messages, now)
        stored = iter(self._add(wanted, now) if wanted else [])
        kept = set(map(id, wanted))
        return [next(stored) if id(message) in kept else None for message in messages]

    def _add(self, messages: Sequence[IncomingMessage], now: datetime) -> list[Accepted]:
        senders = people.find_or_add(self._connection, self._keys, messages, now)
        places = self._find_or_add_conversations(messages, now)
        rows = [self._row(message, senders, places, now) for message in messages]
        if insert_new(self._connection, InboxMessage, rows):
            return [Accepted(row["id"], row["conversation_id"], duplicate=False) for row in rows]
        stored = self._stored([(message.platform, message.event_id) for message in messages])
        accepted = []
        for row in rows:
            inbox_id, conversation_id = stored[row["platform"], row["event_id"]]
            accepted.append(Accepted(inbox_id, conversation_id, duplicate=inbox_id != row["id"]))
        return accepted

    def _wanted(
        self, messages: Sequence[IncomingMessage], now: datetime, *, correction: bool = False
    ) -> list[IncomingMessage]:
        return wanted(self._connection, messages, now, self._has_begun, correction=correction)

    def _has_begun(self, message: IncomingMessage) -> bool:
        """Whether another part of an album waits: the one with the caption that calls the bot."""
        rows = self._connection.execute(
            _STORED.where(
                Conversation.platform == message.platform,
                Conversation.chat_id == message.chat_id,
                InboxMessage.state == InboxState.PENDING,
            )
        )
        return any(self.open(row).message.bundle == message.bundle for row in rows)

    def edit(self, event: Edited, now: datetime) -> Accepted | None:
        message = event.message
        row = self._connection.execute(
            _BY_MESSAGE,
            {"platform": message.platform, "chat": message.chat_id, "message": message.message_id},
        ).first()
        if row is None:
            return None
        accepted = Accepted(row.id, row.conversation_id, duplicate=True)
        if row.state == InboxState.PENDING:
            return self._replace(row, event, now) or accepted
        before = self._said_at_last(row, message)
        if risk_of(message) is Risk.HIGH and assess(before) is not Risk.HIGH:
            return None  # no note will do: it is answered, as something new
        if row.source == Source.COMMAND and message.command is None:
            return None  # what was a command are words now
        if self._is_no_news(row, before, message, now):
            return accepted
        if row.state == InboxState.DEFERRED and message.bundle is None:  # its real answer is still to come
            self._rewrite(row, kept_in_words(message))
            return accepted
        self._note_edit(row, before, message, now)
        return accepted

    def _is_no_news(self, row: AnyRow, before: str, message: IncomingMessage, now: datetime) -> bool:
        """A link's preview came, a shared place moved on; a command left nothing to be changed, and nobody commands
        by an edit; or it is not meant for the bot any more."""
        left_nothing = row.said is None and message.bundle is None
        unchanged = before == kept_in_words(message) or message.command is not None
        return left_nothing or unchanged or not self._wanted([message], now, correction=True)

    def _said_at_last(self, row: AnyRow, message: IncomingMessage) -> str:
        """What a settled message says as it was last changed; of an album's part what it says itself, if that
        stands in the history."""
        if message.bundle is not None and row.source != Source.EDIT:
            told = self._connection.execute(
                HISTORY.where(ChatMessageRow.turn_id == row.turn_id, ChatMessageRow.role == Role.USER)
            )
            texts = [open_message(self._keys, one).text for one in told]
            return kept_in_words(message) if any(message.text in text for text in texts) else "\n".join(texts)
        text = self._history_text(row)
        return said_at_last(text) if row.source == Source.EDIT else text

    def _replace(self, row: AnyRow, event: Edited, now: datetime) -> Accepted | None:
        """Put another message in the place of one that waits; None if it says nothing new, or is older."""
        message = event.message
        waiting = self.open(row).message
        if kept_in_words(waiting) == kept_in_words(message) or message.sent_at < waiting.sent_at:
            return None
        text = self._keys.seal(row.data_key, incoming.packed(message), row.id)
        if self._connection.execute(_REPLACE, {"row": row.id, "text": text}).rowcount == 0:
            return self.edit(event, now)  # it was answered at this very moment
        return Accepted(row.id, row.conversation_id, duplicate=False)

    def _rewrite(self, row: AnyRow, text: str) -> None:
        self._connection.execute(
            update(ChatMessageRow)
            .where(ChatMessageRow.id == row.id)
            .values(body=self._keys.seal(row.data_key, text, row.id))
        )
        self._connection.execute(
            update(InboxMessage).where(InboxMessage.id == row.id).values(edits=InboxMessage.edits + 1)
        )

    def _note_edit(self, row: AnyRow, before: str, message: IncomingMessage, now: datetime) -> None:
        """The change as a message of its own in the history: owed no answer, and found by the next edit."""
        note_id = new_id()
        note = {
            "id": note_id,
            "platform": message.platform,
            "event_id": message.event_id,
            "conversation_id": row.conversation_id,
            "user_id": row.user_id,
            "state": InboxState.DONE,
            "platform_message_id": message.message_id,
            "turn_id": row.turn_id,
            "received_at": now,
            "done_at": now,
        }
        if not insert_new(self._connection, InboxMessage, [note]):
            return  # this very edit was noted before
        text = edited_in_words(before, message)
        self._connection.execute(
            insert(ChatMessageRow),
            {
                "id": note_id,
                "conversation_id": row.conversation_id,
                "user_id": row.user_id,
                "turn_id": row.turn_id,
                "role": Role.USER,
                "source": Source.EDIT,
                "body": self._keys.seal(row.data_key, text, note_id),
                "created_at": now,
            },
        )

    def pending(self, conversation_id: int) -> tuple[Pending, ...]:
        rows = self._connection.execute(_PENDING, {"conversation": conversation_id})
        return tuple(self.open(row) for row in rows)

    def waiting_of(self, user_id: int) -> tuple[Pending, ...]:
        """All that a person said and that waits for its turn, wherever."""
        rows = self._connection.execute(
            _STORED.where(InboxMessage.user_id == user_id, InboxMessage.state == InboxState.PENDING)
        )
        return tuple(self.open(row) for row in rows)

    def news(self, conversation_id: int, after: int) -> tuple[Pending, ...]:
        rows = self._connection.execute(_NEWS, {"conversation": conversation_id, "after": after})
        return tuple(self.open(row) for row in rows)

    def unsettled(self, conversation_id: int) -> Sequence[AnyRow]:
        """Rows of `open` for all that is pending or deferred, with their conversation's settings and attempts."""
        return self._connection.execute(_UNSETTLED, {"conversation": conversation_id}).all()

    def text_of(self, inbox_id: int) -> str | None:
        row = self._connection.execute(_STORED.where(InboxMessage.id == inbox_id)).one_or_none()
        return None if row is None else self._text_in(row)

    def _text_in(self, row: AnyRow) -> str | None:
        """A message in words: as it stands in the history, or as it will."""
        if row.body is None and row.said is None:
            return None
        return kept_in_words(self.open(row).message) if row.body is not None else self._history_text(row)

    def delete(self, event: Deleted, now: datetime) -> int | None:
        values = {"platform": event.platform, "chat": event.chat_id, "messages": event.message_ids}
        rows = self._connection.execute(_OF_THE_MESSAGE, values).all()
        ids = [row.id for row in rows]
        turns = self._connection.execute(_OUR_TURNS, values).scalars().all()
        # First of all: a turn that commits at this moment is waited for, and what it wrote is seen below.
        self._connection.execute(
            update(InboxMessage)
            .where(InboxMessage.id.in_(ids), InboxMessage.state != InboxState.DONE)
            .values(state=InboxState.DONE, body=None, done_at=now)
        )
        self._connection.execute(delete(ChatMessageRow).where(ChatMessageRow.id.in_(ids)))
        self._connection.execute(
            delete(ChatMessageRow).where(
                ChatMessageRow.turn_id.in_(turns), ChatMessageRow.role == Role.ASSISTANT
            )
        )
        waited = [row.conversation_id for row in rows if row.state == InboxState.PENDING]
        return waited[0] if waited else None

    def newest_seen(self, platform: Platform, since: datetime, limit: int) -> tuple[Seen, ...]:
        values = {"platform": platform, "since": since, "limit": limit}
        return tuple(Seen(*row) for row in self._connection.execute(_NEWEST_SEEN, values))

    def is_waiting(self, inbox_id: int) -> bool:
        state = select(InboxMessage.state).where(InboxMessage.id == inbox_id)
        return self._connection.execute(state).scalar_one_or_none() == InboxState.PENDING

    def try_again(self, inbox_id: int) -> Tried | None:
        self._connection.execute(
            update(InboxMessage).where(InboxMessage.id == inbox_id).values(tries=InboxMessage.tries + 1)
        )
        row = self._connection.execute(
            select(InboxMessage.tries, InboxMessage.received_at).where(InboxMessage.id == inbox_id)
        ).one_or_none()
        return None if row is None else Tried(row.tries, row.received_at)

    def outcome_of(self, inbox_id: int) -> Outcome | None:
        row = self._connection.execute(_OUTCOME, {"inbox": inbox_id}).one_or_none()
        if row is None:
            return None
        return Outcome(
            turn_id=row.turn_id,
            conversation_id=row.conversation_id,
            reply=open_message(self._keys, row),
            deferred=row.state == InboxState.DEFERRED,
        )

    def conversations_waiting(
        self, owner: str, now: datetime, limit: int, platforms: Sequence[Platform] = EVERY_PLATFORM
    ) -> list[int]:
        waiting = _claimable(InboxState.PENDING, owner, now, limit, platforms)
        return list(self._connection.execute(waiting).scalars())

    def conversations_deferred(
        self,
        owner: str,
        since: datetime,
        now: datetime,
        limit: int,
        platforms: Sequence[Platform] = EVERY_PLATFORM,
    ) -> list[int]:
        newer = InboxMessage.__table__.alias()
        return list(
            self._connection.execute(
                _claimable(InboxState.DEFERRED, owner, now, limit, platforms).where(
                    InboxMessage.received_at >= since,
                    Conversation.gone_at.is_(None),
                    Conversation.paused_at.is_(None),
                    ~exists().where(
                        newer.c.conversation_id == InboxMessage.conversation_id,
                        newer.c.state == InboxState.PENDING,
                    ),
                )
            ).scalars()
        )

    def _find_or_add_conversations(
        self, messages: Sequence[IncomingMessage], now: datetime
    ) -> dict[people.Account, int]:
        kinds = {(m.platform, m.chat_id): m.kind for m in messages}
        known = self._conversations_at(kinds)
        new = [
            {
                "id": new_id(),
                "platform": platform,
                "chat_id": chat_id,
                "kind": kind,
                "settings": {},
                "attempts": 0,
                "created_at": now,
            }
            for (platform, chat_id), kind in kinds.items()
            if (platform, chat_id) not in known
        ]
        if new:
            insert_new(self._connection, Conversation, new)
            known = self._conversations_at(kinds)
        back = [id_ for id_, gone_at in known.values() if gone_at is not None]
        if back:  # whoever writes can be written to
            self._connection.execute(
                update(Conversation).where(Conversation.id.in_(back)).values(gone_at=None)
            )
        return {place: id_ for place, (id_, _) in known.items()}

    def _conversations_at(
        self, places: Iterable[people.Account]
    ) -> dict[people.Account, tuple[int, datetime | None]]:
        return {
            (platform, chat_id): (id_, gone_at)
            for platform, chats in by_platform(places).items()
            for chat_id, id_, gone_at in self._connection.execute(
                _CONVERSATIONS_AT, {"platform": platform, "chats": chats}
            )
        }

    def _stored(self, events: list[tuple[Platform, str]]) -> dict[tuple[Platform, str], tuple[int, int]]:
        return {
            (platform, event_id): (inbox_id, conversation_id)
            for platform, ids in by_platform(events).items()
            for event_id, inbox_id, conversation_id in self._connection.execute(
                _STORED_EVENTS, {"platform": platform, "events": ids}
            )
        }

    def _row(
        self,
        message: IncomingMessage,
        senders: dict[people.Account, tuple[int, bytes]],
        places: dict[people.Account, int],
        now: datetime,
    ) -> dict[str, Any]:
        inbox_id = new_id()
        user_id, data_key = senders[message.platform, message.sender_id]
        return {
            "id": inbox_id,
            "platform": message.platform,
            "event_id": message.event_id,
            "conversation_id": places[message.platform, message.chat_id],
            "user_id": user_id,
            "state": InboxState.PENDING,
            "body": self._keys.seal(data_key, incoming.packed(message), inbox_id),
            "platform_message_id": message.message_id,
            "received_at": now,
        }

    def open(self, row: AnyRow) -> Pending:
        """The message in a row of `_STORED`: sealed whole in the inbox or, once settled, in the history."""
        if row.body is not None:
            found = json.loads(self._keys.open(row.data_key, row.body, row.id))
        else:
            found = {"text": self._history_text(row)}
        return Pending(
            inbox_id=row.id,
            user_id=row.user_id,
            received_at=row.received_at,
            message=incoming.unpacked(row, found),
            edits=row.edits,
        )

    def _history_text(self, row: AnyRow) -> str:
        """Nothing for a later part of a bundle: its words stand with the first."""
        return self._keys.open(row.data_key, row.said, row.id) if row.said is not None else ""


_STORED = (
    select(
        InboxMessage.id,
        InboxMessage.user_id,
        InboxMessage.event_id,
        InboxMessage.state,
        InboxMessage.conversation_id,
        InboxMessage.turn_id,
        InboxMessage.platform_message_id,
        InboxMessage.edits,
        InboxMessage.body,
        InboxMessage.received_at,
        ChatMessageRow.body.label("said"),
        ChatMessageRow.source,
        User.data_key,
        User.settings.label("person"),
        Conversation.platform,
        Conversation.chat_id,
        Conversation.kind,
        Conversation.settings,
        Conversation.attempts,
        Conversation.paused_at,
        Conversation.window_from,
        Conversation.preview_message_id,
    )
    .join(User, User.id == InboxMessage.user_id)
    .join(Conversation, Conversation.id == InboxMessage.conversation_id)
    .outerjoin(ChatMessageRow, ChatMessageRow.id == InboxMessage.id)
)
_OF_CONVERSATION = _STORED.where(InboxMessage.conversation_id == bindparam("conversation")).order_by(
    InboxMessage.id
)
_PENDING = _OF_CONVERSATION.where(InboxMessage.state == InboxState.PENDING)
_NEWS = _PENDING.where(or_(InboxMessage.id > bindparam("after"), InboxMessage.edits > 0))
_UNSETTLED = _OF_CONVERSATION.where(InboxMessage.state.in_([InboxState.PENDING, InboxState.DEFERRED]))
_OUTCOME = (
    select(InboxMessage.state, InboxMessage.conversation_id, *HISTORY_COLUMNS)
    .join(ChatMessageRow, ChatMessageRow.turn_id == InboxMessage.turn_id)
    .join(User, User.id == ChatMessageRow.user_id)
    .where(InboxMessage.id == bindparam("inbox"), ChatMessageRow.role == Role.ASSISTANT)
)
_BY_MESSAGE = (
    _STORED.where(
        Conversation.platform == bindparam("platform"),
        Conversation.chat_id == bindparam("chat"),
        InboxMessage.platform_message_id == bindparam("message"),
    )
    .order_by(InboxMessage.id.desc())
    .limit(1)
)
_REPLACE = (
    update(InboxMessage)
    .where(InboxMessage.id == bindparam("row"), InboxMessage.state == InboxState.PENDING)
    .values(body=bindparam("text"), edits=InboxMessage.edits + 1)
)
_OF_THE_MESSAGE = (
    select(InboxMessage.id, InboxMessage.state, InboxMessage.conversation_id, InboxMessage.turn_id)
    .join(Conversation, Conversation.id == InboxMessage.conversation_id)
    .where(
        Conversation.platform == bindparam("platform"),
        Conversation.chat_id == bindparam("chat"),
        InboxMessage.platform_message_id.in_(bindparam("messages", expanding=True)),
    )
)
_OUR_TURNS = (
    select(DeliveryRow.turn_id)
    .join(Conversation, Conversation.id == DeliveryRow.conversation_id)
    .where(
        Conversation.platform == bindparam("platform"),
        Conversation.chat_id == bindparam("chat"),
        DeliveryRow.platform_message_id.in_(bindparam("messages", expanding=True)),
    )
)
_NEWEST_OF_EACH = (
    select(func.max(InboxMessage.id))
    .join(Conversation, Conversation.id == InboxMessage.conversation_id)
    .where(
        Conversation.platform == bindparam("platform"),
        Conversation.kind == ConversationKind.PRIVATE,
        InboxMessage.received_at > bindparam("since", type_=Utc()),
        InboxMessage.platform_message_id.is_not(None),
    )
    .group_by(InboxMessage.conversation_id)
)
_NEWEST_SEEN = (
    select(Conversation.chat_id, InboxMessage.event_id)
    .join(Conversation, Conversation.id == InboxMessage.conversation_id)
    .where(InboxMessage.id.in_(_NEWEST_OF_EACH))
    .order_by(InboxMessage.id.desc())
    .limit(bindparam("limit"))
)
_CONVERSATIONS_AT = select(Conversation.chat_id, Conversation.id, Conversation.gone_at).where(
    Conversation.platform == bindparam("platform"),
    Conversation.chat_id.in_(bindparam("chats", expanding=True)),
)
_STORED_EVENTS = select(InboxMessage.event_id, InboxMessage.id, InboxMessage.conversation_id).where(
    InboxMessage.platform == bindparam("platform"),
    InboxMessage.event_id.in_(bindparam("events", expanding=True)),
)


def _claimable(
    state: InboxState, owner: str, now: datetime, limit: int, platforms: Sequence[Platform]
) -> Any:
    return (
        select(InboxMessage.conversation_id)
        .join(Conversation, Conversation.id == InboxMessage.conversation_id)
        .where(
            InboxMessage.state == state,
            Conversation.platform.in_(platforms),
            or_(
                Conversation.lease_until.is_(None),
                Conversation.lease_until < now,
                Conversation.lease_owner == owner,
            ),
        )
        .group_by(InboxMessage.conversation_id)
        .order_by(func.min(InboxMessage.id))
        .limit(limit)
    )
