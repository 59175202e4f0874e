"""Hundreds of people who talk with the program over HTTP and Telegram while it is being killed.

What counts is what the platforms saw: every message answered, in order, once. The one window in which a
reply may be sent twice (the platform has it, the row does not yet say so) is counted, and each doubled
reply must lie around a kill.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import aiohttp

from tests.fakes.program import Program
from tests.fakes.telegram_api import FakeTelegramApi

ECHO = "回声:"
COMMIT_SECONDS = 0.5
"""The longest that a commit takes on a busy machine: with Telegram's way back, the window."""
AGAIN = (503, 504)


@dataclass
class Crowd:
    """People by number; what each says is theirs alone, so that a mixed-up answer shows."""

    program: Program
    telegram: FakeTelegramApi | None
    on_web: int
    in_telegram: int
    messages: int = 3
    patience: float = 90.0
    """Seconds that anybody waits in all. A message that was lost is waited for in vain."""
    kills: list[float] = field(default_factory=list)
    """When something was killed, in monotonic seconds."""
    progress_at_kills: list[int] = field(default_factory=list)
    answered_on_web: int = 0

    @property
    def progress(self) -> int:
        """How many answers people have seen."""
        return self.answered_on_web + (len(self.telegram.sent) if self.telegram else 0)

    async def talk(self) -> None:
        """Everybody says everything and has it answered. Raises on a lost or mixed-up answer."""
        async with (
            aiohttp.ClientSession(self.program.url, connector=aiohttp.TCPConnector(limit=0)) as session,
            asyncio.timeout(self.patience),
            asyncio.TaskGroup() as people,
        ):
            for number in range(self.on_web):
                people.create_task(self._on_web(session, number))
            for number in range(self.in_telegram):
                people.create_task(self._in_telegram(number))

    async def _on_web(self, session: aiohttp.ClientSession, number: int) -> None:
        for turn, text in enumerate(self.texts("web", number)):
            reply = await self._ask(session, f"person-{number}", text, key=f"{number}-{turn}")
            assert reply == ECHO + text, f"{text!r} was answered with {reply!r}"
            self.answered_on_web += 1

    async def _ask(self, session: aiohttp.ClientSession, user_id: str, text: str, key: str) -> str:
        """As a client should: the same request with the same key until it is answered."""
        while True:
            try:
                async with session.post(
                    "/chat",
                    json={"message": text, "user_id": user_id},
                    headers={"Idempotency-Key": key},
                ) as response:
                    if response.status == 200:
                        reply: str = (await response.json())["reply"]
                        return reply
                    assert response.status in AGAIN, await response.text()
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(random.uniform(0.05, 0.2))  # a client's back-off

    async def _in_telegram(self, number: int) -> None:
        """Every other person waits for each answer, the rest write all at once."""
        telegram = self.telegram
        assert telegram is not None
        texts = self.texts("tg", number)
        for said, text in enumerate(texts, start=1):
            telegram.user_says(number + 1, text)
            if number % 2:
                await telegram.wait_until(
                    lambda said=said: len(self.heard_in_telegram(number)) >= said,  # type: ignore[misc]
                    self.patience,
                )
        await telegram.wait_until(lambda: len(self.heard_in_telegram(number)) >= len(texts), self.patience)

    def texts(self, place: str, number: int) -> list[str]:
        return [f"{place} {number} 说 {turn}" for turn in range(self.messages)]

    # --- what the platforms saw -------------------------------------------------------------

    def heard_in_telegram(self, number: int) -> list[str]:
        """What a person was answered to, in order, a doubled reply counted once."""
        assert self.telegram is not None
        sent = self.telegram.sent_to(number + 1)
        once = [reply for index, reply in enumerate(sent) if index == 0 or sent[index - 1] != reply]
        return [part for reply in once for part in reply.removeprefix(ECHO).split("|")]

    def doubled(self) -> int:
        """How many replies Telegram got twice. Fails on one that no kill explains."""
        assert self.telegram is not None
        count = 0
        for number in range(self.in_telegram):
            mine = [message for message in self.telegram.sent if message.chat_id == number + 1]
            for first, second in pairwise(mine):
                if first.text == second.text:
                    count += 1
                    around = [kill for kill in self.kills if first.at - 0.1 <= kill <= second.at]
                    window = self.telegram.way_back_seconds + COMMIT_SECONDS
                    assert any(kill - first.at <= window for kill in around), first
        return count

    def check_telegram(self) -> None:
        for number in range(self.in_telegram):
            assert self.heard_in_telegram(number) == self.texts("tg", number)

    async def check_web(self) -> None:
        """Each history is what was said and answered, in order, once."""
        async with aiohttp.ClientSession(self.program.url) as session:
            for number in range(self.on_web):
                query = {"user_id": f"person-{number}", "limit": "100"}
                async with session.get("/chat/history", params=query) as response:
                    messages = (await response.json())["messages"]
                expected = [each for text in self.texts("web", number) for each in (text, ECHO + text)]
                assert [message["text"] for message in messages] == expected


async def disturb(
    crowd: Crowd,
    steps: Sequence[int],
    kill: Callable[[], Awaitable[None]],
    start: Callable[[], Awaitable[None]],
) -> None:
    """Kill whenever people have got so many answers more, in the middle of all that goes on; start again."""
    for step in steps:
        wanted = crowd.progress + step
        while crowd.progress < wanted:
            await asyncio.sleep(0.005)  # a look at the crowd, now and then
        crowd.kills.append(asyncio.get_running_loop().time())
        crowd.progress_at_kills.append(crowd.progress)
        await kill()
        await start()
