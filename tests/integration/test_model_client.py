"""The model client over loopback, through the real SDK, against every fault we know of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from core.errors import ModelUnavailable
from core.model.breaker import Breaker, BreakerRule
from core.model.client import ModelClient, ModelEndpoint, ModelLimits
from core.model.events import Finished, ModelEvent, PromptMessage, PromptRole, Restarted, TextDelta
from core.model.fallback import Candidate, FallbackModel, RetryRule
from tests.fakes.model_server import (
    KEY,
    MODEL,
    Answer,
    Behaviour,
    CutHalfWay,
    EmptyStream,
    FakeModelServer,
    HtmlPage,
    InvalidJson,
    OddChunk,
    Silent,
    Status,
)

PROMPT = [PromptMessage(PromptRole.SYSTEM, "你是心语"), PromptMessage(PromptRole.USER, "你好")]
QUICK = ModelLimits(connect_seconds=2, first_token_seconds=0.4, stall_seconds=0.4, total_seconds=5)


@pytest.fixture
async def server() -> AsyncIterator[FakeModelServer]:
    async with FakeModelServer() as server:
        yield server


@pytest.fixture
async def make_client(server: FakeModelServer) -> AsyncIterator[Callable[..., ModelClient]]:
    clients: list[ModelClient] = []

    def make(base_url: str | None = None, key: str = KEY, limits: ModelLimits = QUICK) -> ModelClient:
        clients.append(ModelClient(ModelEndpoint(base_url or server.base_url, key, MODEL), limits))
        return clients[-1]

    yield make
    for client in clients:
        await client.close()


async def events_of(model: ModelClient | FallbackModel) -> list[ModelEvent]:
    async with aclosing(model.stream(PROMPT)) as events:
        return [event async for event in events]


def text_of(events: list[ModelEvent]) -> str:
    text = ""
    for event in events:
        match event:
            case TextDelta(more):
                text += more
            case Restarted():
                text = ""
    return text


async def test_streams_an_answer_with_its_usage(make_client: Callable[..., ModelClient]) -> None:
    events = await events_of(make_client())
    assert text_of(events) == "回声:你好"
    assert len(events) > 2, "it came in pieces"
    finished = events[-1]
    assert isinstance(finished, Finished)
    usage = finished.usage
    assert (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens) == (6, 3, 5)
    assert not usage.estimated
    assert 0 <= usage.first_token_ms <= usage.total_ms


async def test_estimates_usage_that_is_not_told(
    server: FakeModelServer, make_client: Callable[..., ModelClient]
) -> None:
    server.behave(Answer("我在听。", usage=False))
    finished = (await events_of(make_client()))[-1]
    assert isinstance(finished, Finished)
    assert finished.usage.estimated
    assert finished.usage.completion_tokens == 4


async def test_thinking_is_not_shown(
    server: FakeModelServer, make_client: Callable[..., ModelClient]
) -> None:
    server.behave(Answer("<think>这个人很难过</think>\n\n我在听。", pieces=9))
    assert text_of(await events_of(make_client())) == "我在听。"


@pytest.mark.parametrize("odd", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1e"])
async def test_only_a_line_feed_ends_an_event(
    server: FakeModelServer, make_client: Callable[..., ModelClient], odd: str
) -> None:
    """What Unicode calls a line break may stand in JSON as it is; control characters are escaped there."""
    server.behave(Answer(f"我在{odd}听。", pieces=1))
    assert text_of(await events_of(make_client())) == f"我在{odd if odd in _SHOWN else ''}听。"


_SHOWN = "\u2028\u2029"


async def test_what_a_model_server_says_of_us_is_only_what_it_must(
    server: FakeModelServer, make_client: Callable[..., ModelClient]
) -> None:
    await events_of(make_client())
    told = {name.lower() for name in server.headers}
    assert {name for name in told if name.startswith("x-stainless")} <= {"x-stainless-raw-response"}


ODD_CHUNKS: list[object] = [
    [],
    "text",
    {"choices": [None]},
    {"choices": "text"},
    {"choices": {"0": 1}},
    {"choices": [{"delta": "text"}]},
    {"choices": [{"delta": ["text"]}]},
]
FAULTS: list[tuple[Behaviour, str]] = [
    (HtmlPage(), "not_a_stream"),
    (EmptyStream(), "empty"),
    (Answer("", pieces=1), "empty"),
    (CutHalfWay(), "cut_off"),
    (Answer("半句话", finish_reason=None), "cut_off"),
    (Answer("不", finish_reason="content_filter"), "content_filter"),
    (InvalidJson(), "invalid_json"),
    *((OddChunk(chunk), "invalid_json") for chunk in ODD_CHUNKS),
    (OddChunk({"choices": [{"delta": {"content": 7}}]}), "empty"),
    (OddChunk({"error": {"message": "overloaded"}}), "stream_error"),
    (Status(400), "bad_request"),
    (Status(400, error_code="data_inspection_failed"), "content_filter"),
    (Status(401), "refused_key"),
    (Status(404), "no_such_model"),
    (Status(429), "rate_limited"),
    (Status(500), "server_error"),
    (Status(503), "server_error"),
    (Silent(), "silent"),
    (Silent(after="我在"), "silent"),
]


@pytest.mark.parametrize(("behaviour", "reason"), FAULTS)
async def test_every_fault_has_its_word(
    server: FakeModelServer,
    make_client: Callable[..., ModelClient],
    behaviour: Behaviour,
    reason: str,
) -> None:
    server.behave(behaviour)
    with pytest.raises(ModelUnavailable) as raised:
        await events_of(make_client())
    assert raised.value.reason == reason


async def test_nobody_listens_there(make_client: Callable[..., ModelClient]) -> None:
    with pytest.raises(ModelUnavailable) as raised:
        await events_of(make_client("http://127.0.0.1:9/v1"))
    assert raised.value.reason == "unreachable"


async def test_a_wrong_key_is_refused(make_client: Callable[..., ModelClient]) -> None:
    with pytest.raises(ModelUnavailable) as raised:
        await events_of(make_client(key="wrong"))
    assert raised.value.reason == "refused_key"


@pytest.mark.parametrize("as_date", [False, True])
async def test_retry_after_is_read(
    server: FakeModelServer, make_client: Callable[..., ModelClient], as_date: bool
) -> None:
    moment = datetime.now(UTC) + timedelta(seconds=42)
    value = format_datetime(moment, usegmt=True) if as_date else "42"
    server.behave(Status(429, headers=(("Retry-After", value),)))
    with pytest.raises(ModelUnavailable) as raised:
        await events_of(make_client())
    assert raised.value.retry_after is not None
    assert abs(raised.value.retry_after.total_seconds() - 42) < 3


async def test_giving_up_hangs_up(server: FakeModelServer, make_client: Callable[..., ModelClient]) -> None:
    server.gate.clear()
    asking = asyncio.create_task(events_of(make_client(limits=ModelLimits())))
    await server.wait_for_requests(1)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    async with asyncio.timeout(5):
        while not server.disconnects:
            await asyncio.sleep(0)


# --- fallback -----------------------------------------------------------------------------------


def fallback(*clients: ModelClient, rule: RetryRule | None = None) -> FallbackModel:
    rule = rule or RetryRule(first_wait=timedelta(milliseconds=1))
    return FallbackModel([Candidate(client, Breaker()) for client in clients], rule)


async def test_the_next_model_answers_when_the_first_fails(
    server: FakeModelServer, make_client: Callable[..., ModelClient]
) -> None:
    model = fallback(make_client("http://127.0.0.1:9/v1"), make_client())
    assert text_of(await events_of(model)) == "回声:你好"


async def test_a_cut_answer_begins_again(
    server: FakeModelServer, make_client: Callable[..., ModelClient]
) -> None:
    server.behave(CutHalfWay(), Answer("我在听。"))
    events = await events_of(fallback(make_client()))
    assert Restarted() in events
    assert text_of(events) == "我在听。"


async def test_a_short_retry_after_is_waited_out(
    server: FakeModelServer, make_client: Callable[..., ModelClient]
) -> None:
    server.behave(Status(429, headers=(("Retry-After", "0.05"),)))
    assert text_of(await events_of(fallback(make_client()))) == "回声:你好"


async def test_a_long_retry_after_opens_the_breaker(
    server: FakeModelServer, make_client: Callable[..., ModelClient]
) -> None:
    server.behave(Status(429, headers=(("Retry-After", "60"),)))
    model = fallback(make_client())
    with pytest.raises(ModelUnavailable):
        await events_of(model)
    assert not model.available
    assert len(server.requests) == 1


async def test_all_fail(server: FakeModelServer, make_client: Callable[..., ModelClient]) -> None:
    server.default = Status(500)
    with pytest.raises(ModelUnavailable) as raised:
        await events_of(fallback(make_client(), make_client()))
    assert raised.value.reason == "server_error"
    assert len(server.requests) == 4, "two tries each"


async def test_a_refused_prompt_says_nothing_of_the_endpoint(
    server: FakeModelServer, make_client: Callable[..., ModelClient]
) -> None:
    server.default = Status(400, error_code="data_inspection_failed")
    model = FallbackModel([Candidate(make_client(), Breaker(BreakerRule(failures=1)))])
    with pytest.raises(ModelUnavailable):
        await events_of(model)
    assert model.available


async def test_calls_at_once_are_bounded(
    server: FakeModelServer, make_client: Callable[..., ModelClient]
) -> None:
    server.gate.clear()
    client = make_client(limits=ModelLimits())
    model = fallback(client, rule=RetryRule(calls_at_once=3))
    asking = [asyncio.create_task(events_of(model)) for _ in range(9)]
    await server.wait_for_requests(3)
    server.gate.set()
    answers = await asyncio.gather(*asking)
    assert all(text_of(answer) == "回声:你好" for answer in answers)
    assert server.most_answering <= 3


async def test_giving_up_while_waiting_for_a_slot_leaves_the_model_askable(
    server: FakeModelServer, make_client: Callable[..., ModelClient]
) -> None:
    """As when a person writes on: the turn that begins again must find a model that may be asked."""
    breaker = Breaker(BreakerRule(failures=1, first_rest_seconds=0.01))
    model = FallbackModel([Candidate(make_client(), breaker)], RetryRule(tries=1, calls_at_once=1))
    server.behave(Status(500))
    with pytest.raises(ModelUnavailable):
        await events_of(model)
    server.gate.clear()
    await asyncio.sleep(0.02)  # the breaker's rest, by its own clock
    holding = asyncio.create_task(events_of(model))
    await server.wait_for_requests(2)
    waiting = asyncio.create_task(events_of(model))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    server.gate.set()
    await holding
    assert model.available
    assert text_of(await events_of(model)) == "回声:你好"


async def test_who_waits_too_long_for_a_slot_is_told(
    server: FakeModelServer, make_client: Callable[..., ModelClient]
) -> None:
    model = FallbackModel(
        [Candidate(make_client(), Breaker())], RetryRule(total_seconds=0.2, calls_at_once=1)
    )
    server.gate.clear()
    holding = asyncio.create_task(events_of(model))
    await server.wait_for_requests(1)
    with pytest.raises(ModelUnavailable, match="busy"):
        await events_of(model)
    holding.cancel()
    await asyncio.gather(holding, return_exceptions=True)
