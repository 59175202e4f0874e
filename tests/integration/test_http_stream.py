"""POST /chat/stream of the running program: events, resuming after a cut and after kill -9, errors."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.fakes.model_server import CUT, KEY, MODEL, PacedModel
from tests.fakes.program import Program

pytestmark = pytest.mark.asyncio(loop_scope="module")
PATIENCE = 20.0
TIMEOUT = 3
"""The program's TIMEOUT: long beside everything but the one test that waits for it."""


@dataclass(frozen=True, slots=True)
class Event:
    name: str
    data: dict[str, Any]
    id: str | None


@dataclass
class Reader:
    """What a client keeps: the text so far and the last event's id."""

    text: str = ""
    turn_id: str = ""
    last_id: str | None = None
    deltas: list[Event] = field(default_factory=list)
    end: Event | None = None

    def take(self, event: Event) -> None:
        self.last_id = event.id or self.last_id
        if event.name == "delta":
            self.turn_id = event.data["turn_id"]
            self.text = self.text[: event.data["offset"]] + event.data["text"]
            self.deltas.append(event)
        else:
            self.end = event


async def events_of(response: aiohttp.ClientResponse) -> AsyncIterator[Event]:
    """Server-sent events, as a browser's parser would give them."""
    fields: dict[str, str] = {}
    async for line in response.content:
        name, colon, value = line.decode().rstrip("\n").partition(":")
        if colon and name:
            fields[name] = value.removeprefix(" ")
        elif not name and not colon and fields:
            yield Event(fields["event"], json.loads(fields["data"]), fields.get("id"))
            fields = {}


class Client:
    """A client of one message: it asks, reads, is cut off, and asks again with the same key."""

    def __init__(self, program: Program, user_id: str, message: str = "你好", **more: object) -> None:
        self.reader = Reader()
        self.response: aiohttp.ClientResponse | None = None
        self._session = aiohttp.ClientSession(program.url)
        self._body = {"message": message, "user_id": user_id, **more}
        self._key = f"key-{user_id}-{message[:3].encode().hex()}"
        self._events: AsyncIterator[Event]

    async def ask(self, last_id: str | None = None) -> None:
        headers = {"Idempotency-Key": self._key}
        if last_id is not None or self.reader.last_id is not None:
            headers["Last-Event-ID"] = last_id or self.reader.last_id or ""
        self.response = await self._session.post("/chat/stream", json=self._body, headers=headers)
        assert self.response.status == 200, await self.response.text()
        self._events = events_of(self.response)

    async def read_until(self, text: str) -> None:
        """Read on until this is the text so far."""
        async with asyncio.timeout(PATIENCE):
            async for event in self._events:
                self.reader.take(event)
                if self.reader.text == text:
                    return
        raise AssertionError(f"the stream ended with {self.reader.text!r}")

    async def read_to_end(self) -> Reader:
        async with asyncio.timeout(PATIENCE):
            async for event in self._events:
                self.reader.take(event)
        return self.reader

    def cut(self) -> None:
        """The network goes away under the client: a reset, no goodbye."""
        assert self.response is not None and self.response.connection is not None
        transport = self.response.connection.transport
        assert isinstance(transport, asyncio.Transport)
        transport.abort()

    async def history(self) -> list[dict[str, Any]]:
        query = {"user_id": str(self._body["user_id"])}
        async with self._session.get("/chat/history", params=query) as response:
            messages: list[dict[str, Any]] = (await response.json())["messages"]
            return messages

    async def close(self) -> None:
        await self._session.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def model() -> AsyncIterator[PacedModel]:
    async with PacedModel() as model:
        yield model


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def program(model: PacedModel, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Program]:
    settings = {
        "LLM_API_KEY": KEY,
        "LLM_BASE_URL": model.base_url,
        "DEFAULT_MODEL": MODEL,
        "TIMEOUT": str(TIMEOUT),
        "BURST_QUIET_SECONDS": "0.5",
    }
    program = Program(Path(tmp_path_factory.mktemp("stream")), settings)
    await program.start()
    yield program
    await program.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def clients() -> AsyncIterator[list[Client]]:
    clients: list[Client] = []
    yield clients
    for client in clients:
        await client.close()


@pytest.fixture(autouse=True)
def asked_before(model: PacedModel) -> Iterator[int]:
    """How often the model had been asked when the test began; what a failed test left unsaid is not said later."""
    model.pace()
    yield len(model.requests)
    model.say(*[None] * 4)


