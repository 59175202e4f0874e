"""WeChat's three tries while processes are killed, connections cut and databases gone: once, and never in vain."""

from __future__ import annotations

import asyncio
import base64
import os
import random
import re
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from adapters.wechat.settings import PATH
from core.safety.protocol import load_protocols
from tests.companion import rows, until
from tests.fakes.program import Program
from tests.fakes.wechat_api import STABLE_TOKEN
from tests.services import MariaDb, RedisServer
from tests.wechat_world import MORE, WechatWorld, world_in

pytestmark = pytest.mark.xdist_group("crash")  # one at a time: each keeps the machine busy
ECHO = "回声:"
DANGER = "我想自杀"
PROTOCOL = set(load_protocols().texts.values())
ANSWER_SECONDS = 4.9


@dataclass
class Front:
    """A load balancer before the program: it keeps connections waiting while the program is away."""

    program: Program
    port: int = 0
    up: asyncio.Event = field(default_factory=asyncio.Event)
    cuts: int = 0
    """So many responses are still to be lost on their way, when they are written."""
    lost: list[bytes] = field(default_factory=list)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Front]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            yield self

    async def start(self) -> None:
        await self.program.start()
        self.up.set()

    async def kill(self) -> None:
        """kill -9; who comes now has to wait."""
        self.up.clear()
        await self.program.kill()

    async def _serve(self, client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        try:
            await self.up.wait()
            server, forth = await asyncio.open_connection("127.0.0.1", self.program.port)
        except OSError:
            back.close()
            return
        going = asyncio.create_task(_copy(client, forth))
        try:
            while answered := await server.read(65_536):
                if self.cuts > 0 and answered.startswith(b"HTTP/1.1 200"):
                    self.cuts -= 1
                    self.lost.append(answered)
                    break
                back.write(answered)
                await back.drain()
        except OSError:
            pass
        finally:
            going.cancel()
            forth.close()
            back.close()


async def _copy(source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
    while some := await source.read(65_536):
        to.write(some)
        await to.drain()
    to.close()


@asynccontextmanager
async def fronted(folder: Path, delivery: str) -> AsyncIterator[tuple[WechatWorld, Front]]:
    async with (
        world_in(folder, {"WECHAT_DELIVERY": delivery}, certified=delivery == "certified") as world,
        Front(world.program).listening() as front,
    ):
        world.wechat.webhook_url = f"http://127.0.0.1:{front.port}{PATH}"
        await front.start()
        yield world, front


def assert_once(world: WechatWorld, person: str, *said: str) -> None:
    """Somebody sees the answers to all that they said, in order, each once, and no trouble."""
    together = "\n".join(world.wechat.on_phone(person))
    found = re.findall("|".join(map(re.escape, said)), together)
    assert found == list(said), together
    assert not [shown for shown in world.wechat.shown if shown.kind == "trouble"]


async def until_thinking(world: WechatWorld, people: int) -> None:
    await until(lambda: world.model.answering >= people)


# --- one process -----------------------------------------------------------------------------------


async def test_a_process_killed_while_it_holds_a_try_answers_a_later_one(tmp_path: Path) -> None:
    people = [f"oPerson{number}" for number in range(8)]
    async with fronted(tmp_path, "uncertified") as (world, front):
        world.model.gate.clear()
        for person in people:
            world.wechat.say(person, f"{person}说的")
        await until_thinking(world, len(people))
        await front.kill()
        await front.start()
        world.model.gate.set()
        await world.wechat.settled()
        for person in people:
            assert_once(world, person, f"{person}说的")
        assert {shown.try_number for shown in world.wechat.shown} <= {2, 3}
        # Killed between this and what they say next: nothing comes again.
        await front.kill()
        await front.start()
        for person in people:
            world.wechat.say(person, f"{person}又说")
        await world.wechat.settled()
        for person in people:
            assert_once(world, person, f"{person}说的", f"{person}又说")


async def test_a_response_that_is_lost_on_its_way_is_given_again_and_shown_once(tmp_path: Path) -> None:
    people = [f"oPerson{number}" for number in range(6)]
    async with fronted(tmp_path, "uncertified") as (world, front):
        front.cuts = len(people) + 2  # some of them twice
        for person in people:
            world.wechat.say(person, f"{person}说的")
        await world.wechat.settled()
        assert front.cuts == 0 and all(ECHO.encode() in lost for lost in front.lost)
        for person in people:
            assert_once(world, person, f"{person}说的")
        await front.kill()  # nothing was left over
        await front.start()
        for person in people:
            world.wechat.say(person, f"{person}又说")
        await world.wechat.settled()
        for person in people:
            assert_once(world, person, f"{person}说的", f"{person}又说")


async def test_a_process_killed_before_it_could_push_pushes_once(tmp_path: Path) -> None:
    people = [f"oPerson{number}" for number in range(4)]
    async with fronted(tmp_path, "certified") as (world, front):
        world.model.gate.clear()
        for person in people:
            world.wechat.say(person, f"{person}说的")
        await world.wechat.settled()
        tries = [tried for tried_of_one in world.wechat.tried.values() for tried in tried_of_one]
        assert [(tried.outcome, tried.duration < ANSWER_SECONDS) for tried in tries] == [
            ("success", True)
        ] * len(people)
        await front.kill()
        await front.start()
        world.model.gate.set()
        for person in people:
            await world.wechat.wait_for(person, 1)
            assert_once(world, person, f"{person}说的")
        # Between WeChat's taking it and the row's saying so is the one window (docs/architecture.md).
        await until(lambda: not rows(tmp_path / "data", "SELECT id FROM deliveries WHERE state != 'sent'"))
        await front.kill()
        await front.start()
        for person in people:
            world.wechat.say(person, f"{person}又说")
        await world.wechat.settled()
        for person in people:
            assert_once(world, person, f"{person}说的", f"{person}又说")


@pytest.mark.parametrize("delivery", ["quick", "uncertified"])
async def test_killing_the_program_again_and_again_loses_and_doubles_nothing(
    tmp_path: Path, delivery: str
) -> None:
    people = [f"oPerson{number}" for number in range(30)]
    async with fronted(tmp_path, delivery) as (world, front):
        world.model.latency = 0.2

        async def talk(person: str) -> None:
            for turn in range(4):
                key = world.wechat.say(person, f"{person}第{turn}句")
                tried = world.wechat.tried[key]
                await world.wechat.wait_until(
                    lambda tried=tried: bool(tried) and tried[-1].outcome in ("answered", "success"),  # type: ignore[misc]
                    30.0,
                )

        async def disturb() -> None:
            for after in (random.uniform(0.1, 0.8), random.uniform(2.5, 3.5)):
                print(f"killed {after} seconds later")
                await asyncio.sleep(after)  # the disturbance
                await front.kill()
                await front.start()

        async with asyncio.timeout(60.0), asyncio.TaskGroup() as group:
            group.create_task(disturb())
            for person in people:
                group.create_task(talk(person))
        kept = "SELECT id FROM deliveries WHERE state IN ('pending', 'held') AND passed_with IS NULL"
        waiting = "SELECT id FROM inbox WHERE state = 'pending'"
        data = world.program.folder / "data"
        await until(lambda: not rows(data, waiting))
        while rows(data, kept):  # notes were given: now they are fetched
            for person in people:
                world.wechat.press_link(person, MORE)
            await world.wechat.settled()
        for person in people:
            said = [f"{person}第{turn}句" for turn in range(4)]
            await world.wechat.wait_until(
                lambda person=person, said=said: said[-1] in "".join(world.wechat.on_phone(person))  # type: ignore[misc]
            )
            assert_once(world, person, *said)


# --- several processes ------------------------------------------------------------------------------


@asynccontextmanager
async def three_and_a_worker(
    folder: Path, mariadb: MariaDb, redis: RedisServer
) -> AsyncIterator[tuple[WechatWorld, list[Program]]]:
    """Three processes take the tries in turn, a fourth thinks."""
    more = {
        "WECHAT_DELIVERY": "uncertified",
        "DATABASE_URL": await asyncio.to_thread(mariadb.fresh_database),
        "REDIS_URL": redis.url(),
        "ENCRYPTION_KEY": base64.b64encode(os.urandom(32)).decode(),
    }
    async with world_in(folder / "0", more, certified=False) as world, AsyncExitStack() as stack:
        assert await world.program.command("db", "upgrade") == 0
        settings = world.program.settings
        others = [
            Program(folder / str(number), dict(settings), ("run", "--role", "serve"))
            for number in range(1, 3)
        ]
        worker = Program(folder / "worker", dict(settings), ("run", "--role", "work"))
        world.program.arguments = ("run", "--role", "serve")
        serving = [world.program, *others]
        for program in (*others, worker):
            stack.push_async_callback(program.stop)
        await worker.start(wait=False)
        await asyncio.gather(*(program.start() for program in serving))
        world.wechat.routes = [f"{program.url}{PATH}" for program in serving]
        yield world, serving


async def test_three_tries_reach_three_processes(
    tmp_path: Path, mariadb: MariaDb, redis: RedisServer
) -> None:
    async with three_and_a_worker(tmp_path, mariadb, redis) as (world, serving):
        wechat = world.wechat
        assert wechat.calls[STABLE_TOKEN] == 1, "one token for all processes"
        for count, (person, seconds) in enumerate(
            (("oFirst", 0.0), ("oSecond", 7.0), ("oThird", 12.0), ("oLate", 17.0)), 1
        ):
            world.model.latency = seconds
            wechat.say(person, f"{person}说的")
            await world.model.wait_for_requests(count)
        world.model.latency = 0.0
        await wechat.wait_for("oLate", 1, 20.0)
        await wechat.settled()
        for number, person in enumerate(("oFirst", "oSecond", "oThird"), 1):
            (shown,) = [shown for shown in wechat.shown if shown.openid == person]
            assert (shown.text, shown.try_number) == (f"{ECHO}{person}说的", number)
        for tries in wechat.tried.values():
            assert [one.url for one in tries] == wechat.routes[: len(tries)]
        wechat.press_link("oLate", MORE)
        note, late = await wechat.wait_for("oLate", 2)
        assert MORE in note and late == f"{ECHO}oLate说的"
        assert len(world.model.requests) == 4, "nobody was thought about twice"
        # Killed while it holds the try: the next one goes to another process.
        world.model.gate.clear()
        wechat.say("oKilled", "你还在吗")
        await until_thinking(world, 1)
        await serving[0].kill()
        world.model.gate.set()
        assert await wechat.wait_for("oKilled", 1) == [f"{ECHO}你还在吗"]
        await wechat.settled()
        assert_once(world, "oKilled", "你还在吗")


async def test_with_the_database_server_gone_nobody_sees_the_trouble_notice(
    tmp_path: Path, mariadb: MariaDb, redis: RedisServer
) -> None:
    async with three_and_a_worker(tmp_path, mariadb, redis) as (world, _):
        wechat = world.wechat
        await asyncio.to_thread(mariadb.kill)
        try:
            await world.model.stop()
            wechat.hang()
            endangered = wechat.say("oDanger", DANGER)
            (protocol,) = await wechat.wait_for("oDanger", 1)
            assert protocol in PROTOCOL
            assert sum(one.duration for one in wechat.tried[endangered]) < ANSWER_SECONDS
            wechat.say("oPerson", "今天好累")
            await wechat.settled(20.0)
            assert not [shown for shown in wechat.shown if shown.kind == "trouble"]
        finally:
            await asyncio.to_thread(mariadb.start)


# --- a database that cannot be written -----------------------------------------------------------------


async def test_with_the_database_locked_danger_is_answered_at_once_and_nobody_sees_trouble(
    tmp_path: Path,
) -> None:
    async with asyncio.TaskGroup() as group:
        for delivery in ("quick", "uncertified", "certified"):
            group.create_task(_with_the_database_locked(tmp_path / delivery, delivery))


async def _with_the_database_locked(folder: Path, delivery: str) -> None:
    async with world_in(folder, {"WECHAT_DELIVERY": delivery}) as world:
        await world.program.start()
        wechat = world.wechat
        await world.model.stop()
        wechat.hang()
        with closing(sqlite3.connect(folder / "data" / "xinyu.db", isolation_level=None)) as database:
            database.execute("BEGIN EXCLUSIVE")
            key, other = wechat.say("oDanger", DANGER), wechat.say("oPerson", "今天好累")
            (protocol,) = await wechat.wait_for("oDanger", 1)
            assert protocol in PROTOCOL
            assert sum(one.duration for one in wechat.tried[key]) < ANSWER_SECONDS
            await wechat.settled(20.0)
            database.execute("ROLLBACK")
        assert wechat.tried[other][-1].outcome in ("answered", "success")
        assert not [shown for shown in wechat.shown if shown.kind == "trouble"]
