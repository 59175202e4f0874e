"""The few failures that callers act on. Adapters and storage translate their SDK's into these at the edge."""

from __future__ import annotations

from datetime import timedelta

OF_THE_PROMPT = frozenset({"bad_request", "content_filter"})
"""Reasons of a ModelUnavailable that say something about what was asked, nothing about the endpoint's health."""
RESTING = "resting"
"""The reason of a ModelUnavailable for which no endpoint was asked: their breakers are open."""


class XinYuError(Exception):
    """Anything this program raises on purpose."""


class ConfigError(XinYuError):
    """The program cannot start as configured. The text says what is wrong and what to do."""


class ModelUnavailable(XinYuError):
    """No usable answer came from a model: try the next one, or let the listener answer.

    `reason` is a short, fixed word for logs and metrics (`timeout`, `rate_limited`, `refused_key` …),
    never text of the endpoint or of a person.
    """

    def __init__(self, reason: str, *, retry_after: timedelta | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after


class DeliveryFailed(XinYuError):
    """The platform did not take a delivery. Try again after `retry_after`, or by the outbox's own backoff.

    `permanent` means that the same delivery can never succeed: bury it.
    """

    def __init__(self, reason: str, *, retry_after: timedelta | None = None, permanent: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after
        self.permanent = permanent


class RecipientGone(XinYuError):
    """The person blocked the bot or the chat is no more: stop sending there."""


class HeldBack(XinYuError):
    """The platform takes nothing for this chat until its person writes again.

    What is owed there is kept, and goes with the answer to their next message.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ChatGoesOn(XinYuError):
    """The chat has another id now (a Telegram group that became a supergroup): send there."""

    def __init__(self, new_chat_id: str) -> None:
        super().__init__("chat_moved")
        self.new_chat_id = new_chat_id


class StoreUnavailable(XinYuError):
    """The database did not answer or did not commit. Nothing was stored: the caller may try again."""


class LeaseLost(XinYuError):
    """Another process works on this conversation now. Throw this turn's result away."""


class KeyMismatch(ConfigError):
    """Rows exist that `ENCRYPTION_KEY` does not open."""


class IdempotencyConflict(XinYuError):
    """An Idempotency-Key came again with another body."""
