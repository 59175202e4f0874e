"""Conversations, their leases and their history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime

from sqlalchemy import Connection, Update, and_, bindparam, delete, or_, select, union, update

from core.messages import (
    EVERY_PLATFORM,
    ChatMessage,
    ConversationKind,
    DeliveryState,
    Left,
    Moved,
    Platform,
    Role,
    Source,
)
from core.ports import ClaimedConversation, Pending
from core.settings import ConversationSettings
from core.wording import kept_in_words
from storage.keys import KeyRing
from storage.sql.history import HISTORY, open_message
from storage.sql.inbox import InboxState, SqlInbox
from storage.sql.models import (
    ChatMessageRow,
    Conversation,
    DeliveryRow,
    FeedbackRow,
    InboxMessage,
)
from storage.sql.people import person_settings
from storage.sql.place_settings import conversation_settings, settings_of_places
from storage.sql.places import in_chat
from storage.sql.types import AnyRow, Utc, batched_ids


class SqlConversations:
    """Implements core.ports.ConversationRows."""

    def __init__(self, connection: Connection, keys: KeyRing) -> None:
        self._connection = connection
        self._keys = keys
        self._inbox = SqlInbox(connection, keys)

    def claim(
        self,
        conversation_id: int,
        owner: str,
        now: datetime,
        until: datetime,
        window: int,
        platforms: Sequence[Platform] = EVERY_PLATFORM,
    ) -> ClaimedConversation | None:
        taken = self._connection.execute(
            _CLAIM,
            {
                "conversation": conversation_id,
                "me": owner,
                "now": now,
                "until": until,
                "platforms": platforms,
            },
        )
        if taken.rowcount == 0:
            return None
        rows = self._inbox.unsettled(conversation_id)
        if not rows:
            self.release(conversation_id, owner)
            return None
        place = next((row for row in rows if row.state == InboxState.PENDING), rows[0])
        return ClaimedConversation(
            id=conversation_id,
            platform=Platform(place.platform),
            chat_id=place.chat_id,
            kind=ConversationKind(place.kind),
            settings=self._settings(place),
            own_settings=conversation_settings(place.settings),
            person=person_settings(place.person),
            paused=place.paused_at is not None,
            preview_message_id=place.preview_message_id,
            attempts=place.attempts,
            pending=tuple(self._inbox.open(row) for row in rows if row.state == InboxState.PENDING),
            deferred=tuple(self._inbox.open(row) for row in rows if row.state == InboxState.DEFERRED),
            window=self._newest(conversation_id, None, window, place.window_from),
        )

    def _settings(self, place: AnyRow) -> ConversationSettings:
        if place.kind != ConversationKind.GROUP or "/" not in place.chat_id:
            return conversation_settings(place.settings)
        return settings_of_places(self._connection, Platform(place.platform), [place.chat_id])[place.chat_id]

    def renew(self, owner: str, conversation_ids: Sequence[int], until: datetime) -> None:
        for some in batched_ids(conversation_ids):
            self._connection.execute(_RENEW, {"conversations": some, "me": owner, "until": until})

    def release(self, conversation_id: int, owner: str) -> None:
        self._connection.execute(
            update(Conversation)
            .where(Conversation.id == conversation_id, Conversation.lease_owner == owner)
            .values(lease_owner=None, lease_until=None, attempts=0)
        )

    def postpone(self, conversation_id: int, owner: str, not_before: datetime) -> None:
        self._connection.execute(
            update(Conversation)
            .where(Conversation.id == conversation_id, Conversation.lease_owner == owner)
            .values(lease_owner=None, lease_until=not_before)
        )

    def release_all(self, owner: str) -> None:
        for table in (Conversation, DeliveryRow):
            self._connection.execute(
                update(table).where(table.lease_owner == owner).values(lease_owner=None, lease_until=None)
            )

    def lease_owners(self) -> list[str]:
        owners = union(
            *(
                select(table.lease_owner).where(table.lease_owner.is_not(None)).distinct()
                for table in (Conversation, DeliveryRow)
            )
        )
        return [owner for owner in self._connection.execute(owners).scalars() if owner is not None]

    def history(
        self, platform: Platform, chat_id: str, before: int | None, limit: int
    ) -> tuple[ChatMessage, ...]:
        conversation_id = self._id_of(platform, chat_id)
        if conversation_id is None:
            return ()
        # What waits is read first: a turn that is committed between the two moves it into the other.
        waiting = self._inbox.pending(conversation_id)
        seen = {
            pending.inbox_id: _as_history(pending)
            for pending in waiting
            if before is None or pending.inbox_id < before
        }
        seen.update((written.id, written) for written in self._newest(conversation_id, before, limit))
        return tuple(sorted(seen.values(), key=lambda message: message.id)[-limit:])

    def update_settings(self, conversation_id: int, settings: ConversationSettings) -> None:
        chosen = {name: value for name, value in asdict(settings).items() if value not in (None, ())}
        self._connection.execute(
            update(Conversation).where(Conversation.id == conversation_id).values(settings=chosen)
        )

    def forget_settings(self, platform: Platform, chat_id: str) -> None:
        self._connection.execute(
            update(Conversation)
            .where(Conversation.platform == platform, in_chat(chat_id))
            .values(settings={}, paused_at=None)
        )

    def pause(self, conversation_id: int, since: datetime | None) -> None:
        self._connection.execute(
            update(Conversation).where(Conversation.id == conversation_id).values(paused_at=since)
        )

    def begin_anew(self, conversation_id: int, window_from: int) -> None:
        self._connection.execute(
            update(Conversation).where(Conversation.id == conversation_id).values(window_from=window_from)
        )
        self._connection.execute(
            update(InboxMessage)
            .where(InboxMessage.conversation_id == conversation_id, InboxMessage.state == InboxState.DEFERRED)
            .values(state=InboxState.DONE)
        )

    def set_preview(self, conversation_id: int, owner: str, message_id: str) -> None:
        self._connection.execute(
            update(Conversation)
            .where(Conversation.id == conversation_id, Conversation.lease_owner == owner)
            .values(preview_message_id=message_id)
        )

    def set_reachable(self, platform: Platform, chat_id: str, *, reachable: bool, now: datetime) -> None:
        self._connection.execute(
            update(Conversation)
            .where(Conversation.platform == platform, in_chat(chat_id))
            .values(gone_at=None if reachable else now)
        )
        if not reachable:  # nor is it sent to somebody who comes back one day
            there = select(Conversation.id).where(Conversation.platform == platform, in_chat(chat_id))
            self._connection.execute(
                update(DeliveryRow)
                .where(
                    DeliveryRow.conversation_id.in_(there),
                    DeliveryRow.state.in_((DeliveryState.PENDING, DeliveryState.HELD)),
                    DeliveryRow.lease_owner.is_(None),
                )
                .values(state=DeliveryState.DEAD, reason="recipient_gone", next_attempt_at=now)
            )

    def groups(self, platform: Platform) -> tuple[str, ...]:
        places = self._connection.execute(
            select(Conversation.chat_id).where(
                Conversation.platform == platform,
                Conversation.kind == ConversationKind.GROUP,
                Conversation.gone_at.is_(None),
            )
        ).scalars()
        return tuple(sorted({place.partition("/")[0] for place in places}))

    def leave(self, event: Left, now: datetime) -> None:
        self.set_reachable(event.platform, event.chat_id, reachable=False, now=now)
        self.forget_settings(event.platform, event.chat_id)

    def move(self, event: Moved) -> int | None:
        old, new = (self._id_of(event.platform, chat_id) for chat_id in (event.chat_id, event.new_chat_id))
        if old is None:
            return new
        for table in (
            InboxMessage,
            DeliveryRow,
        ):  # messages are counted anew there: old ids would name others
            self._connection.execute(
                update(table).where(table.conversation_id == old).values(platform_message_id=None)
            )
        if new is None:
            self._connection.execute(
                update(Conversation)
                .where(Conversation.id == old)
                .values(chat_id=event.new_chat_id, gone_at=None)
            )
            return old
        self._merge(old, new)
        return new

    def _merge(self, old: int, new: int) -> None:
        """People wrote at the new place before we heard that it is the old one."""
        kept = self._connection.execute(
            select(Conversation.settings, Conversation.paused_at, Conversation.window_from).where(
                Conversation.id == old
            )
        ).one()
        self._connection.execute(
            update(Conversation).where(Conversation.id == new).values(**kept._mapping, gone_at=None)
        )
        for table in (InboxMessage, ChatMessageRow, DeliveryRow, FeedbackRow):
            self._connection.execute(
                update(table).where(table.conversation_id == old).values(conversation_id=new)
            )
        self._connection.execute(delete(Conversation).where(Conversation.id == old))

    def _id_of(self, platform: Platform, chat_id: str) -> int | None:
        found: int | None = self._connection.execute(
            select(Conversation.id).where(Conversation.platform == platform, Conversation.chat_id == chat_id)
        ).scalar()
        return found

    def _newest(
        self, conversation_id: int, before: int | None, limit: int, since: int | None = None
    ) -> tuple[ChatMessage, ...]:
        query, values = (_NEWEST, {"conversation": conversation_id, "limit": limit})
        if before is not None:
            query, values = (_NEWEST_BEFORE, {**values, "before": before})
        if since is not None:
            query, values = (query.where(ChatMessageRow.id >= bindparam("since")), {**values, "since": since})
        rows = self._connection.execute(query, values).all()
        return tuple(open_message(self._keys, row) for row in reversed(rows))


def _as_history(pending: Pending) -> ChatMessage:
    return ChatMessage(
        id=pending.inbox_id,
        turn_id=0,
        role=Role.USER,
        text=kept_in_words(pending.message),
        source=Source.PERSON,
        created_at=pending.received_at,
    )


def _claim() -> Update:
    free = or_(
        and_(Conversation.lease_owner.is_(None), Conversation.lease_until.is_(None)),
        Conversation.lease_until < bindparam("now", type_=Utc()),
        Conversation.lease_owner == bindparam("me"),
    )
    return (
        update(Conversation)
        .where(
            Conversation.id == bindparam("conversation"),
            Conversation.platform.in_(bindparam("platforms", expanding=True)),
            free,
        )
        .values(
            lease_owner=bindparam("me"),
            lease_until=bindparam("until", type_=Utc()),
            attempts=Conversation.attempts + 1,
        )
    )


_CLAIM = _claim()
_RENEW = (
    update(Conversation)
    .where(
        Conversation.id.in_(bindparam("conversations", expanding=True)),
        Conversation.lease_owner == bindparam("me"),
    )
    .values(lease_until=bindparam("until", type_=Utc()))
)
_NEWEST = (
    HISTORY.where(ChatMessageRow.conversation_id == bindparam("conversation"))
    .order_by(ChatMessageRow.id.desc())
    .limit(bindparam("limit"))
)
_NEWEST_BEFORE = _NEWEST.where(ChatMessageRow.id < bindparam("before"))
