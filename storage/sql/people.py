"""Users, their identities and their wrapped data keys."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import Connection, bindparam, delete, insert, select

from core.ids import new_id
from core.messages import IncomingMessage, Platform
from storage.keys import KeyRing
from storage.sql.insert import insert_new
from storage.sql.models import Identity, User
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
)
