"""Run by Alembic: how a migration gets its connection."""

from __future__ import annotations

from alembic import context

from storage.sql.models import Table

engine = context.config.attributes["engine"]
try:
    with engine.connect() as connection:
        context.configure(
            connection=connection,
            target_metadata=Table.metadata,
            render_as_batch=True,  # SQLite alters a table by copying it
            compare_type=True,
        )
        with context.begin_transaction():
            context.run_migrations()
finally:
    engine.dispose()
