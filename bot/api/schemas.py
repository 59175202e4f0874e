"""What goes over the wire: the types that the handlers read and write and the OpenAPI document is made of."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from core.messages import Role, Source
from core.text import NotText, clean

MESSAGE_LIMIT = 8000
USER_ID_LIMIT = 100


def _message(text: str) -> str:
    try:
        cleaned = clean(text)
    except NotText:
        raise ValueError("is not valid Unicode text") from None
    if not any(character.isprintable() and not character.isspace() for character in cleaned):
        raise ValueError("is empty: write something")
    return cleaned


def _user_id(text: str) -> str:
    if not text.isprintable() or text != text.strip():
        raise ValueError("must be printable characters without blanks at its ends")
    return text


UserId = Annotated[
    str,
    Field(
        min_length=1,
        max_length=USER_ID_LIMIT,
        description="Your own name for the person; printable characters.",
    ),
    AfterValidator(_user_id),
]


class Wire(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class ChatRequest(Wire):
    message: Annotated[str, Field(min_length=1, max_length=MESSAGE_LIMIT), AfterValidator(_message)]
    user_id: UserId


class StreamRequest(ChatRequest):
    coalesce: Annotated[
        bool,
        Field(
            description="Whether messages sent in a row may be answered together, after a short silence, "
            "as people type in a chat."
        ),
    ] = False


class UserQuery(Wire):
    user_id: UserId


class ChatReply(Wire):
    reply: str
    message_id: str
    conversation_id: str
    emotion: None = Field(None, description="Reserved: the person's mood, once it is read.")
    source: Source = Field(
        description="`listener`: no model was available; `protocol`: the words for a person in danger."
    )
    deferred: bool = Field(description="A real answer follows in the history when the model is back.")


class Delta(Wire):
    """Text of the answer: yours becomes `yours[:offset] + text`, counted in code points."""

    turn_id: str = Field(description="Another one than before: the answer begins again.")
    offset: int
    text: str


class HistoryMessage(Wire):
    message_id: str
    role: Role
    text: str
    source: Source
    created_at: datetime


class History(Wire):
    messages: list[HistoryMessage] = Field(description="Oldest first.")
    more: bool = Field(description="Whether there are older ones.")


class PartReport(Wire):
    state: Literal["ok", "degraded", "down"]
    detail: str


class Health(Wire):
    status: Literal["ok", "degraded", "down"]
    live: bool
    ready: bool
    parts: dict[str, PartReport]


class SystemInfo(Wire):
    name: str
    version: str
    database: str
    models: list[str]
    platforms: list[str]
    features: dict[str, bool]
    uptime_seconds: float


class FieldError(Wire):
    field: str
    message: str


class ProblemDocument(Wire):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    errors: list[FieldError] | None = None


class StreamProblem(ProblemDocument):
    """RFC 9457, where the answer had begun."""

    retryable: bool = Field(description="Whether the same request with the same key may get the answer.")