async def test_deltas_make_up_the_answer(program: Program, model: PacedModel, clients: list[Client]) -> None:
    client = Client(program, "joined")
    clients.append(client)
    model.say("我在听，", "👨‍👩‍👧 ", "你慢慢\n说。", None)
    await client.ask()
    assert client.response is not None
    assert client.response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert client.response.headers["Cache-Control"] == "no-store"
    assert client.response.headers["X-Accel-Buffering"] == "no"
    reader = await client.read_to_end()
    assert reader.end is not None and reader.end.name == "done"
    assert reader.text == reader.end.data["reply"] == "我在听，👨‍👩‍👧 你慢慢\n说。"
    assert "".join(event.data["text"] for event in reader.deltas) == reader.text
    said, answered = await client.history()
    assert (said["role"], said["text"]) == ("user", "你好")
    assert (answered["message_id"], answered["text"]) == (reader.end.data["message_id"], reader.text)


async def test_each_piece_comes_as_it_is_said(
    program: Program, model: PacedModel, clients: list[Client]
) -> None:
    client = Client(program, "live")
    clients.append(client)
    model.say("一")
    await client.ask()
    await client.read_until("一")
    model.say("二")
    await client.read_until("一二")
    model.say("三", None)
    assert (await client.read_to_end()).text == "一二三"
    assert [event.data["offset"] for event in client.reader.deltas] == [0, 1, 2]


async def test_resuming_at_once_gives_the_rest(
    program: Program, model: PacedModel, clients: list[Client], asked_before: int
) -> None:
    client, witness = Client(program, "resumed"), Client(program, "resumed")
    clients.extend([client, witness])
    model.say("第一句，")
    await client.ask()
    await client.read_until("第一句，")
    await witness.ask()
    seen = client.reader.deltas.copy()
    client.cut()
    model.say("第二句，", "第三句。", None)
    await client.ask()
    reader = await client.read_to_end()
    assert reader.text == "第一句，第二句，第三句。" and reader.end is not None
    assert reader.end.data["reply"] == reader.text
    rest = reader.deltas[len(seen) :]
    assert rest[0].data["offset"] == len("第一句，"), "nothing is said twice"
    assert {event.data["turn_id"] for event in reader.deltas} == {seen[0].data["turn_id"]}
    assert len(model.requests) == asked_before + 1
    assert len(await client.history()) == 2


async def test_resuming_after_the_end_gives_the_rest(
    program: Program, model: PacedModel, clients: list[Client], asked_before: int
) -> None:
    client, witness = Client(program, "late"), Client(program, "late")
    clients.extend([client, witness])
    model.say("开头，")
    await client.ask()
    await client.read_until("开头，")
    client.cut()
    await witness.ask()
    model.say("结尾。", None)
    whole = await witness.read_to_end()
    await client.ask()
    reader = await client.read_to_end()
    assert reader.end == whole.end
    assert [event.data["text"] for event in reader.deltas] == ["开头，", "结尾。"]
    assert len(model.requests) == asked_before + 1


async def test_the_answer_goes_on_when_nobody_watches(
    program: Program, model: PacedModel, clients: list[Client], asked_before: int
) -> None:
    client = Client(program, "unwatched")
    clients.append(client)
    model.say("说了一半，")
    await client.ask()
    await client.read_until("说了一半，")
    client.cut()
    model.say("剩下的一半。", None)
    await client.ask()
    reader = await client.read_to_end()
    assert reader.end is not None
    assert reader.text == reader.end.data["reply"] == "说了一半，剩下的一半。"
    assert len(model.requests) == asked_before + 1


async def test_two_who_follow_the_same_message_get_the_same(
    program: Program, model: PacedModel, clients: list[Client], asked_before: int
) -> None:
    first, second = Client(program, "shared"), Client(program, "shared")
    clients.extend([first, second])
    model.say("同一个")
    await asyncio.gather(first.ask(), second.ask())
    await asyncio.gather(first.read_until("同一个"), second.read_until("同一个"))
    model.say("答案", None)
    one, other = await asyncio.gather(first.read_to_end(), second.read_to_end())
    assert one.text == other.text == "同一个答案" and one.end == other.end
    assert len(model.requests) == asked_before + 1


async def test_a_model_that_breaks_off_begins_again_for_the_reader_too(
    program: Program, model: PacedModel, clients: list[Client], asked_before: int
) -> None:
    client = Client(program, "again")
    clients.append(client)
    model.say("说到一半就")
    await client.ask()
    await client.read_until("说到一半就")
    first_turn = client.reader.turn_id
    model.say(CUT, "从头说完。", None)
    reader = await client.read_to_end()
    assert reader.end is not None and reader.text == reader.end.data["reply"] == "从头说完。"
    assert reader.turn_id != first_turn
    assert len(model.requests) == asked_before + 2


@pytest.mark.parametrize("last_id", ["", "nonsense", "1-999999999", "9" * 400, "٣-٤", "-1--1", "0-0", "é"])
async def test_an_id_that_is_not_ours_means_from_the_beginning(
    program: Program, model: PacedModel, clients: list[Client], last_id: str
) -> None:
    client = Client(program, f"odd-{last_id.encode().hex()[:40]}")
    clients.append(client)
    model.say("都在这里", None)
    await client.ask(last_id)
    reader = await client.read_to_end()
    assert reader.end is not None and reader.text == reader.end.data["reply"] == "都在这里"


