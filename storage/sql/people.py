"""Users, their identities and their wrapped data keys."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, delete, exists, insert, or_, select, update

from core.ids import new_id
from core.language import Language
from core.messages import ConversationKind, DeliveryState, IncomingMessage, Platform
from core.ports import Pending, PersonRecord
from core.settings import PersonSettings, QuietHours
from storage.keys import KeyRing
from storage.sql.history import HISTORY, open_message
from storage.sql.insert import insert_new
from storage.sql.models import (
    ChatMessageRow,
    Conversation,
    DeliveryRow,
    FeedbackRow,
    Identity,
    InboxMessage,
    ModelUsageRow,
    User,
)
from storage.sql.types import by_platform

Account = tuple[Platform, str]


def data_keys(connection: Connection, user_ids: Iterable[int]) -> dict[int, bytes]:
    """The wrapped data keys of users."""
    rows = connection.execute(_DATA_KEYS, {"users": list(set(user_ids))})
    return {row.id: row.data_key for row in rows}


def any_data_key(connection: Connection) -> bytes | None:
    """Some wrapped data key, to try the master key on; None in an empty database."""
    return connection.execute(select(User.data_key).limit(1)).scalar()


def find_or_add(
    connection: Connection, keys: KeyRing, messages: Iterable[IncomingMessage], now: datetime
) -> dict[Account, tuple[int, bytes]]:
    """The senders' users with their wrapped keys; those that are new are added."""
    languages: dict[Account, str | None] = {(m.platform, m.sender_id): m.language for m in messages}
    known = _users_of(connection, languages)
    for account, language in languages.items():
        if account not in known:
            _add(connection, keys, account, language, now)
    if len(known) < len(languages):
        known = _users_of(connection, languages)
    return known


def _users_of(connection: Connection, accounts: Iterable[Account]) -> dict[Account, tuple[int, bytes]]:
    return {
        (platform, name): (user_id, key)
        for platform, names in by_platform(accounts).items()
        for name, user_id, key in connection.execute(_USERS_OF, {"platform": platform, "names": names})
    }


def _add(
    connection: Connection, keys: KeyRing, account: Account, language: str | None, now: datetime
) -> None:
    user_id = new_id()
    connection.execute(
        insert(User),
        {
            "id": user_id,
            "data_key": keys.new_data_key(),
            "language": language[:35] if language else None,
            "created_at": now,
        },
    )
    is_new = insert_new(
        connection,
        Identity,
        [
            {
                "id": new_id(),
                "user_id": user_id,
                "platform": account[0],
                "platform_user_id": account[1],
                "created_at": now,
            }
        ],
    )
    if not is_new:  # another process met this person at the same moment: theirs stands
        connection.execute(delete(User).where(User.id == user_id))


_DATA_KEYS = select(User.id, User.data_key).where(User.id.in_(bindparam("users", expanding=True)))
_USERS_OF = (
    select(Identity.platform_user_id, User.id, User.data_key)
    .join(User, User.id == Identity.user_id)
    .where(
        Identity.platform == bindparam("platform"),
        Identity.platform_user_id.in_(bindparam("names", expanding=True)),
    )
    # Who is being erased meanwhile (people.erase) waits until the message is stored. SQLite has one writer anyway.
    .with_for_update(read=True, of=Identity)
)


def person_settings(found: dict[str, Any] | None) -> PersonSettings:
    """Out of the JSON of users.settings."""
    found = found or {}
    language, hours, consented = (found.get(name) for name in ("language", "quiet_hours", "consented_at"))
    return PersonSettings(
        language=Language(language) if language else None,
        time_zone=found.get("time_zone"),
        quiet_hours=QuietHours(**hours) if hours else None,
        consented_at=datetime.fromisoformat(consented) if consented else None,
    )


