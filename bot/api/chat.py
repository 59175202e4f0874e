"""POST /chat, POST /chat/stream and GET /chat/history."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import structlog
from aiohttp import web
from pydantic import ValidationError

from adapters.web.stream import event, events_of, place_of
from bot.api.access import Access, Caller
from bot.api.problems import FieldProblem, Problem, broken
from bot.api.schemas import ChatReply, ChatRequest, History, HistoryMessage, StreamRequest, UserQuery, Wire
from core.dialogue import Dialogue
from core.errors import IdempotencyConflict, StoreUnavailable
from core.ids import first_id_at, moment_of
from core.messages import IncomingMessage, Platform
from core.ports import Clock, Outcome, Store

HISTORY_LIMIT = 100
IDEMPOTENCY_KEY = "Idempotency-Key"
REQUEST_ID: web.RequestKey[str] = web.RequestKey("request_id", str)
_RFC_3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9:]{8}(?:\.[0-9]{1,9})?(?:[Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_VISIBLE = re.compile(r"[\x21-\x7e]{1,255}")

log = structlog.get_logger()

WireT = TypeVar("WireT", bound=Wire)


@dataclass(frozen=True, slots=True)
class ChatApi:
    """The handlers and what they work with."""

    dialogue: Dialogue
    store: Store
    access: Access
    clock: Clock
    timeout: float

    async def chat(self, request: web.Request) -> web.StreamResponse:
        caller = await self.access.caller(request, "chat")
        said = await read_json(request, ChatRequest)
        await self.access.keep_rate(caller, said.user_id)
        key = _idempotency_key(request)
        message = self._message(caller, said, key, alone=True)
        try:
            outcome = await self.dialogue.ask(message, self.timeout)
        except (TimeoutError, IdempotencyConflict, StoreUnavailable) as error:
            raise _problem(error, key) from error
        body = _answered(outcome).model_dump_json()
        return web.Response(text=body, content_type="application/json", headers={IDEMPOTENCY_KEY: key})

    async def stream(self, request: web.Request) -> web.StreamResponse:
        caller = await self.access.caller(request, "chat")
        said = await read_json(request, StreamRequest)
        await self.access.keep_rate(caller, said.user_id)
        key = _idempotency_key(request)
        message = self._message(caller, said, key, alone=not said.coalesce)
        place = place_of(request.headers.get("Last-Event-ID"))
        response = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream; charset=utf-8",
                "Cache-Control": "no-store",
                "X-Accel-Buffering": "no",  # nginx: pass each event on as it comes
                IDEMPOTENCY_KEY: key,
            }
        )
        events = events_of(
            self.dialogue.follow(message, place), lambda o: _answered(o).model_dump(mode="json")
        )
        try:
            async with asyncio.timeout(self.timeout):
                first = await anext(events)  # until here an error is an ordinary answer
                await response.prepare(request)
                await response.write(first)
                async for data in events:
                    await response.write(data)
        except ConnectionResetError:
            raise  # the client went; the turn goes on and waits for it to ask again
        except (TimeoutError, IdempotencyConflict, StoreUnavailable) as error:
            problem = _problem(error, key)
            if not response.prepared:
                raise problem from error
            await response.write(_error_event(problem, request[REQUEST_ID]))
        except Exception:
            if not response.prepared:
                raise
            log.exception("stream_failed")  # here, for a second answer cannot follow the first
            await response.write(_error_event(broken(), request[REQUEST_ID]))
        finally:
            await events.aclose()
        await response.write_eof()
        return response

    async def history(self, request: web.Request) -> web.StreamResponse:
        caller = await self.access.caller(request, "chat")
        wanted = _history_query(request)
        await self.access.keep_rate(caller, wanted.user_id)
        messages = await self.store.read(
            lambda tx: tx.conversations.history(
                Platform.WEB, _chat_id(caller, wanted.user_id), wanted.before, wanted.limit + 1
            )
        )
        shown = [
            HistoryMessage(
                message_id=str(message.id),
                role=message.role,
                text=message.text,
                source=message.source,
                created_at=moment_of(message.id),  # what `before` is compared with
            )
            for message in messages[-wanted.limit :]
        ]
        body = History(messages=shown, more=len(messages) > wanted.limit)
        return web.Response(text=body.model_dump_json(), content_type="application/json")

    def _message(self, caller: Caller, said: ChatRequest, key: str, *, alone: bool) -> IncomingMessage:
        chat_id = _chat_id(caller, said.user_id)
        # Hashed: an event id is bounded, and a person's id is not spelled out in more columns than needed.
        event_id = hashlib.sha256(f"{chat_id}\0{key}".encode()).hexdigest()
        return IncomingMessage(
            platform=Platform.WEB,
            event_id=event_id,
            chat_id=chat_id,
            sender_id=chat_id,
            text=said.message,
            sent_at=self.clock.now(),
            alone=alone,
        )


def reply_of(outcome: Outcome) -> ChatReply:
    return ChatReply(
        reply=outcome.reply.text,
        message_id=str(outcome.reply.id),
        conversation_id=str(outcome.conversation_id),
        emotion=None,
        source=outcome.reply.source,
        deferred=outcome.deferred,
    )


def _answered(outcome: Outcome) -> ChatReply:
    """The reply; the access log's line then names the conversation, as the turn's lines do."""
    structlog.contextvars.bind_contextvars(conversation_id=outcome.conversation_id)
    return reply_of(outcome)


async def read_json(request: web.Request, model: type[WireT]) -> WireT:
    """The request's body as a model. Raises Problem 400, 413, 415 or 422."""
    if request.content_type != "application/json":
        raise Problem(415, "The body must be JSON, with Content-Type: application/json.")
    try:
        body = await request.read()
    except web.RequestPayloadError:
        raise Problem(
            400, "The body is not encoded as its headers say.", headers={"Connection": "close"}
        ) from None
    try:
        value = json.loads(body.decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise Problem(400, "The body is not valid JSON in UTF-8.") from None
    return parse(model, value)


def parse(model: type[WireT], value: Any) -> WireT:
    """A value as a model. Raises Problem 422 naming each field that is wrong."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise Problem(
            422,
            "Some of it is not as expected.",
            errors=[
                FieldProblem(
                    ".".join(str(part) for part in item["loc"])[:100].encode(errors="replace").decode()
                    or "body",
                    item["msg"].removeprefix("Value error, "),
                )
                for item in error.errors(include_url=False, include_input=False)
            ][:20],
        ) from None


@dataclass(frozen=True, slots=True)
class _HistoryQuery:
    user_id: str
    limit: int
    before: int | None


def _history_query(request: web.Request) -> _HistoryQuery:
    """The history's parameters. Raises Problem 422."""
    query = request.query
    errors = []
    said = parse(UserQuery, {"user_id": query.get("user_id", "")})
    limit_text = query.get("limit", "50")
    limit = int(limit_text) if re.fullmatch(r"[0-9]{1,3}", limit_text) else 0
    if not 1 <= limit <= HISTORY_LIMIT:
        errors.append(FieldProblem("limit", f"must be a whole number from 1 to {HISTORY_LIMIT}"))
    before = None
    if "before" in query:
        try:
            if not _RFC_3339.fullmatch(query["before"]):  # fromisoformat reads more than that
                raise ValueError
            moment = datetime.fromisoformat(query["before"])
            # One millisecond on: messages of the same moment come again rather than not at all.
            before = first_id_at(moment) + (1 << 22)
        except (ValueError, OverflowError, OSError):
            before = None
        if before is None or not 0 <= before < 2**63:
            errors.append(FieldProblem("before", "must be a time with its zone, as `created_at` is"))
    if errors:
        raise Problem(422, "Some of it is not as expected.", errors=errors)
    return _HistoryQuery(said.user_id, limit, before)


def _chat_id(caller: Caller, user_id: str) -> str:
    return f"{caller.owner}/{user_id}"


def _idempotency_key(request: web.Request) -> str:
    key = request.headers.get(IDEMPOTENCY_KEY)
    if key is None:
        return uuid.uuid4().hex
    if not _VISIBLE.fullmatch(key):
        problem = FieldProblem(IDEMPOTENCY_KEY, "must be 1 to 255 visible ASCII characters")
        raise Problem(422, "Some of it is not as expected.", errors=[problem])
    return key


def _error_event(problem: Problem, request_id: str) -> bytes:
    return event("error", {**problem.document(request_id), "retryable": problem.status >= 500})


def _no_constant(name: str) -> float:
    raise ValueError(name)


def _problem(error: Exception, key: str) -> Problem:
    """What went wrong with an accepted or not accepted message, and what the client can do."""
    again = {IDEMPOTENCY_KEY: key}
    if isinstance(error, IdempotencyConflict):
        return Problem(422, "This Idempotency-Key was used with another message.", headers=again)
    if isinstance(error, TimeoutError):
        return Problem(
            504,
            "The message is kept and will be answered. Send the same request with the same "
            "Idempotency-Key to get the answer.",
            headers=again,
        )
    return Problem(
        503,
        "The message could not be stored just now. Send it again.",
        headers={**again, "Retry-After": "2"},
    )
