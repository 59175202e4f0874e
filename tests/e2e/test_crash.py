"""kill -9, at random moments, of the program, of the database server and of the model server.

The moments are drawn anew each time; a failure prints them.
"""

from __future__ import annotations

import asyncio
import base64
import os
import random
import sqlite3
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.conftest import start_or_skip
from tests.e2e.crowd import ECHO, Crowd, disturb
from tests.fakes.model_server import KEY, MODEL, FakeModelServer
from tests.fakes.program import Program, free_port
from tests.fakes.telegram_api import TOKEN, FakeTelegramApi
from tests.services import MariaDb

pytestmark = pytest.mark.xdist_group("crash")  # one at a time: each keeps the machine busy


@pytest_asyncio.fixture
async def model() -> AsyncIterator[FakeModelServer]:
    async with FakeModelServer(latency=0.05) as model:
        yield model


@pytest_asyncio.fixture
async def telegram() -> AsyncIterator[FakeTelegramApi]:
    async with FakeTelegramApi() as telegram:
        yield telegram


@pytest.fixture
def program(tmp_path: Path, model: FakeModelServer, telegram: FakeTelegramApi) -> Program:
    settings = {
        "LLM_API_KEY": KEY,
        "LLM_BASE_URL": model.base_url,
        "DEFAULT_MODEL": MODEL,
        "TELEGRAM_BOT_TOKEN": TOKEN,
        "TELEGRAM_API_BASE_URL": telegram.base_url,
        "BURST_QUIET_SECONDS": "0.1",
        "BURST_MAX_SECONDS": "0.5",
    }
    return Program(tmp_path, settings)


def steps(kills: int, answers: int) -> list[int]:
    """How many answers to wait for before each kill: drawn anew, together most of what people will get."""
    weights = [random.uniform(0.3, 1.7) for _ in range(kills)]
    drawn = [max(1, int(0.8 * answers * weight / sum(weights))) for weight in weights]
    print(f"killed after each {drawn} answers")
    return drawn


async def talk_while(crowd: Crowd, disturbance: asyncio.Task[None]) -> None:
    """Everybody talks; whatever is killed is up again at the end. Every kill fell into the middle."""
    await crowd.talk()
    await disturbance
    assert crowd.progress_at_kills[-1] < crowd.progress
    print(f"answers seen at the kills: {crowd.progress_at_kills} of {crowd.progress}")


@pytest.fixture
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDb]:
    """A database server to be killed."""
    server = MariaDb(tmp_path_factory.mktemp("mariadb"))
    start_or_skip(server)
    yield server
    server.remove()


async def start_on_mariadb(program: Program, database: MariaDb) -> None:
    program.settings["DATABASE_URL"] = await asyncio.to_thread(database.fresh_database)
    program.settings["ENCRYPTION_KEY"] = base64.b64encode(os.urandom(32)).decode()
    assert await program.command("db", "upgrade") == 0
    await program.start()


async def test_killing_the_program_loses_nothing(program: Program, telegram: FakeTelegramApi) -> None:
    telegram.way_back_seconds = 0.02
    crowd = Crowd(program, telegram, on_web=150, in_telegram=150)
    await program.start()
    killing = asyncio.create_task(disturb(crowd, steps(8, 600), program.kill, program.start))
    await talk_while(crowd, killing)
    await check(crowd)
    assert await program.stop() == 0
    assert_nothing_is_owed(program)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_killing_the_program_forty_times_loses_nothing(
    program: Program, telegram: FakeTelegramApi
) -> None:
    telegram.way_back_seconds = 0.05
    # Few enough that a turn ends between two kills: begun ten times over, it would be given up (core.turn).
    crowd = Crowd(program, telegram, on_web=60, in_telegram=60, messages=20, patience=500)
    await program.start()
    killing = asyncio.create_task(disturb(crowd, steps(40, 1600), program.kill, program.start))
    await talk_while(crowd, killing)
    await check(crowd)
    assert await program.stop() == 0
    assert_nothing_is_owed(program)


async def test_killing_the_database_server_loses_and_doubles_nothing(
    program: Program, telegram: FakeTelegramApi, database: MariaDb
) -> None:
    await start_on_mariadb(program, database)
    crowd = Crowd(program, telegram, on_web=100, in_telegram=100)

    async def kill() -> None:
        await asyncio.to_thread(database.kill)

    async def start() -> None:
        await asyncio.to_thread(database.start)

    killing = asyncio.create_task(disturb(crowd, steps(4, 400), kill, start))
    await talk_while(crowd, killing)
    await check(crowd)
    assert crowd.doubled() == 0, "the program lived: it knows what it sent"


