"""One OpenAI-compatible endpoint and model: the only module that knows the `openai` SDK.

The SDK makes the request and checks the status; the stream is read line by line here, because its
own stream builds a validated object for every chunk, which costs more than all the rest of a turn.
Importing the SDK takes a second, so it is imported in a thread when it is first needed.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from core.errors import ModelUnavailable
from core.model.events import Finished, ModelEvent, ModelUsage, PromptMessage, TextDelta
from core.model.prices import Price
from core.model.shown_text import ShownText
from core.model.tokens import estimate_tokens

if TYPE_CHECKING:
    from openai import AsyncOpenAI

NO_KEY = "none"
"""The SDK insists on some key; endpoints on one's own machine want none."""
LONGEST_ANSWER = 32_000
"""Characters. An endpoint that heeds neither `max_tokens` nor an end would fill the memory."""
LONGEST_LINE = 1024 * 1024
"""Bytes of one event. Endpoints send a few hundred."""


@dataclass(frozen=True, slots=True)
class ModelEndpoint:
    base_url: str
    api_key: str
    model: str


@dataclass(frozen=True, slots=True)
class ModelLimits:
    connect_seconds: float = 5.0
    first_token_seconds: float = 20.0
    stall_seconds: float = 15.0
    """The longest silence between two chunks."""
    total_seconds: float = 120.0
    connections: int = 2048
    answer_tokens: int = 1024


class ModelClient:
    def __init__(
        self,
        endpoint: ModelEndpoint,
        limits: ModelLimits = ModelLimits(),
        prices: Mapping[str, Price] = {},
    ) -> None:
        self.endpoint = endpoint
        self._limits = limits
        self._price = prices.get(endpoint.model)
        self._sdk: AsyncOpenAI | None = None
        self._preparing = asyncio.Lock()

    async def prepare(self) -> None:
        """Import the SDK, off the event loop, before the first call needs it."""
        await self._client()

    async def close(self) -> None:
        if self._sdk is not None:
            await self._sdk.close()

    async def stream(self, prompt: Sequence[PromptMessage]) -> AsyncGenerator[ModelEvent, None]:
        """One try: `TextDelta`s, then `Finished`. Raises ModelUnavailable for anything but a whole answer."""
        began = time.monotonic()
        answer = _Answer(began)
        try:
            async with asyncio.timeout(self._limits.total_seconds):
                async with aclosing(self._chunks(prompt)) as chunks:
                    async for chunk in chunks:
                        text = answer.take(chunk)
                        if text:
                            yield TextDelta(text)
        except TimeoutError:
            raise ModelUnavailable("timeout") from None
        rest = answer.end()
        if rest:
            yield TextDelta(rest)
        yield Finished(self._usage(prompt, answer))

    async def _chunks(self, prompt: Sequence[PromptMessage]) -> AsyncGenerator[dict[str, Any], None]:
        """The chunks of a streamed answer as they come, each within its time."""
        client = await self._client()
        import httpx2
        from openai import OpenAIError

        messages = [{"role": said.role.value, "content": said.text} for said in prompt]
        request = client.chat.completions.with_streaming_response.create(
            model=self.endpoint.model,
            # The SDK walks through typed `messages` union by union: 5 ms for a window of forty.
            messages=(),
            extra_body={"messages": messages},
            stream=True,
            stream_options={"include_usage": True},
            max_tokens=self._limits.answer_tokens,
            extra_headers=_headers_left_out(),
        )
        try:
            async with asyncio.timeout(self._limits.first_token_seconds) as patience:
                async with request as response:
                    if "text/event-stream" not in response.headers.get("content-type", ""):
                        raise ModelUnavailable("not_a_stream")
                    async for chunk in _parse(response.iter_bytes()):
                        patience.reschedule(None)
                        yield chunk
                        patience.reschedule(asyncio.get_running_loop().time() + self._limits.stall_seconds)
        except TimeoutError:
            raise ModelUnavailable("silent") from None
        except (OpenAIError, httpx2.HTTPError, OSError, ValueError, RecursionError) as error:
            raise _translate(error) from error

    async def _client(self) -> AsyncOpenAI:
        async with self._preparing:
            if self._sdk is None:
                self._sdk = await asyncio.to_thread(self._make_client)
            return self._sdk

    def _make_client(self) -> AsyncOpenAI:
        import httpx2
        from openai import AsyncOpenAI, DefaultAioHttpClient

        limits = self._limits
        return AsyncOpenAI(
            base_url=self.endpoint.base_url,
            api_key=self.endpoint.api_key or NO_KEY,
            max_retries=0,  # ours, in core.model.fallback, know of the breaker and the deadline
            http_client=DefaultAioHttpClient(
                limits=httpx2.Limits(
                    max_connections=limits.connections,
                    max_keepalive_connections=limits.connections,
                    keepalive_expiry=30.0,
                ),
                timeout=httpx2.Timeout(limits.total_seconds, connect=limits.connect_seconds),
            ),
        )

    def _usage(self, prompt: Sequence[PromptMessage], answer: _Answer) -> ModelUsage:
        told = answer.usage
        if told is None:
            prompt_tokens = sum(estimate_tokens(message.text) for message in prompt)
            cached, completion = 0, estimate_tokens(answer.text)
        else:
            prompt_tokens = _count(told.get("prompt_tokens"))
            completion = _count(told.get("completion_tokens"))
            details = told.get("prompt_tokens_details")
            cached = _count(details.get("cached_tokens") if isinstance(details, dict) else None)
        price = self._price
        return ModelUsage(
            model=self.endpoint.model,
            prompt_tokens=prompt_tokens,
            cached_tokens=cached,
            completion_tokens=completion,
            estimated=told is None,
            first_token_ms=round((answer.first_token_at - answer.began) * 1000),
            total_ms=round((time.monotonic() - answer.began) * 1000),
            cost=price.of(prompt_tokens, cached, completion) if price else None,
            currency=price.currency if price else None,
        )