async def test_messages_in_a_row_may_be_answered_together(
    program: Program, model: PacedModel, clients: list[Client], asked_before: int
) -> None:
    first = Client(program, "burst", "今天", coalesce=True)
    second = Client(program, "burst", "好累", coalesce=True)
    clients.extend([first, second])
    model.say("辛苦了", None)
    async with asyncio.TaskGroup() as group:
        for client in (first, second):
            group.create_task(client.ask())
    one, other = await asyncio.gather(first.read_to_end(), second.read_to_end())
    assert one.end is not None and one.end == other.end
    assert one.text == other.text == "辛苦了"
    assert len(model.requests) == asked_before + 1
    last = model.requests[-1]["messages"][-1]["content"]
    assert "今天" in last and "好累" in last


async def test_what_is_refused_is_an_ordinary_answer(program: Program) -> None:
    async with (
        aiohttp.ClientSession(program.url) as session,
        session.post("/chat/stream", json={"message": "", "user_id": "x"}) as response,
    ):
        assert response.status == 422
        assert response.content_type == "application/problem+json"


async def test_too_late_is_an_error_event_and_the_rest_comes_later(
    program: Program, model: PacedModel, clients: list[Client], asked_before: int
) -> None:
    client = Client(program, "slow")
    clients.append(client)
    model.say("等一等，")
    await client.ask()
    error = (await client.read_to_end()).end
    assert error is not None and error.name == "error"
    assert error.data["status"] == 504 and error.data["retryable"] is True
    assert {"type", "title", "detail", "instance"} <= set(error.data)
    assert client.reader.text == "等一等，"
    model.say("好了。", None)
    await client.ask()
    reader = await client.read_to_end()
    assert reader.end is not None and reader.end.name == "done"
    assert reader.text == reader.end.data["reply"] == "等一等，好了。"
    assert len(model.requests) == asked_before + 1
    assert len(await client.history()) == 2


async def test_kill_and_start_before_the_end_answers_once(
    program: Program, model: PacedModel, clients: list[Client]
) -> None:
    client = Client(program, "killed")
    clients.append(client)
    model.say("还没说完")
    await client.ask()
    await client.read_until("还没说完")
    first_turn = client.reader.turn_id
    await program.kill()
    await program.start()
    model.say("重新", "说完了。", None)
    await client.ask()
    reader = await client.read_to_end()
    assert reader.end is not None and reader.text == reader.end.data["reply"] == "重新说完了。"
    assert reader.turn_id != first_turn
    said, answered = await client.history()
    assert said["text"] == "你好" and answered["text"] == "重新说完了。"


async def test_kill_and_start_after_the_end_gives_the_rest(
    program: Program, model: PacedModel, clients: list[Client], asked_before: int
) -> None:
    client, witness = Client(program, "stored"), Client(program, "stored")
    clients.extend([client, witness])
    model.say("留住了")
    await client.ask()
    await client.read_until("留住了")
    client.cut()
    await witness.ask()
    model.say("后半句", None)
    whole = await witness.read_to_end()
    await program.kill()
    await program.start()
    await client.ask()
    reader = await client.read_to_end()
    assert reader.end == whole.end
    assert [event.data["text"] for event in reader.deltas] == ["留住了", "后半句"]
    assert len(model.requests) == asked_before + 1


async def test_deltas_end_where_the_stored_answer_ends(
    program: Program, model: PacedModel, clients: list[Client]
) -> None:
    client = Client(program, "blank")
    clients.append(client)
    model.say("\n 说完了。", "  \n\n", None)
    await client.ask()
    reader = await client.read_to_end()
    assert reader.end is not None and reader.text == reader.end.data["reply"] == "说完了。"


async def test_resuming_in_the_middle_goes_on_live(
    program: Program, model: PacedModel, clients: list[Client], asked_before: int
) -> None:
    client = Client(program, "middle")
    clients.append(client)
    model.say("一，")
    await client.ask()
    await client.read_until("一，")
    client.cut()
    model.say("二，")  # nobody is there: the program notices that its reader is gone
    await _wait_for_line(program, 499)
    await client.ask()
    await client.read_until("一，二，")
    model.say("三。", None)
    reader = await client.read_to_end()
    assert reader.end is not None and reader.text == reader.end.data["reply"] == "一，二，三。"
    assert len(model.requests) == asked_before + 1


async def _wait_for_line(program: Program, status: int) -> None:
    """Wait until the access log's last line has this status."""
    log = program.folder / "log" / "access.log"
    async with asyncio.timeout(PATIENCE):
        while json.loads(log.read_text().splitlines()[-1])["status"] != status:
            await asyncio.sleep(0.02)  # a process of another program has no event to wait on
