"""Reading the history's sealed rows."""

from __future__ import annotations

from sqlalchemy import select

from core.messages import ChatMessage, Role, Source
from storage.keys import KeyRing
from storage.sql.models import ChatMessageRow, User
from storage.sql.types import AnyRow

HISTORY_COLUMNS = (
    ChatMessageRow.id,
    ChatMessageRow.turn_id,
    ChatMessageRow.role,
    ChatMessageRow.source,
    ChatMessageRow.body,
    ChatMessageRow.created_at,
    User.data_key,
)
HISTORY = select(*HISTORY_COLUMNS).join(User, User.id == ChatMessageRow.user_id)


def open_message(keys: KeyRing, row: AnyRow) -> ChatMessage:
    """The message in a row of `HISTORY_COLUMNS`."""
    return ChatMessage(
        id=row.id,
        turn_id=row.turn_id,
        role=Role(row.role),
        text=keys.open(row.data_key, row.body, row.id),
        source=Source(row.source),
        created_at=row.created_at,
    )
