"""A Telegram chat, or a topic of one, as core's chat id: `-100123`, or `-100123/45` for topic 45."""

from __future__ import annotations

from telegram import Message


def place_of(message: Message) -> str:
    """Where a message was written. Threads of replies outside forums are no places of their own."""
    if message.is_topic_message and message.message_thread_id is not None:
        return f"{message.chat.id}/{message.message_thread_id}"
    return str(message.chat.id)


def chat_of(place: str) -> int:
    return int(place.partition("/")[0])


def topic_of(place: str) -> int | None:
    _, _, topic = place.partition("/")
    return int(topic) if topic else None


def room_of(place: str) -> str:
    """The chat whose messages Telegram counts."""
    return place.partition("/")[0]
