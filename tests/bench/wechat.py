"""WeChat's worst evening: everybody writes at once, and the model takes longer than WeChat waits."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adapters.wechat.settings import PATH, Delivery
from tests.bench.load import running
from tests.fakes.wechat_platform import FakeWechat

PATIENCE = 120.0
DOUBLES_SECONDS = 5.0
"""After which what comes twice has come twice."""
MORE = "继续"


@dataclass(frozen=True, slots=True)
class Evening:
    """What became of so many messages."""

    people: int
    tries: Sequence[float]
    """Seconds that each response took, of those that were one."""
    unanswered: int
    """Messages of which no try got any response at all: the trouble notice."""
    shown: Sequence[int]
    """How often each person saw their answer."""
    waited: Sequence[float]
    """From a person's message to their answer."""

    @property
    def answered_in_time(self) -> float:
        """The share of messages that got a response within WeChat's patience, in percent."""
        return 100 * (1 - self.unanswered / self.people)

    @property
    def once(self) -> float:
        return 100 * sum(count == 1 for count in self.shown) / self.people

    def waited_at(self, percent: int) -> float:
        return statistics.quantiles(self.waited, n=100)[percent - 1]


async def evening(folder: Path, delivery: Delivery, people: int, model_seconds: float) -> Evening:
    """Everybody says one thing at once; who has not seen the answer after the last try asks for it until they have."""
    async with FakeWechat(certified=delivery is Delivery.CERTIFIED) as wechat:
        settings = {
            "WECHAT_APP_ID": wechat.app_id,
            "WECHAT_APP_SECRET": wechat.secret,
            "WECHAT_TOKEN": wechat.token,
            "WECHAT_API_BASE_URL": wechat.base_url,
            "WECHAT_DELIVERY": delivery.value,
        }
        async with running(folder, model_seconds, **settings) as program:
            wechat.webhook_url = f"{program.url}{PATH}"
            began = time.monotonic()
            said = {wechat.say(_person(number), _text(number)): number for number in range(people)}
            await wechat.settled(PATIENCE)
            tries = [list(wechat.tried[key]) for key in said]
            await _fetch(wechat, people)
            shown = [_answers(wechat, number) for number in range(people)]
            first = [
                next(
                    (
                        one.at
                        for one in wechat.shown
                        if one.openid == _person(number) and _answer(number) in one.text
                    ),
                    None,
                )
                for number in range(people)
            ]
    return Evening(
        people=people,
        tries=[one.duration for of_one in tries for one in of_one if one.outcome in ("answered", "success")],
        unanswered=sum(all(one.outcome not in ("answered", "success") for one in of_one) for of_one in tries),
        shown=shown,
        waited=[at - began for at in first if at is not None],
    )


async def _fetch(wechat: FakeWechat, people: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        missing = [number for number in range(people) if not _answers(wechat, number)]
        if not missing:
            await asyncio.sleep(DOUBLES_SECONDS)
            return
        if wechat.certified:  # it is pushed
            await asyncio.sleep(0.1)
            continue
        for number in missing:
            wechat.say(_person(number), MORE)
        await wechat.settled(PATIENCE)


def _answers(wechat: FakeWechat, number: int) -> int:
    return sum(text.count(_answer(number)) for text in wechat.on_phone(_person(number)))


def _person(number: int) -> str:
    return f"oBenchPerson{number:05d}"


def _text(number: int) -> str:
    return f"我是第{number:05d}个，今晚睡不着。"


def _answer(number: int) -> str:
    return f"回声:{_text(number)}"
