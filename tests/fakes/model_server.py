"""A strict OpenAI-compatible model server on loopback, with every way of misbehaving that we know of.

By hand: `python -m tests.fakes.model_server --port 9901 --latency 1`.
It echoes by default, so that a test can tell which messages an answer is for.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web

KEY = "test-key"
MODEL = "fake-model"
_KNOWN_FIELDS = frozenset(
    [
        "model",
        "messages",
        "stream",
        "stream_options",
        "max_tokens",
        "temperature",
        "top_p",
        "tools",
        "tool_choice",
    ]
)


@dataclass(frozen=True, slots=True)
class Echo:
    """Answers "回声:" and what the person said since the last answer, joined by "|"."""


@dataclass(frozen=True, slots=True)
class Answer:
    text: str
    pieces: int = 4
    usage: bool = True
    finish_reason: str | None = "stop"


@dataclass(frozen=True, slots=True)
class Status:
    """An HTTP error."""

    code: int
    headers: tuple[tuple[str, str], ...] = ()
    error_code: str | None = None


@dataclass(frozen=True, slots=True)
class HtmlPage:
    """A proxy's page with status 200."""


@dataclass(frozen=True, slots=True)
class EmptyStream:
    """A stream that ends before it says anything."""


@dataclass(frozen=True, slots=True)
class CutHalfWay:
    """The connection is closed in the middle of an answer."""

    text: str = "我在听，你慢慢"


@dataclass(frozen=True, slots=True)
class InvalidJson:
    pass


@dataclass(frozen=True, slots=True)
class OddChunk:
    """JSON that is no chunk of an answer."""

    chunk: object


@dataclass(frozen=True, slots=True)
class Silent:
    """Says nothing for ever, from the start or after some text."""

    after: str = ""


Behaviour = Echo | Answer | Status | HtmlPage | EmptyStream | CutHalfWay | InvalidJson | OddChunk | Silent


@dataclass
class FakeModelServer:
    """Start it, read `base_url`, script it with `behave`, look at `requests`."""

    latency: float = 0.0
    default: Behaviour = field(default_factory=Echo)
    port: int = 0
    requests: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=10_000))
    headers: dict[str, str] = field(default_factory=dict)
    """Of the latest request."""
    disconnects: int = 0
    answering: int = 0
    most_answering: int = 0

    def __post_init__(self) -> None:
        self._script: deque[Behaviour] = deque()
        self._runner: web.AppRunner | None = None
        self.gate = asyncio.Event()
        """Clear it to hold every answer back until it is set again."""
        self.gate.set()
        self.asked = asyncio.Condition()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def behave(self, *behaviours: Behaviour) -> None:
        """What to do for the next requests, one each, before the default again."""
        self._script.extend(behaviours)

    async def start(self) -> Self:
        app = web.Application(client_max_size=4 * 1024 * 1024)
        app.router.add_post("/v1/chat/completions", self._complete)
        app.router.add_get("/v1/models", self._models)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, backlog=4096)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def wait_for_requests(self, count: int) -> None:
        """Wait until so many requests have come in all."""
        async with self.asked:
            await self.asked.wait_for(lambda: len(self.requests) >= count)

    async def _models(self, request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": MODEL, "object": "model"}]})

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            return _error(401, "invalid_api_key")
        try:
            body = json.loads(await request.read())
        except ValueError:
            return _error(400, "invalid_json")
        problem = _problem(body)
        if problem:
            return _error(400, problem)
        self.headers = dict(request.headers)
        async with self.asked:
            self.requests.append(body)
            self.asked.notify_all()
        behaviour = self._script.popleft() if self._script else self.default
        self.answering += 1
        self.most_answering = max(self.most_answering, self.answering)
        try:
            if self.latency:
                await asyncio.sleep(self.latency)
            await self.gate.wait()
            return await self._act(request, body, behaviour)
        except (asyncio.CancelledError, ConnectionResetError):
            self.disconnects += 1
            raise
        finally:
            self.answering -= 1

    async def _act(
        self, request: web.Request, body: dict[str, Any], behaviour: Behaviour
    ) -> web.StreamResponse:
        match behaviour:
            case Echo():
                return await _answer(request, body, Answer(echo_of(body)))
            case Answer():
                return await _answer(request, body, behaviour)
            case Status(code, headers, error_code):
                return _error(code, error_code or "scripted", dict(headers))
            case HtmlPage():
                return web.Response(
                    text="<html><body>Welcome to nginx!</body></html>", content_type="text/html"
                )
            case EmptyStream():
                response = await _open(request)
                await response.write(b"data: [DONE]\n\n")
            case CutHalfWay(text):
                response = await _open(request)
                await response.write(_chunk(text))
                if request.transport is not None:
                    request.transport.close()
            case InvalidJson():
                response = await _open(request)
                await response.write(b'data: {"choices": [{"delta": {"content": "\n\n')
            case OddChunk(chunk):
                response = await _open(request)
                await response.write(b"data: " + json.dumps(chunk).encode() + b"\n\ndata: [DONE]\n\n")
            case Silent(after):
                response = await _open(request)
                if after:
                    await response.write(_chunk(after))
                await asyncio.Event().wait()
        return response


CUT = "\0cut"
"""Handed to `PacedModel.say`: the connection is closed in the middle of the answer."""


@dataclass
class PacedModel(FakeModelServer):
    """Says the next piece when the test hands it one; None ends an answer. Not paced, it does as scripted."""

    def __post_init__(self) -> None:
        FakeModelServer.__post_init__(self)
        self._pieces: asyncio.Queue[str | None] | None = None

    def pace(self, paced: bool = True) -> None:
        """Begin with nothing to say, or go back to the script."""
        self._pieces = asyncio.Queue() if paced else None

    def say(self, *pieces: str | None) -> None:
        if self._pieces is None:
            self.pace()
        assert self._pieces is not None
        for piece in pieces:
            self._pieces.put_nowait(piece)

    async def _act(
        self, request: web.Request, body: dict[str, Any], behaviour: Behaviour
    ) -> web.StreamResponse:
        pieces = self._pieces
        if pieces is None:
            return await FakeModelServer._act(self, request, body, behaviour)
        response = await _open(request)
        while (piece := await pieces.get()) is not None:
            if piece == CUT:
                assert request.transport is not None
                request.transport.close()
                return response
            await response.write(_chunk(piece))
        await response.write(_event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}))
        await response.write(b"data: [DONE]\n\n")
        return response


