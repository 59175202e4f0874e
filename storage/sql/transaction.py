"""One transaction's view of every table group: what core's units of work are given."""

from __future__ import annotations

from sqlalchemy import Connection

from storage.keys import KeyRing
from storage.sql import people
from storage.sql.api_keys import SqlApiKeys
from storage.sql.conversations import SqlConversations
from storage.sql.deliveries import SqlDeliveries
from storage.sql.feedback import SqlFeedback
from storage.sql.inbox import SqlInbox
from storage.sql.marks import SqlMarks
from storage.sql.turns import SqlTurns


class SqlTransaction:
    """Implements core.ports.Transaction over a synchronous connection."""

    def __init__(self, connection: Connection, keys: KeyRing) -> None:
        self._connection = connection
        self.inbox = SqlInbox(connection, keys)
        self.conversations = SqlConversations(connection, keys)
        self.deliveries = SqlDeliveries(connection, keys)
        self.turns = SqlTurns(connection, keys, self)
        self.people = people.SqlPeople(connection, keys)
        self.feedback = SqlFeedback(connection, keys)
        self.marks = SqlMarks(connection)
        self.api_keys = SqlApiKeys(connection)

    def any_data_key(self) -> bytes | None:
        """Some person's wrapped data key, to try the master key on; None in an empty database."""
        return people.any_data_key(self._connection)
