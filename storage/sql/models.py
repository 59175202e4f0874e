"""The tables. Each index is there for a query of this package; tests/integration/test_query_plans.py says so.

Ids are made by core.ids, never by the database. A person's chat message has the id of its inbox row.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    JSON,
    ForeignKey,
    Index,
    MetaData,
    Numeric,
    String,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from storage.sql.types import Exact, Fixed, Id, Sealed, Utc

_MYSQL = {"mysql_charset": "utf8mb4", "mysql_engine": "InnoDB"}


class Table(DeclarativeBase):
    __table_args__: Any = _MYSQL
    metadata = MetaData(
        naming_convention={  # so that a migration can name what it changes
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class User(Table):
    """One person. `data_key` is wrapped by ENCRYPTION_KEY; without it nothing they wrote can be read."""

    __tablename__ = "users"
    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=False)
    data_key: Mapped[bytes] = mapped_column(Fixed)
    language: Mapped[str | None] = mapped_column(String(35))
    settings: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    erase_at: Mapped[datetime | None] = mapped_column(Utc, index=True)
    """Everything of theirs is gone but the farewell on its way to them: the row and its key go then, at the latest."""
    created_at: Mapped[datetime] = mapped_column(Utc)


class Identity(Table):
    """A person's account on one platform."""

    __tablename__ = "identities"
    __table_args__ = (UniqueConstraint("platform", "platform_user_id"), _MYSQL)
    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=False)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    platform: Mapped[str] = mapped_column(String(16))
    platform_user_id: Mapped[str] = mapped_column(Exact(512))
    created_at: Mapped[datetime] = mapped_column(Utc)


class Conversation(Table):
    """One place where people talk with the bot, with its lease (who works on it, until when).

    `lease_until` with no owner holds the conversation back until then (a failed turn's backoff).
    `attempts` counts claims since a turn was last finished.
    """

    __tablename__ = "conversations"
    __table_args__ = (
        UniqueConstraint("platform", "chat_id"),
        Index("ix_conversations_lease_owner", "lease_owner"),
        _MYSQL,
    )
    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=False)
    platform: Mapped[str] = mapped_column(String(16))
    chat_id: Mapped[str] = mapped_column(Exact(512))
    kind: Mapped[str] = mapped_column(String(16))
    settings: Mapped[dict[str, Any]] = mapped_column(JSON)
    lease_owner: Mapped[str | None] = mapped_column(String(128))
    lease_until: Mapped[datetime | None] = mapped_column(Utc)
    attempts: Mapped[int] = mapped_column(default=0)
    gone_at: Mapped[datetime | None] = mapped_column(Utc)
    """Since when nothing can be sent there: blocked, removed."""
    paused_at: Mapped[datetime | None] = mapped_column(Utc)
    """Since when nothing is to be sent there unasked (in a group: at all)."""
    window_from: Mapped[int | None] = mapped_column(Id)
    """What was said before this id is no part of the conversation any more: its person began anew."""
    preview_message_id: Mapped[str | None] = mapped_column(Exact())
    """A message that holds a part of the answer being written, to become the whole one."""
    created_at: Mapped[datetime] = mapped_column(Utc)


class InboxMessage(Table):
    """An event that a platform handed over. `body` (sealed JSON) is emptied once it is answered:
    the text then stands in chat_messages only."""

    __tablename__ = "inbox"
    __table_args__ = (
        UniqueConstraint("platform", "event_id"),
        Index("ix_inbox_state_conversation", "state", "conversation_id", "id"),
        Index("ix_inbox_conversation_state", "conversation_id", "state", "id"),
        Index("ix_inbox_platform_message", "conversation_id", "platform_message_id"),
        _MYSQL,
    )
    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=False)
    platform: Mapped[str] = mapped_column(String(16))
    event_id: Mapped[str] = mapped_column(Exact())
    conversation_id: Mapped[int] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"))
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    state: Mapped[str] = mapped_column(String(16))
    body: Mapped[bytes | None] = mapped_column(Sealed)
    platform_message_id: Mapped[str | None] = mapped_column(Exact())
    edits: Mapped[int] = mapped_column(default=0, server_default="0")
    """How often it was changed while it waited: a turn that read it before is void."""
    tries: Mapped[int] = mapped_column(default=1, server_default="1")
    """How often its platform brought it, where that is counted."""
    turn_id: Mapped[int | None] = mapped_column(Id)
    received_at: Mapped[datetime] = mapped_column(Utc)
    done_at: Mapped[datetime | None] = mapped_column(Utc)