class SqlPeople:
    """Implements core.ports.PeopleRows."""

    def __init__(self, connection: Connection, keys: KeyRing) -> None:
        self._connection = connection
        self._keys = keys

    def update_settings(self, user_id: int, settings: PersonSettings) -> None:
        chosen = {name: value for name, value in asdict(settings).items() if value is not None}
        if settings.consented_at is not None:
            chosen["consented_at"] = settings.consented_at.isoformat()
        self._connection.execute(update(User).where(User.id == user_id).values(settings=chosen))

    def export(self, user_id: int) -> PersonRecord:
        user = self._connection.execute(
            select(User.settings, User.created_at, User.data_key).where(User.id == user_id)
        ).one()
        return PersonRecord(
            accounts=tuple(
                {"platform": row.platform, "id": row.platform_user_id, "since": row.created_at.isoformat()}
                for row in self._connection.execute(
                    select(Identity.platform, Identity.platform_user_id, Identity.created_at).where(
                        Identity.user_id == user_id
                    )
                )
            ),
            settings=person_settings(user.settings),
            since=user.created_at,
            chats=self._chats(user_id),
            messages=self._messages(user_id),
            feedback=self._feedback(user_id, user.data_key),
            usage=self._usage(user_id),
        )

    def erase(self, by: Pending, erase_at: datetime, here: int) -> None:
        user_id = by.user_id
        # The accounts first: who is just storing a message of theirs has them locked, and is waited for.
        self._connection.execute(delete(Identity).where(Identity.user_id == user_id))
        self._hand_over_newer(by, erase_at)
        places = self._places(InboxMessage, user_id) - {here}
        for table in (InboxMessage, ChatMessageRow, DeliveryRow, FeedbackRow, ModelUsageRow):
            self._connection.execute(delete(table).where(table.user_id == user_id))
        self._remove_empty(places)
        self._connection.execute(
            update(Conversation)
            .where(Conversation.id == here, Conversation.kind == ConversationKind.PRIVATE)
            .values(settings={}, paused_at=None, window_from=None, preview_message_id=None)
        )
        self._connection.execute(
            update(User).where(User.id == user_id).values(erase_at=erase_at, settings=None, language=None)
        )

    def _hand_over_newer(self, by: Pending, now: datetime) -> None:
        """What somebody wrote after they asked to be erased is the first that is known of them."""
        newer = self._connection.execute(
            select(InboxMessage.id, InboxMessage.body, User.data_key)
            .join(User, User.id == InboxMessage.user_id)
            .where(
                InboxMessage.user_id == by.user_id,
                InboxMessage.id > by.inbox_id,
                InboxMessage.body.is_not(None),
            )
        ).all()
        if not newer:
            return
        message = by.message
        account = (message.platform, message.sender_id)
        _add(self._connection, self._keys, account, message.language, now)
        user_id, data_key = _users_of(self._connection, [account])[account]
        for row in newer:
            text = self._keys.open(row.data_key, row.body, row.id)
            self._connection.execute(
                update(InboxMessage)
                .where(InboxMessage.id == row.id)
                .values(user_id=user_id, body=self._keys.seal(data_key, text, row.id))
            )

    def is_leaving(self) -> bool:
        return (
            self._connection.execute(select(User.id).where(User.erase_at.is_not(None)).limit(1)).first()
            is not None
        )

    def erase_left(self, now: datetime) -> int:
        unsent = exists().where(
            DeliveryRow.user_id == User.id,
            or_(
                DeliveryRow.state.in_((DeliveryState.PENDING, DeliveryState.HELD)),
                DeliveryRow.keep_until > now,  # it may be asked for once more
            ),
        )
        leaving = (
            self._connection.execute(
                select(User.id).where(User.erase_at.is_not(None), or_(User.erase_at <= now, ~unsent))
            )
            .scalars()
            .all()
        )
        for user_id in leaving:
            places = self._places(DeliveryRow, user_id)
            self._connection.execute(delete(User).where(User.id == user_id))
            self._remove_empty(places)
        return len(leaving)

    def _places(self, table: type[InboxMessage | DeliveryRow], user_id: int) -> set[int]:
        """Conversations with a person's rows."""
        found = self._connection.execute(select(table.conversation_id).where(table.user_id == user_id))
        return set(found.scalars())

    def _remove_empty(self, conversation_ids: Iterable[int]) -> None:
        """Private chats in which nothing is left."""
        left = [
            exists().where(table.conversation_id == Conversation.id)
            for table in (InboxMessage, ChatMessageRow, DeliveryRow)
        ]
        for conversation_id in conversation_ids:
            self._connection.execute(
                delete(Conversation).where(
                    Conversation.id == conversation_id,
                    Conversation.kind == ConversationKind.PRIVATE,
                    *(~found for found in left),
                )
            )

    def _messages(self, user_id: int) -> tuple[dict[str, str], ...]:
        """What they said and what was said to them."""
        rows = self._connection.execute(
            HISTORY.where(ChatMessageRow.user_id == user_id).order_by(ChatMessageRow.id)
        )
        return tuple(
            {
                "at": message.created_at.isoformat(),
                "who": message.role.value,
                "source": message.source.value,
                "text": message.text,
            }
            for message in (open_message(self._keys, row) for row in rows)
        )

    def _chats(self, user_id: int) -> tuple[dict[str, object], ...]:
        rows = self._connection.execute(
            select(
                Conversation.platform, Conversation.chat_id, Conversation.settings, Conversation.paused_at
            ).where(
                Conversation.id.in_(self._places(InboxMessage, user_id)),
                Conversation.kind == ConversationKind.PRIVATE,
            )
        )
        return tuple(
            {
                "platform": row.platform,
                "id": row.chat_id,
                "settings": row.settings,
                "paused": row.paused_at is not None,
            }
            for row in rows
        )

    def _feedback(self, user_id: int, data_key: bytes) -> tuple[dict[str, str], ...]:
        rows = self._connection.execute(
            select(FeedbackRow.id, FeedbackRow.kind, FeedbackRow.body, FeedbackRow.created_at)
            .where(FeedbackRow.user_id == user_id)
            .order_by(FeedbackRow.id)
        )
        return tuple(
            {
                "at": row.created_at.isoformat(),
                "kind": row.kind,
                "what": self._keys.open(data_key, row.body, row.id),
            }
            for row in rows
        )

    def _usage(self, user_id: int) -> tuple[dict[str, str | int], ...]:
        rows = self._connection.execute(
            select(
                ModelUsageRow.created_at,
                ModelUsageRow.model,
                ModelUsageRow.prompt_tokens,
                ModelUsageRow.completion_tokens,
            )
            .where(ModelUsageRow.user_id == user_id)
            .order_by(ModelUsageRow.id)
        )
        return tuple(
            {
                "at": row.created_at.isoformat(),
                "model": row.model,
                "prompt_tokens": row.prompt_tokens,
                "completion_tokens": row.completion_tokens,
            }
            for row in rows
        )
