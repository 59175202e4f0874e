"""What holds in a place: its own settings, and those of the places around it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, bindparam, select

from core.language import Language
from core.messages import Platform
from core.settings import ConversationSettings, GroupAnswers, ReplyStyle, lineage, settings_at
from storage.sql.models import Conversation


def settings_of_places(
    connection: Connection, platform: Platform, chat_ids: Iterable[str]
) -> dict[str, ConversationSettings]:
    """The settings that hold in each of a platform's groups; in one that is paused it answers commands alone."""
    lines = {chat_id: lineage(chat_id) for chat_id in chat_ids}
    places = sorted({place for line in lines.values() for place in line})
    own, paused = {}, set()
    for chat_id, settings, paused_at in connection.execute(
        _SETTINGS_AT, {"platform": platform, "chats": places}
    ):
        own[chat_id] = conversation_settings(settings)
        if paused_at is not None:
            paused.add(chat_id)
    held = {chat_id: settings_at(chat_id, own) for chat_id in lines}
    return {
        chat_id: _silent(settings) if paused.intersection(lines[chat_id]) else settings
        for chat_id, settings in held.items()
    }


def _silent(settings: ConversationSettings) -> ConversationSettings:
    return replace(settings, answers=GroupAnswers.OFF)


def conversation_settings(found: dict[str, Any]) -> ConversationSettings:
    """A row's settings."""
    answers, style, language = found.get("answers"), found.get("style"), found.get("language")
    return ConversationSettings(
        **{
            **found,
            "answers": GroupAnswers(answers) if answers else None,
            "style": ReplyStyle(style) if style else None,
            "language": Language(language) if language else None,
            "channels": tuple(found.get("channels", ())),
        }
    )


_SETTINGS_AT = select(Conversation.chat_id, Conversation.settings, Conversation.paused_at).where(
    Conversation.platform == bindparam("platform"),
    Conversation.chat_id.in_(bindparam("chats", expanding=True)),
)
