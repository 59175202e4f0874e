"""What a model is asked and what comes back while it answers."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum


class PromptRole(StrEnum):
    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


@dataclass(frozen=True, slots=True)
class PromptMessage:
    role: PromptRole
    text: str


@dataclass(frozen=True, slots=True)
class ModelUsage:
    """What one finished answer took. Tokens are the endpoint's count, or our estimate if it gave none."""

    model: str
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    estimated: bool
    first_token_ms: int
    total_ms: int
    cost: Decimal | None
    """In `currency`, from the price file; None where the file has no price for the model."""
    currency: str | None


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More text of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Restarted:
    """What came so far is void (the stream broke): the answer begins again from nothing."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The answer is whole."""

    usage: ModelUsage


ModelEvent = TextDelta | Restarted | Finished
