"""Telegram's errors as core knows them."""

from __future__ import annotations

from datetime import timedelta

from telegram.error import (
    BadRequest,
    ChatMigrated,
    Conflict,
    Forbidden,
    InvalidToken,
    NetworkError,
    RetryAfter,
    TelegramError,
    TimedOut,
)

from core.errors import ChatGoesOn, DeliveryFailed, RecipientGone

_GONE = (
    "chat not found",
    "user is deactivated",
    "peer_id_invalid",
    "user not found",
    "message thread not found",
)
UNAUTHORIZED_WAIT = timedelta(minutes=5)
CONFLICT = "another_poller_or_webhook"
REFUSED = "refused"
WRONG_TOKEN_WAIT_SECONDS = 300.0


def translate(error: TelegramError) -> DeliveryFailed | RecipientGone | ChatGoesOn:
    """What a failed call means for the delivery; see core.telegram.org/bots/api, "Making requests"."""
    match error:
        case RetryAfter():
            return DeliveryFailed("rate_limited", retry_after=retry_after(error))
        case Forbidden():
            return RecipientGone("forbidden")
        case BadRequest() if any(word in error.message.lower() for word in _GONE):
            return RecipientGone("chat_gone")
        case ChatMigrated():
            return ChatGoesOn(str(error.new_chat_id))
        case BadRequest():
            return DeliveryFailed("refused", permanent=True)
        case InvalidToken():  # the operator's to mend: what people are owed waits for it
            return DeliveryFailed("refused_token", retry_after=UNAUTHORIZED_WAIT)
    return DeliveryFailed(word_for(error))


def word_for(error: TelegramError) -> str:
    """A fixed word for logs and /health. BadRequest is a NetworkError to the library: order matters."""
    match error:
        case InvalidToken():
            return "refused_token"
        case Conflict():
            return CONFLICT
        case RetryAfter():
            return "rate_limited"
        case TimedOut():
            return "timeout"
        case BadRequest():
            return REFUSED
        case NetworkError():
            return "unreachable"
    return "telegram_error"


def is_not_modified(error: BadRequest) -> bool:
    """The message says already what it was to say."""
    return "message is not modified" in error.message.lower()


def is_nothing_to_edit(error: BadRequest) -> bool:
    """The message is gone, or too old to be changed."""
    text = error.message.lower()
    return "message to edit not found" in text or "message can't be edited" in text


def retry_after(error: RetryAfter) -> timedelta:
    """How long Telegram asked us to wait. The library gives seconds or a timedelta, by its configuration."""
    wait = error.retry_after
    return wait if isinstance(wait, timedelta) else timedelta(seconds=wait)


def asked_to_wait(error: TelegramError) -> float:
    """How long to leave Telegram alone after this, in seconds."""
    match error:
        case InvalidToken():
            return WRONG_TOKEN_WAIT_SECONDS
        case RetryAfter():
            return retry_after(error).total_seconds()
    return 0.0
