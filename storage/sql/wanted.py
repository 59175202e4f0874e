"""What of a group's messages is kept: what is meant for the bot, as often as the group's administrators want it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, bindparam, func, select

from core.messages import ConversationKind, IncomingMessage, Platform
from core.safety.rules import Risk, risk_of
from core.settings import ConversationSettings, GroupAnswers, lineage
from storage.sql.models import Conversation, Identity, InboxMessage
from storage.sql.place_settings import settings_of_places
from storage.sql.places import in_chat
from storage.sql.types import Utc, by_platform


def wanted(
    connection: Connection,
    messages: Sequence[IncomingMessage],
    now: datetime,
    has_begun: Callable[[IncomingMessage], bool],
    *,
    correction: bool = False,
) -> list[IncomingMessage]:
    """The messages without what is nothing to the bot: nothing of it is kept, not even that somebody spoke.

    `has_begun`: whether another part of an album waits. `correction`: of something that was heard, which counts no
    second time.
    """
    in_groups = {
        (message.platform, message.chat_id)
        for message in messages
        if message.kind is ConversationKind.GROUP and message.command is None
    }
    if not in_groups:
        return list(messages)
    held = {
        (platform, chat_id): settings
        for platform, chats in by_platform(in_groups).items()
        for chat_id, settings in settings_of_places(connection, platform, chats).items()
    }
    bundles = {message.bundle for message in messages if message.addressed}

    def heard(message: IncomingMessage, settings: ConversationSettings) -> bool:
        rule = settings.answers or GroupAnswers.MENTION
        if rule is GroupAnswers.MENTION and message.bundle is not None and not message.addressed:
            return message.bundle in bundles or has_begun(message)
        return rule is GroupAnswers.ALWAYS or (rule is GroupAnswers.MENTION and message.addressed)

    taken: Counter[tuple[Platform, str, str]] = Counter()
    kept = []
    for message in messages:
        settings = held.get((message.platform, message.chat_id))
        if settings is not None and message.command is None:
            person = (message.platform, lineage(message.chat_id)[0], message.sender_id)
            urgent = risk_of(message) is Risk.HIGH
            if not (heard(message, settings) or (urgent and message.addressed)):
                continue
            free = urgent or correction
            if not free and _had_their_share(connection, settings, *person, taken[person], now):
                continue
            taken[person] += 1
        kept.append(message)
    return kept


def _had_their_share(
    connection: Connection,
    settings: ConversationSettings,
    platform: Platform,
    group: str,
    sender_id: str,
    more: int,
    now: datetime,
) -> bool:
    """Whether a person of a group was answered as often as its administrators want it within an hour.

    `more`: what was just taken from them and is not stored yet.
    """
    if settings.hourly is None:
        return False
    values = {"person": sender_id, "platform": platform, "since": now - timedelta(hours=1)}
    stored: int = connection.execute(_HEARD_OF.where(in_chat(group)), values).scalar_one()
    return stored + more >= settings.hourly


_HEARD_OF = (
    select(func.count())
    .select_from(Identity)
    .join(InboxMessage, InboxMessage.user_id == Identity.user_id)
    .join(Conversation, Conversation.id == InboxMessage.conversation_id)
    .where(
        Identity.platform == bindparam("platform"),
        Identity.platform_user_id == bindparam("person"),
        Conversation.platform == bindparam("platform"),
        Conversation.kind == ConversationKind.GROUP,
        InboxMessage.received_at > bindparam("since", type_=Utc()),
    )
)
