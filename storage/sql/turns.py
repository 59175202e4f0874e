"""What a finished turn leaves behind, written as one."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from itertools import accumulate
from typing import Any

from sqlalchemy import Connection, bindparam, func, insert, update

from core.errors import LeaseLost
from core.ids import new_id
from core.messages import DeliveryState
from core.ports import Pending, Transaction, TurnResult
from storage.keys import KeyRing
from storage.sql import people
from storage.sql.inbox import InboxState
from storage.sql.models import (
    ChatMessageRow,
    Conversation,
    DeliveryRow,
    InboxMessage,
    ModelUsageRow,
)
from storage.sql.segments import packed
from storage.sql.types import Id, Utc


class SqlTurns:
    """Implements core.ports.TurnRows."""

    def __init__(self, connection: Connection, keys: KeyRing, transaction: Transaction) -> None:
        self._connection = connection
        self._transaction = transaction
        self._keys = keys

    def commit(self, result: TurnResult) -> None:
        self._give_back_lease(result)
        self._settle_inbox(result)
        if result.effect is not None:
            result.effect(self._transaction)
        user_id = result.addressee.user_id
        data_keys = people.data_keys(
            self._connection, [user_id, *(pending.user_id for pending in result.answered)]
        )
        self._write_history(result, data_keys)
        self._write_deliveries(result, user_id, data_keys[user_id])
        self._write_usage(result, user_id)

    def _give_back_lease(self, result: TurnResult) -> None:
        given = self._connection.execute(
            _GIVE_BACK, {"conversation": result.conversation_id, "me": result.owner}
        )
        if given.rowcount != 1:
            raise LeaseLost

    def _settle_inbox(self, result: TurnResult) -> None:
        state = InboxState.DEFERRED if result.defer else InboxState.DONE
        self._settle(result, result.answered, InboxState.PENDING, state, result.turn_id)
        self._settle(result, result.late, InboxState.DEFERRED, state, result.turn_id)
        self._settle(result, result.moved_on, InboxState.DEFERRED, state, None)

    def _settle(
        self,
        result: TurnResult,
        messages: tuple[Pending, ...],
        before: InboxState,
        after: InboxState,
        turn_id: int | None,
    ) -> None:
        if not messages:
            return
        by_edits: dict[int, list[int]] = {}
        for pending in messages:
            by_edits.setdefault(pending.edits, []).append(pending.inbox_id)
        settled = 0
        for edits, inbox_ids in by_edits.items():
            settled += self._connection.execute(
                _SETTLE,
                {
                    "messages": inbox_ids,
                    "read_edits": edits,
                    "before": before,
                    "after": after,
                    "turn": turn_id,
                    "finished": result.finished_at,
                },
            ).rowcount
        if settled != len(messages):  # or one of them was edited meanwhile
            raise LeaseLost

    def _write_history(self, result: TurnResult, data_keys: dict[int, bytes]) -> None:
        writers = {pending.inbox_id: pending.user_id for pending in result.answered}
        written = [(message, writers[message.id]) for message in result.said]
        if result.written:
            written.append((result.reply, result.addressee.user_id))
        rows = [
            self._message(
                message.id,
                user_id,
                data_keys[user_id],
                message.text,
                role=message.role,
                source=message.source,
                created_at=message.created_at,
                conversation_id=result.conversation_id,
                turn_id=result.turn_id,
            )
            for message, user_id in written
        ]
        if rows:
            self._connection.execute(insert(ChatMessageRow), rows)

    def _message(
        self, message_id: int, user_id: int, data_key: bytes, text: str, **values: Any
    ) -> dict[str, Any]:
        body = self._keys.seal(data_key, text, message_id)
        return {"id": message_id, "user_id": user_id, "body": body, **values}

    def _write_deliveries(self, result: TurnResult, user_id: int, data_key: bytes) -> None:
        due = accumulate(timedelta(seconds=segment.pause_seconds) for segment in result.segments)
        first = result.push_after or result.finished_at
        rows = [
            self._message(
                new_id(),
                user_id,
                data_key,
                packed(segment),
                conversation_id=result.conversation_id,
                turn_id=result.turn_id,
                state=DeliveryState.PENDING,
                attempts=0,
                urgent=segment.urgent,
                next_attempt_at=first + after,
                created_at=result.finished_at,
            )
            for segment, after in zip(result.segments, due, strict=True)
        ]
        if rows:
            self._connection.execute(insert(DeliveryRow), rows)

    def _write_usage(self, result: TurnResult, user_id: int) -> None:
        usage = result.usage
        if usage is None:
            return
        self._connection.execute(
            insert(ModelUsageRow),
            {
                "id": new_id(),
                "turn_id": result.turn_id,
                "conversation_id": result.conversation_id,
                "user_id": user_id,
                "created_at": result.finished_at,
                **asdict(usage),
            },
        )


_GIVE_BACK = (
    update(Conversation)
    .where(Conversation.id == bindparam("conversation"), Conversation.lease_owner == bindparam("me"))
    .values(lease_owner=None, lease_until=None, attempts=0, preview_message_id=None)
)
_SETTLE = (
    update(InboxMessage)
    .where(
        InboxMessage.id.in_(bindparam("messages", expanding=True)),
        InboxMessage.state == bindparam("before"),
        InboxMessage.edits == bindparam("read_edits"),
    )
    .values(
        state=bindparam("after"),
        body=None,
        # Who was answered by the listener and then moved on keeps the listener's turn.
        turn_id=func.coalesce(bindparam("turn", type_=Id), InboxMessage.turn_id),
        done_at=bindparam("finished", type_=Utc()),
    )
)