class ChatMessageRow(Table):
    """The history. `user_id` is whose key seals the text: the writer's, or for a reply the person's it answers."""

    __tablename__ = "chat_messages"
    __table_args__ = (
        Index("ix_chat_messages_conversation", "conversation_id", "id"),
        Index("ix_chat_messages_turn", "turn_id", "role"),
        _MYSQL,
    )
    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=False)
    conversation_id: Mapped[int] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"))
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    turn_id: Mapped[int] = mapped_column(Id)
    role: Mapped[str] = mapped_column(String(16))
    source: Mapped[str] = mapped_column(String(16))
    body: Mapped[bytes] = mapped_column(Sealed)
    created_at: Mapped[datetime] = mapped_column(Utc)


class DeliveryRow(Table):
    """One reply segment on its way out."""

    __tablename__ = "deliveries"
    __table_args__ = (
        Index("ix_deliveries_due", "state", "next_attempt_at", "conversation_id"),
        Index("ix_deliveries_conversation", "conversation_id", "state", "id"),
        Index("ix_deliveries_lease_owner", "lease_owner"),
        Index("ix_deliveries_platform_message", "conversation_id", "platform_message_id"),
        Index("ix_deliveries_passed_with", "conversation_id", "passed_with"),
        _MYSQL,
    )
    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=False)
    conversation_id: Mapped[int] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"))
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    turn_id: Mapped[int] = mapped_column(Id)
    body: Mapped[bytes] = mapped_column(Sealed)
    state: Mapped[str] = mapped_column(String(16))
    urgent: Mapped[bool] = mapped_column(default=False, server_default="0")
    """Goes before all others of its conversation."""
    attempts: Mapped[int] = mapped_column(default=0)
    next_attempt_at: Mapped[datetime] = mapped_column(Utc)
    lease_owner: Mapped[str | None] = mapped_column(String(128))
    lease_until: Mapped[datetime | None] = mapped_column(Utc)
    reason: Mapped[str | None] = mapped_column(String(64))
    platform_message_id: Mapped[str | None] = mapped_column(Exact())
    passed_with: Mapped[str | None] = mapped_column(Exact())
    """The event on whose response it rode. Until it is `sent` nobody knows whether that response arrived."""
    keep_until: Mapped[datetime | None] = mapped_column(Utc, index=True)
    """Until when a sent one keeps its body: its event may be handed over again, its file fetched."""
    created_at: Mapped[datetime] = mapped_column(Utc)
    sent_at: Mapped[datetime | None] = mapped_column(Utc)


class FeedbackRow(Table):
    """What a person made known of an answer: by a reaction or a button. `body` is it, sealed."""

    __tablename__ = "feedback"
    __table_args__ = (Index("ix_feedback_turn", "turn_id", "user_id", "kind", unique=True), _MYSQL)
    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=False)
    turn_id: Mapped[int] = mapped_column(Id)
    conversation_id: Mapped[int] = mapped_column(
        ForeignKey("conversations.id", ondelete="CASCADE"), index=True
    )
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    kind: Mapped[str] = mapped_column(String(16))
    verdict: Mapped[str] = mapped_column(String(16))
    body: Mapped[bytes] = mapped_column(Sealed)
    created_at: Mapped[datetime] = mapped_column(Utc)


class MarkRow(Table):
    """How far something got."""

    __tablename__ = "marks"
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    at: Mapped[datetime] = mapped_column(Utc)


class ModelUsageRow(Table):
    """What one turn's answer took."""

    __tablename__ = "model_usage"
    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=False)
    turn_id: Mapped[int] = mapped_column(Id)
    conversation_id: Mapped[int] = mapped_column(Id)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    model: Mapped[str] = mapped_column(String(191))
    prompt_tokens: Mapped[int]
    cached_tokens: Mapped[int]
    completion_tokens: Mapped[int]
    estimated: Mapped[bool]
    first_token_ms: Mapped[int]
    total_ms: Mapped[int]
    cost: Mapped[Decimal | None] = mapped_column(Numeric(18, 9))
    currency: Mapped[str | None] = mapped_column(String(3))
    created_at: Mapped[datetime] = mapped_column(Utc)


class ApiKeyRow(Table):
    __tablename__ = "api_keys"
    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(String(64))
    key_hash: Mapped[bytes] = mapped_column(Fixed, unique=True)
    scopes: Mapped[str] = mapped_column(String(255))
    created_at: Mapped[datetime] = mapped_column(Utc)
    last_used_at: Mapped[datetime | None] = mapped_column(Utc)
    revoked_at: Mapped[datetime | None] = mapped_column(Utc)