class _Answer:
    """What has come of one answer."""

    def __init__(self, began: float) -> None:
        self.began = began
        self.first_token_at = began
        self.text = ""
        self.usage: dict[str, Any] | None = None
        self._finish_reason: str | None = None
        self._shown = ShownText()

    def take(self, chunk: dict[str, Any]) -> str:
        """The new text in a chunk, if there is any."""
        if isinstance(chunk.get("error"), dict):
            raise ModelUnavailable("stream_error")
        if isinstance(chunk.get("usage"), dict):
            self.usage = chunk["usage"]
        try:
            choice = (chunk.get("choices") or [{}])[0]
            self._finish_reason = choice.get("finish_reason") or self._finish_reason
            content = (choice.get("delta") or {}).get("content")
        except (AttributeError, KeyError, TypeError):  # JSON, but of another shape
            raise ModelUnavailable("invalid_json") from None
        return self._see(self._shown.feed(content)) if isinstance(content, str) else ""

    def end(self) -> str:
        """Text that was held back. Raises ModelUnavailable unless the answer is whole and says something."""
        rest = self._see(self._shown.end())
        if self._finish_reason == "content_filter":
            raise ModelUnavailable("content_filter")
        if not self.text:
            raise ModelUnavailable("empty")
        if self._finish_reason is None:
            raise ModelUnavailable("cut_off")
        return rest

    def _see(self, text: str) -> str:
        if len(self.text) + len(text) > LONGEST_ANSWER:
            raise ModelUnavailable("too_long")
        if text and not self.text:
            self.first_token_at = time.monotonic()
        self.text += text
        return text


@cache
def _headers_left_out() -> Mapping[str, Any]:
    """What the SDK would tell about this machine: nobody's business, and held in memory for each waiting call."""
    from openai import Omit

    told = [
        "Lang",
        "Package-Version",
        "OS",
        "Arch",
        "Runtime",
        "Runtime-Version",
        "Async",
        "Retry-Count",
        "Read-Timeout",
    ]
    return {f"X-Stainless-{name}": Omit() for name in told}


async def _parse(wire: AsyncIterator[bytes]) -> AsyncGenerator[dict[str, Any], None]:
    """The JSON of each server-sent `data:` line up to `[DONE]` (platform.openai.com, Streaming API responses)."""
    async for line in _lines(wire):
        if not line.startswith(b"data:"):
            continue
        data = line[5:].strip()
        if data == b"[DONE]":
            return
        chunk = json.loads(data)
        if not isinstance(chunk, dict):
            raise ValueError("a chunk that is no object")
        yield chunk


async def _lines(wire: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """Lines as events have them. The SDK's own reader also breaks at U+2028 and the like, inside the JSON."""
    rest = b""
    async for more in wire:
        *lines, rest = (rest + more).split(b"\n")
        if len(rest) > LONGEST_LINE:
            raise ValueError("a line without an end")
        for line in lines:
            yield line
    yield rest


def _translate(error: Exception) -> ModelUnavailable:
    """The SDK's and the network's trouble in one fixed word; nothing of what the endpoint wrote."""
    from openai import APIConnectionError, APIStatusError

    if isinstance(error, APIStatusError):
        return _of_status(error.status_code, error.response.headers, error.code)
    if isinstance(error, APIConnectionError):  # silence while reading is timed by us, not by the SDK
        return ModelUnavailable("unreachable")
    if isinstance(error, (ValueError, RecursionError)):
        return ModelUnavailable("invalid_json")
    return ModelUnavailable("cut_off")


def _of_status(status: int, headers: Mapping[str, str], code: str | None) -> ModelUnavailable:
    if code in ("content_filter", "data_inspection_failed"):  # OpenAI's and Qwen's word for the same
        return ModelUnavailable("content_filter")
    if status in (401, 403):
        return ModelUnavailable("refused_key")
    if status == 404:
        return ModelUnavailable("no_such_model")
    if status == 429:
        return ModelUnavailable("rate_limited", retry_after=_retry_after(headers.get("retry-after")))
    if status >= 500:
        return ModelUnavailable("server_error", retry_after=_retry_after(headers.get("retry-after")))
    return ModelUnavailable("bad_request")


def _retry_after(value: str | None) -> timedelta | None:
    """RFC 9110, 10.2.3: seconds, or a date."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):
            return None
    return timedelta(seconds=min(max(seconds, 0.0), 3600.0)) if seconds == seconds else None


def _count(value: object) -> int:
    return min(value, 2**31 - 1) if isinstance(value, int) and value >= 0 else 0  # what a column holds
