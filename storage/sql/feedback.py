"""What people made known of answers."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, bindparam, delete, insert, select

from core.ids import new_id
from core.messages import Reacted, Role, Source
from storage.keys import KeyRing
from storage.sql import people
from storage.sql.models import ChatMessageRow, Conversation, DeliveryRow, FeedbackRow, Identity, User
from storage.sql.places import in_chat
from storage.sql.types import AnyRow

REACTION, BUTTON = "reaction", "button"


class SqlFeedback:
    """Implements core.ports.FeedbackRows. One row a person, an answer and a way to say it: the newest counts."""

    def __init__(self, connection: Connection, keys: KeyRing) -> None:
        self._connection = connection
        self._keys = keys

    def react(self, event: Reacted, verdict: str, now: datetime) -> bool:
        person = self._connection.execute(
            select(Identity.user_id).where(
                Identity.platform == event.platform, Identity.platform_user_id == event.sender_id
            )
        ).scalar()
        if person is None:  # nobody who ever spoke with us
            return False
        answers = (self._answer(place, event.message_id) for place in self._places(event))
        answer = next(filter(None, answers), None)
        if answer is None:
            return False
        if event.taken_back and self._stands(answer, person) != event.taken_back:
            return False  # another one stands still
        self._keep(answer, person, REACTION, verdict, " ".join(event.emojis), now)
        return True

    def _stands(self, answer: AnyRow, user_id: int) -> str | None:
        """The reaction of a person's that is kept."""
        row = self._connection.execute(
            select(FeedbackRow.id, FeedbackRow.body, User.data_key)
            .join(User, User.id == FeedbackRow.user_id)
            .where(
                FeedbackRow.turn_id == answer.turn_id,
                FeedbackRow.user_id == user_id,
                FeedbackRow.kind == REACTION,
            )
        ).first()
        return self._keys.open(row.data_key, row.body, row.id) if row is not None else None

    def judge(self, conversation_id: int, user_id: int, message_id: str, verdict: str, now: datetime) -> bool:
        answer = self._answer(conversation_id, message_id)
        if answer is None:
            return False
        self._keep(answer, user_id, BUTTON, verdict, verdict, now)
        return True

    def _places(self, event: Reacted) -> list[int]:
        """The chat and its topics: a reaction does not tell in which one it was."""
        found = self._connection.execute(
            select(Conversation.id).where(Conversation.platform == event.platform, in_chat(event.chat_id))
        )
        return list(found.scalars())

    def _answer(self, conversation_id: int, message_id: str) -> AnyRow | None:
        return self._connection.execute(
            _ANSWER, {"conversation": conversation_id, "message": message_id}
        ).first()

    def _keep(self, answer: AnyRow, user_id: int, kind: str, verdict: str, text: str, now: datetime) -> None:
        self._connection.execute(
            delete(FeedbackRow).where(
                FeedbackRow.turn_id == answer.turn_id,
                FeedbackRow.user_id == user_id,
                FeedbackRow.kind == kind,
            )
        )
        if not text:
            return
        id_ = new_id()
        data_key = people.data_keys(self._connection, [user_id])[user_id]
        self._connection.execute(
            insert(FeedbackRow),
            {
                "id": id_,
                "turn_id": answer.turn_id,
                "conversation_id": answer.conversation_id,
                "user_id": user_id,
                "kind": kind,
                "verdict": verdict,
                "body": self._keys.seal(data_key, text, id_),
                "created_at": now,
            },
        )


_ANSWER = (
    select(DeliveryRow.turn_id, DeliveryRow.conversation_id)
    .join(ChatMessageRow, ChatMessageRow.turn_id == DeliveryRow.turn_id)  # a menu is no answer
    .where(
        DeliveryRow.conversation_id == bindparam("conversation"),
        DeliveryRow.platform_message_id == bindparam("message"),
        ChatMessageRow.role == Role.ASSISTANT,
        ChatMessageRow.source != Source.COMMAND,
    )
    .limit(1)
)