def echo_of(body: dict[str, Any]) -> str:
    """What `Echo` answers to a request."""
    said: list[str] = []
    for message in reversed(body["messages"]):
        if message["role"] != "user":
            break
        said.extend(reversed(message["content"].split("\n")))
    return "回声:" + "|".join(reversed(said))


async def _answer(request: web.Request, body: dict[str, Any], answer: Answer) -> web.StreamResponse:
    prompt_tokens = sum(len(message["content"]) for message in body["messages"])
    usage = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": len(answer.text),
        "total_tokens": prompt_tokens + len(answer.text),
        "prompt_tokens_details": {"cached_tokens": prompt_tokens // 2},
    }
    if not body.get("stream"):
        message = {"role": "assistant", "content": answer.text}
        choice = {"index": 0, "message": message, "finish_reason": answer.finish_reason}
        return web.json_response(
            {
                "id": "c",
                "object": "chat.completion",
                "created": 0,
                "model": MODEL,
                "choices": [choice],
                "usage": usage,
            }
        )
    response = await _open(request)
    size = max(1, -(-len(answer.text) // answer.pieces))
    wire = b"".join(_chunk(answer.text[start : start + size]) for start in range(0, len(answer.text), size))
    if answer.finish_reason is not None:
        wire += _event({"choices": [{"index": 0, "delta": {}, "finish_reason": answer.finish_reason}]})
    if answer.usage and (body.get("stream_options") or {}).get("include_usage"):
        wire += _event({"choices": [], "usage": usage})
    wire += b"data: [DONE]\n\n"
    # Cut where no chunk ends, in the middle of a character as often as not: networks do that.
    for start in range(0, len(wire), 997):
        await response.write(wire[start : start + 997])
    return response


async def _open(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
    await response.prepare(request)
    return response


def _chunk(text: str) -> bytes:
    return _event(
        {"choices": [{"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": None}]}
    )


def _event(payload: dict[str, Any]) -> bytes:
    whole = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": MODEL, **payload}
    return b"data: " + json.dumps(whole, ensure_ascii=False).encode() + b"\n\n"


def _error(status: int, code: str, headers: dict[str, str] | None = None) -> web.Response:
    error = {"message": f"fake: {code}", "type": "invalid_request_error", "param": None, "code": code}
    return web.json_response({"error": error}, status=status, headers=headers)


def _problem(body: Any) -> str | None:
    """What a strict server would refuse in a request."""
    if not isinstance(body, dict) or not set(body) <= _KNOWN_FIELDS:
        return "unknown_field"
    if not isinstance(body.get("model"), str) or not isinstance(body.get("messages"), list):
        return "missing_field"
    roles = []
    for message in body["messages"]:
        if set(message) != {"role", "content"} or not isinstance(message["content"], str):
            return "bad_message"
        roles.append(message["role"])
    if not roles or not set(roles) <= {"system", "user", "assistant"} or roles[-1] != "user":
        return "bad_roles"
    if any(a == b for a, b in itertools.pairwise(roles)) or "system" in roles[1:]:
        return "roles_must_alternate"  # as the chat templates of many open models demand
    return None


async def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--port", type=int, default=9901)
    arguments.add_argument("--latency", type=float, default=0.0, help="seconds before each answer")
    given = arguments.parse_args()
    async with FakeModelServer(latency=given.latency, port=given.port) as server:
        print(f"LLM_BASE_URL={server.base_url} LLM_API_KEY={KEY} DEFAULT_MODEL={MODEL}", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
