"""Where things happen: a chat and the places within it."""

from __future__ import annotations

from sqlalchemy import ColumnElement, and_, or_

from storage.sql.models import Conversation


def in_chat(chat_id: str) -> ColumnElement[bool]:
    """A chat and what is in it: its topics, channels, threads, `chat_id/…`."""
    return or_(
        Conversation.chat_id == chat_id,
        and_(Conversation.chat_id > f"{chat_id}/", Conversation.chat_id < f"{chat_id}0"),  # "0" follows "/"
    )
