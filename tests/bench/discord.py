"""A busy evening in a Discord server: hundreds of people talk with each other, and some with the bot."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.bench.load import memory, running
from tests.fakes.discord_platform import Channel, FakeDiscord, User, running_discord

PEOPLE, CHANNELS = 500, 50
PATIENCE = 180.0
BACKGROUND = "我们接着说昨天那部电影吧，结局你们觉得怎么样？"


@dataclass(frozen=True, slots=True)
class Night:
    unaddressed_ms: float
    """CPU of the program a message that is not meant for it."""
    held: Sequence[float]
    """Its memory after each 5 000 messages, in MiB."""
    in_order: bool
    """Whether every channel's questions were answered once each, in their order."""
    last: float
    """Seconds from the first message to the last answer, of 5 000 with 500 questions."""
    too_many: int
    """Requests that Discord refused for their pace."""


async def night(folder: Path, rounds: int = 4) -> Night:
    async with running_discord() as discord:
        people = [discord.user(f"person-{number}") for number in range(PEOPLE)]
        guild = discord.guild("big", owner=people[0], members=people[1:])
        channels = [discord.channel(guild, f"channel-{number}") for number in range(CHANNELS)]
        settings = {
            "DISCORD_BOT_TOKEN": discord.token,
            "DISCORD_API_BASE_URL": discord.base_url,
            "BURST_QUIET_SECONDS": "0",
        }
        async with running(folder, 0.2, **settings) as program:
            process = psutil.Process(program.pid)
            await discord.wait_until(
                lambda: any(path.endswith("/commands") for _, path, _ in discord.requests), seconds=PATIENCE
            )
            crowd = _Crowd(discord, people, channels)
            await crowd.talk(5_000, questions=0)  # everything is loaded and known once
            await crowd.settle()
            before = _cpu(process)
            for _ in range(4):
                await crowd.talk(5_000, questions=0)
                await crowd.settle()
            unaddressed = (_cpu(process) - before) / 20_000 * 1000
            held, began = [], time.monotonic()
            for number in range(rounds):
                await crowd.talk(5_000, questions=500)
                await crowd.settle()
                if number == 0:
                    last = time.monotonic() - began
                held.append(memory(program))
        return Night(unaddressed, held, crowd.in_order(), last, discord.too_many)


class _Crowd:
    def __init__(self, discord: FakeDiscord, people: Sequence[User], channels: Sequence[Channel]) -> None:
        self._discord = discord
        self._people = people
        self._channels = channels
        self._asked: dict[Channel, list[str]] = {channel: [] for channel in channels}
        self._greetings = 0

    async def talk(self, count: int, questions: int) -> None:
        """So many messages, everybody in turn, of which so many are for the bot."""
        every = count // questions if questions else 0
        for number in range(count):
            person = self._people[number % PEOPLE]
            if every and number % every == 0:
                channel = self._channels[number // every % CHANNELS]
                said = f"{person.name} 的第 {len(self._asked[channel])} 问"
                self._asked[channel].append(said)
                await self._discord.says(person, channel, f"{self._discord.bot.mention} {said}")
            else:
                await self._discord.says(person, self._channels[number % CHANNELS], BACKGROUND)

    async def settle(self) -> None:
        """Until all is answered, and somebody who wrote after it, too."""
        direct = self._discord.direct(self._people[0])
        self._greetings += 1
        await self._discord.says(self._people[0], direct, "在吗")
        await self._discord.wait_until(
            lambda: (
                len(self._discord.messages(direct)) >= self._greetings
                and all(
                    said in self._heard(channel)
                    for channel in self._channels
                    for said in self._asked[channel][-1:]
                )
            ),
            seconds=PATIENCE,
        )

    def _heard(self, channel: Channel) -> str:
        return "\n".join(message.text for message in self._discord.messages(channel))

    def in_order(self) -> bool:
        """Several questions may share an answer; each is in one, after those before it."""
        for channel, asked in self._asked.items():
            heard = self._heard(channel)
            places = [heard.find(said) for said in asked]
            once = all(heard.count(said) == 1 for said in asked)
            if not once or places != sorted(places):
                return False
        return True


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system
