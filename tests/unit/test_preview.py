"""The preview: shown while the answer is written, waited for at its end, and never the answer's trouble."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from core import preview
from core.errors import ChatGoesOn, DeliveryFailed, RecipientGone
from core.messages import Delivery
from core.preview import Preview

PATIENCE = 10.0
NEVER = 3600.0


@dataclass
class Screen:
    """A sender that shows previews, each as soon as its gate is open."""

    shown: list[tuple[int, str, str | None]] = field(default_factory=list)
    """Preview id, text, and the message that showed it before."""
    message_id: str | None = None
    trouble: Exception | None = None
    ended: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.gate, self._changed = asyncio.Event(), asyncio.Event()
        self.gate.set()

    async def send(self, delivery: Delivery) -> str | None:
        raise NotImplementedError

    async def show_typing(self, chat_id: str) -> None:
        raise NotImplementedError

    async def may_manage(self, chat_id: str, user_id: str) -> bool:
        raise NotImplementedError

    async def show_preview(
        self, chat_id: str, preview_id: int, text: str, message_id: str | None
    ) -> str | None:
        assert chat_id == "chat"
        self.shown.append((preview_id, text, message_id))
        self.change()
        await self.gate.wait()
        if self.trouble is not None:
            raise self.trouble
        self.ended.append(text)
        self.change()
        return self.message_id

    def change(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not holds():
                await self._changed.wait()

    @property
    def texts(self) -> list[str]:
        return [text for _, text, _ in self.shown]


@dataclass
class Watched:
    """A preview with all that it tells and asks."""

    screen: Screen
    message_id: str | None = None
    allowed: list[bool] = field(default_factory=list)
    """Answers to whether one more message may be sent; when there is none left: yes."""
    asked: int = 0
    remembered: list[str] = field(default_factory=list)
    refused: list[DeliveryFailed] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.preview = Preview(
            self.screen, "chat", self._may_send, self._remember, self._refuse, self.message_id
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Preview]:
        self.preview.begin(42)
        async with self.preview.running():
            yield self.preview

    async def _refuse(self, error: DeliveryFailed) -> None:
        self.refused.append(error)

    async def _may_send(self) -> bool:
        self.asked += 1
        self.screen.change()
        return self.allowed.pop(0) if self.allowed else True

    async def _remember(self, message_id: str) -> None:
        self.remembered.append(message_id)
        self.screen.change()


def previews() -> list[asyncio.Task[Any]]:
    """The tasks that show one."""
    return [task for task in asyncio.all_tasks() if task.get_name() == "preview"]


async def many_rounds() -> None:
    """Let everything go on that waits for no clock."""
    for _ in range(50):
        await asyncio.sleep(0)


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preview, "FIRST_AFTER_SECONDS", 0.001)
    monkeypatch.setattr(preview, "EVERY_SECONDS", 0.001)


async def test_an_answer_that_ends_at_once_is_never_shown() -> None:
    watched = Watched(Screen())
    async with watched.running() as shown:
        shown.append("好。")
    assert (watched.screen.shown, watched.asked, shown.shown) == ([], 0, False)


async def test_nothing_is_shown_before_the_first_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preview, "FIRST_AFTER_SECONDS", NEVER)
    monkeypatch.setattr(preview, "EVERY_SECONDS", 0.0)
    watched = Watched(Screen())
    async with watched.running() as shown:
        shown.append("我在听")
        await many_rounds()
    assert watched.screen.shown == []


async def test_between_updates_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preview, "FIRST_AFTER_SECONDS", 0.0)
    monkeypatch.setattr(preview, "EVERY_SECONDS", NEVER)
    watched = Watched(Screen())
    async with watched.running() as shown:
        shown.append("我")
        await watched.screen.until(lambda: watched.screen.ended == ["我"])
        shown.append("在听")
        await many_rounds()
    assert watched.screen.texts == ["我"]


@pytest.mark.usefixtures("fast")
async def test_what_is_written_is_shown_as_it_grows() -> None:
    watched = Watched(Screen())
    async with watched.running() as shown:
        shown.append("我在")
        await watched.screen.until(lambda: watched.screen.ended == ["我在"])
        assert shown.shown
        shown.append("听。")
        await watched.screen.until(lambda: len(watched.screen.ended) == 2)
    assert watched.screen.texts == ["我在", "我在听。"]
    assert {number for number, _, _ in watched.screen.shown} == {42}
    assert (watched.remembered, shown.message_id) == ([], None)  # it goes away by itself


async def test_the_same_text_and_blanks_are_not_shown_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preview, "FIRST_AFTER_SECONDS", 0.0)
    monkeypatch.setattr(preview, "EVERY_SECONDS", 0.0)
    watched = Watched(Screen())
    async with watched.running() as shown:
        shown.append(" \n")
        await many_rounds()
        assert (watched.screen.shown, watched.asked) == ([], 0)
        shown.append("我在")
        await watched.screen.until(lambda: len(watched.screen.ended) == 1)
        await many_rounds()
    assert (watched.screen.texts, watched.asked) == ([" \n我在"], 1)


@pytest.mark.usefixtures("fast")
async def test_without_room_for_a_message_nothing_is_shown() -> None:
    watched = Watched(Screen(), allowed=[False] * 5)
    async with watched.running() as shown:
        shown.append("我在")
        await watched.screen.until(lambda: watched.asked == 5)
        assert watched.screen.shown == []
        await watched.screen.until(lambda: watched.screen.ended == ["我在"])


@pytest.mark.usefixtures("fast")
async def test_an_update_under_way_is_waited_for() -> None:
    """It would come after the answer, and stand there."""
    watched = Watched(Screen())
    watched.screen.gate.clear()
    left = asyncio.Event()

    async def answer() -> None:
        async with watched.running() as shown:
            shown.append("我在")
            await watched.screen.until(lambda: watched.screen.texts == ["我在"])
        left.set()

    answering = asyncio.create_task(answer())
    await watched.screen.until(lambda: watched.screen.texts == ["我在"])
    await many_rounds()
    assert not left.is_set()
    watched.screen.gate.set()
    async with asyncio.timeout(PATIENCE):
        await answering
    assert watched.screen.ended == ["我在"]


@pytest.mark.usefixtures("fast")
async def test_an_update_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preview, "SHOW_SECONDS", 0.01)
    watched = Watched(Screen())
    watched.screen.gate.clear()
    async with asyncio.timeout(PATIENCE), watched.running() as shown:
        shown.append("我在")
        await watched.screen.until(lambda: watched.screen.texts == ["我在"])
    assert (watched.screen.ended, shown.shown) == ([], False)


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize(
    "trouble",
    [DeliveryFailed("flood"), RecipientGone(), ChatGoesOn("-1005"), TimeoutError(), ValueError("a sender's own fault")],
    ids=lambda trouble: type(trouble).__name__,
)  # fmt: skip
async def test_a_sender_in_trouble_ends_the_preview_and_not_the_answer(trouble: Exception) -> None:
    watched = Watched(Screen(trouble=trouble))
    async with watched.running() as shown:
        (showing,) = previews()
        shown.append("我在")
        await asyncio.wait({showing}, timeout=PATIENCE)
        assert showing.done()
        shown.append("听")
    assert (len(watched.screen.shown), shown.shown, watched.remembered) == (1, False, [])


@pytest.mark.usefixtures("fast")
async def test_an_answer_that_breaks_takes_the_preview_with_it() -> None:
    watched = Watched(Screen())
    with pytest.raises(RuntimeError, match="the model"):
        async with watched.running() as shown:
            shown.append("我在")
            await watched.screen.until(lambda: watched.screen.ended == ["我在"])
            raise RuntimeError("the model")
    assert previews() == []


@pytest.mark.usefixtures("fast")
async def test_a_message_that_shows_it_is_remembered_once_and_changed_from_then_on() -> None:
    watched = Watched(Screen(message_id="m1"))
    async with watched.running() as shown:
        for length in range(1, 4):
            shown.append("我")
            await watched.screen.until(lambda length=length: len(watched.screen.ended) == length)  # type: ignore[misc]
    assert watched.remembered == ["m1"]
    assert shown.message_id == "m1"
    assert [known for _, _, known in watched.screen.shown] == [None, "m1", "m1"]


@pytest.mark.usefixtures("fast")
async def test_a_message_of_an_earlier_try_is_gone_on_with() -> None:
    watched = Watched(Screen(message_id="m1"), message_id="m1")
    async with watched.running() as shown:
        shown.append("我")
        await watched.screen.until(lambda: watched.screen.ended == ["我"])
    assert (watched.screen.shown, watched.remembered) == ([(42, "我", "m1")], [])


@pytest.mark.usefixtures("fast")
async def test_an_answer_begun_anew_is_shown_under_its_own_number() -> None:
    watched = Watched(Screen())
    async with watched.running() as shown:
        shown.append("不是这句")
        await watched.screen.until(lambda: len(watched.screen.ended) == 1)
        shown.begin(43)
        shown.append("这句")
        await watched.screen.until(lambda: len(watched.screen.ended) == 2)
    assert watched.screen.shown == [(42, "不是这句", None), (43, "这句", None)]


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("turn_id", [1, 2**31 - 1, 2**31, 2**62 + 5])
async def test_its_number_is_one_that_platforms_take(turn_id: int) -> None:
    watched = Watched(Screen())
    async with watched.running() as shown:
        shown.begin(turn_id)
        shown.append("我")
        await watched.screen.until(lambda: watched.screen.ended == ["我"])
    assert 0 < watched.screen.shown[0][0] < 2**31
