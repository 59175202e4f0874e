"""API keys, by hash."""

from __future__ import annotations

import builtins
from datetime import datetime

from sqlalchemy import Connection, insert, select, update

from core.ids import new_id
from core.ports import ApiKey
from storage.sql.models import ApiKeyRow
from storage.sql.types import AnyRow


class SqlApiKeys:
    """Implements core.ports.ApiKeyRows."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, name: str, key_hash: bytes, scopes: frozenset[str], now: datetime) -> ApiKey:
        key = ApiKey(new_id(), name, scopes, created_at=now, last_used_at=None, revoked_at=None)
        self._connection.execute(
            insert(ApiKeyRow),
            {
                "id": key.id,
                "name": name,
                "key_hash": key_hash,
                "scopes": " ".join(sorted(scopes)),
                "created_at": now,
            },
        )
        return key

    def find(self, key_hash: bytes) -> ApiKey | None:
        row = self._connection.execute(
            _KEYS.where(ApiKeyRow.key_hash == key_hash, ApiKeyRow.revoked_at.is_(None))
        ).one_or_none()
        return None if row is None else _open(row)

    def list(self) -> builtins.list[ApiKey]:
        return [_open(row) for row in self._connection.execute(_KEYS.order_by(ApiKeyRow.id))]

    def revoke(self, key_id: int, now: datetime) -> bool:
        revoked = self._connection.execute(
            update(ApiKeyRow)
            .where(ApiKeyRow.id == key_id, ApiKeyRow.revoked_at.is_(None))
            .values(revoked_at=now)
        )
        return revoked.rowcount == 1

    def mark_used(self, key_id: int, now: datetime) -> None:
        self._connection.execute(update(ApiKeyRow).where(ApiKeyRow.id == key_id).values(last_used_at=now))


_KEYS = select(
    ApiKeyRow.id,
    ApiKeyRow.name,
    ApiKeyRow.scopes,
    ApiKeyRow.created_at,
    ApiKeyRow.last_used_at,
    ApiKeyRow.revoked_at,
)


def _open(row: AnyRow) -> ApiKey:
    return ApiKey(
        id=row.id,
        name=row.name,
        scopes=frozenset(row.scopes.split()),
        created_at=row.created_at,
        last_used_at=row.last_used_at,
        revoked_at=row.revoked_at,
    )