async def test_killing_both_at_once_loses_nothing(
    program: Program, telegram: FakeTelegramApi, database: MariaDb
) -> None:
    await start_on_mariadb(program, database)
    telegram.way_back_seconds = 0.02
    crowd = Crowd(program, telegram, on_web=60, in_telegram=60)

    async def kill() -> None:
        await asyncio.gather(program.kill(), asyncio.to_thread(database.kill))

    async def start() -> None:
        await asyncio.to_thread(database.start)
        await program.start()

    killing = asyncio.create_task(disturb(crowd, steps(4, 240), kill, start))
    await talk_while(crowd, killing)
    await check(crowd)


async def test_a_killed_model_server_is_answered_for_and_then_answers_itself(
    program: Program, telegram: FakeTelegramApi, model: FakeModelServer
) -> None:
    await program.start()
    crowd = Crowd(program, telegram, on_web=0, in_telegram=40, messages=1)
    await model.stop()
    for number in range(crowd.in_telegram):
        telegram.user_says(number + 1, crowd.texts("tg", number)[0])
    await telegram.wait_for_sent(crowd.in_telegram, 60)  # the listener
    assert not any(message.text.startswith(ECHO) for message in telegram.sent)
    await model.start()
    await telegram.wait_for_sent(2 * crowd.in_telegram, 60)  # the model, late
    for number in range(crowd.in_telegram):
        listener, late = telegram.sent_to(number + 1)
        assert not listener.startswith(ECHO)
        assert crowd.texts("tg", number)[0] in late
    assert await program.stop() == 0
    assert_nothing_is_owed(program)


async def test_killing_the_model_server_in_the_middle_ends_with_everybodys_real_answer(
    program: Program, telegram: FakeTelegramApi
) -> None:
    """kill -9 of a model server of its own process while it answers; it is back a little later."""
    port = free_port()
    program.settings["LLM_BASE_URL"] = f"http://127.0.0.1:{port}/v1"
    servers: list[asyncio.subprocess.Process] = []

    async def start() -> None:
        server = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.fakes.model_server", "--port", str(port), "--latency", "0.3"),
            stdout=asyncio.subprocess.PIPE,
        )
        assert server.stdout is not None
        await server.stdout.readline()  # it says so when it listens
        servers.append(server)

    async def kill() -> None:
        servers[-1].kill()
        await servers[-1].wait()

    await start()
    await program.start()
    crowd = Crowd(program, telegram, on_web=0, in_telegram=120, messages=1)
    for number in range(crowd.in_telegram):
        telegram.user_says(number + 1, crowd.texts("tg", number)[0])
    await asyncio.sleep(random.uniform(0.2, 0.6))  # the disturbance: people's answers are under way
    await kill()
    await asyncio.sleep(random.uniform(1.0, 2.0))  # long enough for the listener to speak up
    await start()
    try:
        for number in range(crowd.in_telegram):
            (text,) = crowd.texts("tg", number)
            await telegram.wait_until(
                lambda number=number, text=text: any(text in sent for sent in telegram.sent_to(number + 1)),  # type: ignore[misc]
                100,
            )
    finally:
        await kill()
    for number in range(crowd.in_telegram):
        sent = telegram.sent_to(number + 1)
        (text,) = crowd.texts("tg", number)
        assert len(sent) <= 2 and text in sent[-1], "the listener at most once, then the real answer"
        assert sum(text in each for each in sent) == 1
    listened = sum(len(telegram.sent_to(number + 1)) == 2 for number in range(crowd.in_telegram))
    print(f"answered by the listener first: {listened} of {crowd.in_telegram}")
    assert listened, "nobody noticed that it was away"


async def check(crowd: Crowd) -> None:
    crowd.check_telegram()
    await crowd.check_web()
    assert crowd.telegram is not None
    print(f"replies doubled in the window: {crowd.doubled()} of {len(crowd.telegram.sent)}")


def assert_nothing_is_owed(program: Program) -> None:
    with sqlite3.connect(program.folder / "data" / "xinyu.db") as database:
        for owed in (
            "inbox where state != 'done'",
            "deliveries where state != 'sent'",
            "conversations where lease_owner is not null",
        ):
            assert database.execute(f"select count(*) from {owed}").fetchone() == (0,), owed
