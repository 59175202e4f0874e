"""Edits, feedback, reach, previews and erasure: what a complete chat channel needs"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from storage.sql.types import Exact, Id, Sealed, Utc

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("users", sa.Column("settings", sa.JSON(), nullable=True))
    op.add_column("users", sa.Column("erase_at", Utc(), nullable=True))
    op.create_index("ix_users_erase_at", "users", ["erase_at"])
    op.add_column("conversations", sa.Column("gone_at", Utc(), nullable=True))
    op.add_column("conversations", sa.Column("paused_at", Utc(), nullable=True))
    op.add_column("conversations", sa.Column("window_from", Id, nullable=True))
    op.add_column("conversations", sa.Column("preview_message_id", Exact(), nullable=True))
    op.add_column("inbox", sa.Column("platform_message_id", Exact(), nullable=True))
    op.add_column("inbox", sa.Column("edits", sa.Integer(), nullable=False, server_default="0"))
    op.create_index("ix_inbox_platform_message", "inbox", ["conversation_id", "platform_message_id"])
    op.add_column("deliveries", sa.Column("urgent", sa.Boolean(), nullable=False, server_default="0"))
    op.create_index(
        "ix_deliveries_platform_message", "deliveries", ["conversation_id", "platform_message_id"]
    )
    op.create_table(
        "feedback",
        sa.Column("id", Id, autoincrement=False, nullable=False),
        sa.Column("turn_id", Id, nullable=False),
        sa.Column("conversation_id", Id, nullable=False),
        sa.Column("user_id", Id, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("verdict", sa.String(length=16), nullable=False),
        sa.Column("body", Sealed, nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.ForeignKeyConstraint(
            ["conversation_id"],
            ["conversations.id"],
            name=op.f("fk_feedback_conversation_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_feedback_user_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_feedback")),
        mysql_charset="utf8mb4",
        mysql_engine="InnoDB",
    )
    op.create_index("ix_feedback_turn", "feedback", ["turn_id", "user_id", "kind"], unique=True)
    op.create_index("ix_feedback_user_id", "feedback", ["user_id"])
    op.create_index("ix_feedback_conversation_id", "feedback", ["conversation_id"])


def downgrade() -> None:
    op.drop_table("feedback")
    op.drop_index("ix_deliveries_platform_message", table_name="deliveries")
    op.drop_column("deliveries", "urgent")
    op.drop_index("ix_inbox_platform_message", table_name="inbox")
    op.drop_column("inbox", "edits")
    op.drop_column("inbox", "platform_message_id")
    for name in ("preview_message_id", "window_from", "paused_at", "gone_at"):
        op.drop_column("conversations", name)
    op.drop_index("ix_users_erase_at", table_name="users")
    op.drop_column("users", "erase_at")
    op.drop_column("users", "settings")
