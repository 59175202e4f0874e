"""Replies that ride on the response to an event: what WeChat calls passive replies"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from storage.sql.types import Exact, Utc

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("inbox", sa.Column("tries", sa.Integer(), nullable=False, server_default="1"))
    op.add_column("deliveries", sa.Column("passed_with", Exact(), nullable=True))
    op.add_column("deliveries", sa.Column("keep_until", Utc(), nullable=True))
    op.create_index("ix_deliveries_keep_until", "deliveries", ["keep_until"])
    op.create_index("ix_deliveries_passed_with", "deliveries", ["conversation_id", "passed_with"])


def downgrade() -> None:
    op.execute("UPDATE deliveries SET body = '' WHERE keep_until IS NOT NULL")
    op.execute("UPDATE deliveries SET state = 'pending' WHERE state = 'held'")
    op.drop_index("ix_deliveries_passed_with", table_name="deliveries")
    op.drop_index("ix_deliveries_keep_until", table_name="deliveries")
    op.drop_column("deliveries", "keep_until")
    op.drop_column("deliveries", "passed_with")
    op.drop_column("inbox", "tries")
