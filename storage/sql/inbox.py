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
    exists,
    func,
    or_,
    select,
)

from core.ids import new_id
from core.messages import EVERY_PLATFORM, ConversationKind, IncomingMessage, Platform, Role
from core.ports import Accepted, Outcome, Pending
from storage.keys import KeyRing
from storage.sql import people
from storage.sql.history import HISTORY_COLUMNS, open_message
from storage.sql.insert import insert_new
from storage.sql.models import ChatMessageRow, Conversation, InboxMessage, User
from storage.sql.types import AnyRow, by_platform


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

    def add(self, messages: Sequence[IncomingMessage], now: datetime) -> list[Accepted]:
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

    def pending(self, conversation_id: int) -> tuple[Pending, ...]:
        rows = self._connection.execute(_PENDING, {"conversation": conversation_id})
        return tuple(self.open(row) for row in rows)

    def unsettled(self, conversation_id: int) -> Sequence[AnyRow]:
        """Rows of `open` for all that is pending or deferred, with their conversation's settings and attempts."""
        return self._connection.execute(_UNSETTLED, {"conversation": conversation_id}).all()

    def text_of(self, inbox_id: int) -> str | None:
        row = self._connection.execute(_STORED.where(InboxMessage.id == inbox_id)).one_or_none()
        return None if row is None else self.open(row).message.text

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
        return known

    def _conversations_at(self, places: Iterable[people.Account]) -> dict[people.Account, int]:
        return {
            (platform, chat_id): id_
            for platform, chats in by_platform(places).items()
            for chat_id, id_ in self._connection.execute(
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
            "body": self._keys.seal(data_key, _to_json(message), inbox_id),
            "received_at": now,
        }

    def open(self, row: AnyRow) -> Pending:
        """The message in a row of `_STORED`: sealed whole in the inbox or, once settled, in the history."""
        if row.body is not None:
            wire = json.loads(self._keys.open(row.data_key, row.body, row.id))
        else:
            wire = {"text": self._keys.open(row.data_key, row.said, row.id)}
        return _pending(row, wire)


_STORED = (
    select(
        InboxMessage.id,
        InboxMessage.user_id,
        InboxMessage.event_id,
        InboxMessage.state,
        InboxMessage.body,
        InboxMessage.received_at,
        ChatMessageRow.body.label("said"),
        User.data_key,
        Conversation.platform,
        Conversation.chat_id,
        Conversation.kind,
        Conversation.settings,
        Conversation.attempts,
    )
    .join(User, User.id == InboxMessage.user_id)
    .join(Conversation, Conversation.id == InboxMessage.conversation_id)
    .outerjoin(ChatMessageRow, ChatMessageRow.id == InboxMessage.id)
)
_OF_CONVERSATION = _STORED.where(InboxMessage.conversation_id == bindparam("conversation")).order_by(
    InboxMessage.id
)
_PENDING = _OF_CONVERSATION.where(InboxMessage.state == InboxState.PENDING)
_UNSETTLED = _OF_CONVERSATION.where(InboxMessage.state.in_([InboxState.PENDING, InboxState.DEFERRED]))
_OUTCOME = (
    select(InboxMessage.state, InboxMessage.conversation_id, *HISTORY_COLUMNS)
    .join(ChatMessageRow, ChatMessageRow.turn_id == InboxMessage.turn_id)
    .join(User, User.id == ChatMessageRow.user_id)
    .where(InboxMessage.id == bindparam("inbox"), ChatMessageRow.role == Role.ASSISTANT)
)
_CONVERSATIONS_AT = select(Conversation.chat_id, Conversation.id).where(
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


def _to_json(message: IncomingMessage) -> str:
    return json.dumps(
        {
            "text": message.text,
            "sender_id": message.sender_id,
            "sent_at": message.sent_at.isoformat(),
            "alone": message.alone,
            "language": message.language,
        },
        ensure_ascii=False,
    )


def _pending(row: AnyRow, wire: dict[str, Any]) -> Pending:
    sent_at = datetime.fromisoformat(wire["sent_at"]) if "sent_at" in wire else row.received_at
    return Pending(
        inbox_id=row.id,
        user_id=row.user_id,
        received_at=row.received_at,
        message=IncomingMessage(
            platform=Platform(row.platform),
            event_id=row.event_id,
            chat_id=row.chat_id,
            sender_id=wire.get("sender_id", ""),
            text=wire["text"],
            sent_at=sent_at,
            kind=ConversationKind(row.kind),
            alone=wire.get("alone", False),
            language=wire.get("language"),
        ),
    )
