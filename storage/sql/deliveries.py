"""Deliveries: reply segments on their way out."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, and_, bindparam, func, or_, select, update

from core.errors import LeaseLost
from core.messages import EVERY_PLATFORM, ConversationKind, Delivery, DeliveryState, Platform, Segment
from core.ports import DeliveryRecord, Passable, SentDelivery
from storage.keys import KeyRing
from storage.sql.models import Conversation, DeliveryRow, User
from storage.sql.segments import unpacked
from storage.sql.types import AnyRow, Exact, Utc, batched_ids


class SqlDeliveries:
    """Implements core.ports.DeliveryRows."""

    def __init__(self, connection: Connection, keys: KeyRing) -> None:
        self._connection = connection
        self._keys = keys

    def claim(
        self, conversation_id: int, owner: str, now: datetime, until: datetime
    ) -> builtins.list[Delivery]:
        values = {"conversation": conversation_id, "me": owner, "now": now, "until": until}
        self._connection.execute(_LEASE, values)
        unsent = self._connection.execute(_UNSENT, {"conversation": conversation_id}).all()
        due = []
        for row in unsent:
            # In order: one that is not due yet, or is in other hands, holds back the rest.
            if row.lease_owner != owner or row.next_attempt_at > now:
                break
            due.append(self._open(row))
        if unsent and not due:
            self._connection.execute(_RELEASE, {"conversation": conversation_id, "me": owner})
        return due

    def renew(self, owner: str, conversation_ids: Sequence[int], until: datetime) -> None:
        for some in batched_ids(conversation_ids):
            self._connection.execute(_RENEW, {"conversations": some, "me": owner, "until": until})

    def mark_sent(
        self,
        delivery_id: int,
        platform_message_id: str | None,
        now: datetime,
        keep_until: datetime | None = None,
    ) -> None:
        values = {"delivery": delivery_id, "message": platform_message_id, "now": now}
        if keep_until is None:
            self._connection.execute(_MARK_SENT, values)
        else:
            self._connection.execute(_MARK_SENT_AND_KEPT, {**values, "keep": keep_until})

    def hold(self, conversation_id: int, reason: str, now: datetime) -> int:
        return self._connection.execute(
            update(DeliveryRow)
            .where(
                DeliveryRow.conversation_id == conversation_id,
                DeliveryRow.state == DeliveryState.PENDING,
                # Not what rides on a response at this moment.
                or_(DeliveryRow.passed_with.is_(None), DeliveryRow.next_attempt_at <= now),
            )
            .values(
                state=DeliveryState.HELD,
                reason=reason[:64],
                passed_with=None,
                lease_owner=None,
                lease_until=None,
            )
        ).rowcount

    def passable(self, conversation_id: int, event_id: str, now: datetime) -> Passable:
        rode = self._connection.execute(
            _UNSENT_COLUMNS.where(
                DeliveryRow.conversation_id == conversation_id,
                DeliveryRow.passed_with == event_id,
                or_(
                    DeliveryRow.state.in_((DeliveryState.PENDING, DeliveryState.HELD)),
                    DeliveryRow.keep_until > now,
                ),
            )
        ).all()
        if rode:
            return Passable(tuple(map(self._open, rode)), again=True)
        unsent = self._connection.execute(
            _UNSENT_COLUMNS.where(
                DeliveryRow.conversation_id == conversation_id,
                DeliveryRow.state.in_((DeliveryState.PENDING, DeliveryState.HELD)),
            )
        )
        free: list[Delivery] = []
        for row in unsent:
            rides = row.passed_with is not None and row.next_attempt_at > now
            if rides:
                continue
            if row.lease_until is not None and row.lease_until >= now:
                break  # in order: what comes after it has to wait, too
            free.append(self._open(row))
        return Passable(tuple(free), again=False)

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
        passed = self._connection.execute(
            update(DeliveryRow)
            .where(
                DeliveryRow.id.in_(delivery_ids),
                DeliveryRow.state.in_((DeliveryState.PENDING, DeliveryState.HELD)),
                or_(
                    DeliveryRow.passed_with.is_(None),
                    DeliveryRow.passed_with == event_id,
                    DeliveryRow.next_attempt_at <= now,
                ),
                or_(DeliveryRow.lease_until.is_(None), DeliveryRow.lease_until < now),
            )
            .values(
                state=DeliveryState.PENDING,
                passed_with=event_id,
                next_attempt_at=until,
                lease_owner=None,
                lease_until=None,
            )
        )
        if passed.rowcount != len(delivery_ids):
            raise LeaseLost
        if rest_due:
            self._connection.execute(
                update(DeliveryRow)
                .where(
                    DeliveryRow.conversation_id == conversation_id,
                    DeliveryRow.state.in_((DeliveryState.PENDING, DeliveryState.HELD)),
                    DeliveryRow.passed_with.is_(None),
                    DeliveryRow.lease_owner.is_(None),
                )
                .values(state=DeliveryState.PENDING, next_attempt_at=now)
            )

    def mark_passed(self, conversation_id: int, event_id: str, now: datetime, keep_until: datetime) -> None:
        self._connection.execute(
            update(DeliveryRow)
            .where(
                DeliveryRow.conversation_id == conversation_id,
                DeliveryRow.passed_with == event_id,
                DeliveryRow.state == DeliveryState.PENDING,
            )
            .values(
                state=DeliveryState.SENT,
                attempts=DeliveryRow.attempts + 1,
                sent_at=now,
                next_attempt_at=now,
                keep_until=keep_until,
                reason=None,
            )
        )

    def is_owed(self, conversation_id: int, event_id: str) -> bool:
        owed = select(DeliveryRow.id).where(
            DeliveryRow.conversation_id == conversation_id,
            or_(
                DeliveryRow.state.in_((DeliveryState.PENDING, DeliveryState.HELD)),
                DeliveryRow.passed_with == event_id,
            ),
        )
        return self._connection.execute(owed.limit(1)).first() is not None

    def kept(self, delivery_id: int, now: datetime) -> Segment | None:
        row = self._connection.execute(
            select(DeliveryRow.id, DeliveryRow.body, DeliveryRow.keep_until, DeliveryRow.state, User.data_key)
            .join(User, User.id == DeliveryRow.user_id)
            .where(DeliveryRow.id == delivery_id)
        ).one_or_none()
        if row is None or not row.body:
            return None
        if row.state == DeliveryState.SENT and (row.keep_until is None or row.keep_until <= now):
            return None
        return unpacked(self._keys.open(row.data_key, row.body, row.id))

    def has_kept(self, now: datetime) -> bool:
        kept = select(DeliveryRow.id).where(DeliveryRow.keep_until < now).limit(1)
        return self._connection.execute(kept).first() is not None

    def forget_kept(self, now: datetime) -> int:
        return self._connection.execute(_FORGET_KEPT, {"now": now}).rowcount

    def mark_failed(
        self, delivery_id: int, owner: str, reason: str, next_attempt_at: datetime | None, now: datetime
    ) -> None:
        self._connection.execute(
            update(DeliveryRow)
            .where(
                DeliveryRow.id == delivery_id,
                DeliveryRow.state == DeliveryState.PENDING,
                DeliveryRow.lease_owner == owner,
            )
            .values(
                state=DeliveryState.DEAD if next_attempt_at is None else DeliveryState.PENDING,
                attempts=DeliveryRow.attempts + 1,
                next_attempt_at=next_attempt_at or now,
                reason=reason[:64],
                lease_owner=None,
                lease_until=None,
            )
        )

    def bury_conversation(self, conversation_id: int, reason: str, now: datetime) -> int:
        self._connection.execute(
            update(Conversation).where(Conversation.id == conversation_id).values(gone_at=now)
        )
        return self._connection.execute(
            update(DeliveryRow)
            .where(
                DeliveryRow.conversation_id == conversation_id,
                DeliveryRow.state.in_((DeliveryState.PENDING, DeliveryState.HELD)),
            )
            .values(
                state=DeliveryState.DEAD,
                reason=reason[:64],
                next_attempt_at=now,
                lease_owner=None,
                lease_until=None,
            )
        ).rowcount

    def conversations_due(
        self, owner: str, now: datetime, limit: int, platforms: Sequence[Platform] = EVERY_PLATFORM
    ) -> builtins.list[int]:
        # The sum keeps SQLite from walking through all deliveries ever in the order of their conversations.
        conversation = (DeliveryRow.conversation_id + 0).label("conversation")
        return list(
            self._connection.execute(
                select(conversation)
                .join(Conversation, Conversation.id == DeliveryRow.conversation_id)
                .where(
                    Conversation.platform.in_(platforms),
                    DeliveryRow.state == DeliveryState.PENDING,
                    DeliveryRow.next_attempt_at <= now,
                    or_(
                        DeliveryRow.lease_until.is_(None),
                        DeliveryRow.lease_until < now,
                        DeliveryRow.lease_owner == owner,
                    ),
                )
                .group_by(conversation)
                .order_by(func.min(DeliveryRow.next_attempt_at))
                .limit(limit)
            ).scalars()
        )

    def sent_since(self, platforms: Sequence[Platform], since: datetime) -> builtins.list[SentDelivery]:
        rows = self._connection.execute(
            select(Conversation.platform, Conversation.chat_id, Conversation.kind, DeliveryRow.sent_at)
            .join(Conversation, Conversation.id == DeliveryRow.conversation_id)
            .where(
                DeliveryRow.state == DeliveryState.SENT,
                DeliveryRow.next_attempt_at >= since,
                Conversation.platform.in_(platforms),
            )
            .order_by(DeliveryRow.next_attempt_at)
        )
        return [
            SentDelivery(Platform(row.platform), row.chat_id, ConversationKind(row.kind), row.sent_at)
            for row in rows
        ]

    def list(self, state: DeliveryState, limit: int) -> builtins.list[DeliveryRecord]:
        rows = self._connection.execute(
            select(
                DeliveryRow.id,
                Conversation.platform,
                DeliveryRow.state,
                DeliveryRow.attempts,
                DeliveryRow.reason,
                DeliveryRow.created_at,
                DeliveryRow.next_attempt_at,
            )
            .join(Conversation, Conversation.id == DeliveryRow.conversation_id)
            .where(DeliveryRow.state == state)
            .order_by(DeliveryRow.next_attempt_at)
            .limit(limit)
        )
        return [
            DeliveryRecord(
                id=row.id,
                platform=Platform(row.platform),
                state=DeliveryState(row.state),
                attempts=row.attempts,
                reason=row.reason,
                created_at=row.created_at,
                next_attempt_at=row.next_attempt_at,
            )
            for row in rows
        ]

    def replay(self, delivery_ids: Sequence[int], now: datetime) -> int:
        return self._connection.execute(
            update(DeliveryRow)
            .where(DeliveryRow.id.in_(delivery_ids), DeliveryRow.state == DeliveryState.DEAD)
            .values(state=DeliveryState.PENDING, attempts=0, next_attempt_at=now)
        ).rowcount

    def _open(self, row: AnyRow) -> Delivery:
        return Delivery(
            id=row.id,
            conversation_id=row.conversation_id,
            platform=Platform(row.platform),
            chat_id=row.chat_id,
            kind=ConversationKind(row.kind),
            segment=unpacked(self._keys.open(row.data_key, row.body, row.id)),
            attempts=row.attempts,
            pending=row.state != DeliveryState.SENT,
        )


_OF_CONVERSATION = and_(
    DeliveryRow.conversation_id == bindparam("conversation"),
    DeliveryRow.state == DeliveryState.PENDING,
)
_LEASE = (
    update(DeliveryRow)
    .where(
        _OF_CONVERSATION,
        # Not what rides on a response at this moment.
        or_(
            DeliveryRow.passed_with.is_(None),
            DeliveryRow.next_attempt_at <= bindparam("now", type_=Utc()),
        ),
        or_(
            DeliveryRow.lease_until.is_(None),
            DeliveryRow.lease_until < bindparam("now", type_=Utc()),
            DeliveryRow.lease_owner == bindparam("me"),
        ),
    )
    .values(lease_owner=bindparam("me"), lease_until=bindparam("until", type_=Utc()))
)
_RELEASE = (
    update(DeliveryRow)
    .where(_OF_CONVERSATION, DeliveryRow.lease_owner == bindparam("me"))
    .values(lease_owner=None, lease_until=None)
)
_RENEW = (
    update(DeliveryRow)
    .where(
        DeliveryRow.conversation_id.in_(bindparam("conversations", expanding=True)),
        DeliveryRow.state == DeliveryState.PENDING,
        DeliveryRow.lease_owner == bindparam("me"),
    )
    .values(lease_until=bindparam("until", type_=Utc()))
)
_UNSENT_COLUMNS = (
    select(
        DeliveryRow.id,
        DeliveryRow.conversation_id,
        DeliveryRow.body,
        DeliveryRow.attempts,
        DeliveryRow.next_attempt_at,
        DeliveryRow.lease_owner,
        DeliveryRow.lease_until,
        DeliveryRow.passed_with,
        DeliveryRow.state,
        Conversation.platform,
        Conversation.chat_id,
        Conversation.kind,
        User.data_key,
    )
    .join(Conversation, Conversation.id == DeliveryRow.conversation_id)
    .join(User, User.id == DeliveryRow.user_id)
    .order_by(DeliveryRow.urgent.desc(), DeliveryRow.id)
)
_UNSENT = _UNSENT_COLUMNS.where(_OF_CONVERSATION)
_MARK_SENT = (
    update(DeliveryRow)
    .where(DeliveryRow.id == bindparam("delivery"))
    .values(
        state=DeliveryState.SENT,
        body=b"",  # the history has the words
        attempts=DeliveryRow.attempts + 1,
        platform_message_id=bindparam("message", type_=Exact()),
        sent_at=bindparam("now", type_=Utc()),
        next_attempt_at=bindparam("now", type_=Utc()),  # so that what was sent lately is found by it
        reason=None,
        lease_owner=None,
        lease_until=None,
    )
)
_MARK_SENT_AND_KEPT = (
    update(DeliveryRow)
    .where(DeliveryRow.id == bindparam("delivery"))
    .values(
        state=DeliveryState.SENT,
        attempts=DeliveryRow.attempts + 1,
        platform_message_id=bindparam("message", type_=Exact()),
        sent_at=bindparam("now", type_=Utc()),
        next_attempt_at=bindparam("now", type_=Utc()),
        keep_until=bindparam("keep", type_=Utc()),
        reason=None,
        lease_owner=None,
        lease_until=None,
    )
)
_FORGET_KEPT = (
    update(DeliveryRow)
    .where(DeliveryRow.keep_until < bindparam("now", type_=Utc()))
    .values(body=b"", keep_until=None)
)
