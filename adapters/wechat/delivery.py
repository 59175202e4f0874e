"""Which response a message gets, and when: WeChat waits five seconds, tries three times, and then blames the account.

developers.weixin.qq.com, "被动回复用户消息": a response within five seconds is shown; without one the platform closes
the connection and asks again, three times in all, and then tells the person 「该公众号提供的服务出现故障，请稍后再试」.
docs/wechat.md explains the three strategies to an operator.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from adapters.wechat.api import WechatApi
from adapters.wechat.files import FileLinks
from adapters.wechat.notices import Notices
from adapters.wechat.render import HINT_BYTES, LIMIT_BYTES, joined, says, size_of
from adapters.wechat.send import kind_of
from adapters.wechat.settings import Delivery as Strategy
from core.language import Language, language_of
from core.messages import Delivery, IncomingMessage
from core.passive import Arrival, PassiveReplies

HOLD_SECONDS = 4.5
"""How long the response may be held back: what is left of the five seconds is for the way."""
CLOSED_AFTER_SECONDS = 5.5
"""By then WeChat has closed a connection that was not answered."""
TRY_SECONDS = 5.0
TRIES = 3
UNCERTIFIED_WINDOW = timedelta(seconds=TRIES * TRY_SECONDS + 1)
QUICK_WINDOW = timedelta(seconds=TRY_SECONDS)
YOUNG_SECONDS = TRIES * TRY_SECONDS
"""A process as young as this may not have been there for the tries before."""
BELIEVABLE_SECONDS = 30.0
MORE = "more"
AGAIN_SECONDS = 0.25
"""Between two looks whether what another task has in its hands is free."""


@dataclass(frozen=True, slots=True)
class Response:
    """`text` empty: `success`, nothing is shown."""

    text: str
    taken: tuple[Delivery, ...] = ()


SUCCESS = Response("")


def window(api: WechatApi) -> timedelta:
    """How long after a message came its answer may still ride on a response."""
    return QUICK_WINDOW if api.pushes or api.account.delivery is Strategy.QUICK else UNCERTIFIED_WINDOW


class Responder:
    """Waits for answers and puts the responses together, for one account."""

    def __init__(
        self,
        api: WechatApi,
        replies: PassiveReplies,
        links: FileLinks,
        notices: Mapping[Language, Notices],
        more: Mapping[Language, str],
        began: float,
    ) -> None:
        """`more`: what to say for the rest. `began`: when this process did, by time.monotonic()."""
        self._api = api
        self._replies = replies
        self._links = links
        self._notices = notices
        self._more = more
        self._began = began

    async def respond(
        self, arrival: Arrival, asked_at: float, is_open: Callable[[], bool]
    ) -> Response | None:
        """The response; None: leave the connection to be closed, the platform will ask again.

        `asked_at`: when this try came, by time.monotonic(). Raises StoreUnavailable.
        """
        command = arrival.message.command
        if command is not None and command.name == MORE:
            response = await self._what_there_is(arrival)
            if response is not None:
                return response
        await self._api.learn()
        last = self._is_last(arrival, asked_at)
        until = asked_at + (HOLD_SECONDS if last else CLOSED_AFTER_SECONDS)
        if await self._replies.settled(arrival, until - time.monotonic(), is_open):
            response = await self._as_soon_as_free(arrival, until, is_open)
            if response is not None:
                return response
        if not last or not is_open():
            return None
        return await self._at_the_deadline(arrival)

    async def _as_soon_as_free(
        self, arrival: Arrival, until: float, is_open: Callable[[], bool]
    ) -> Response | None:
        """What is owed, as soon as it is in nobody else's hands; None if that is not before the end."""
        while is_open():
            response = await self._what_there_is(arrival)
            if response is not None:
                return response
            if not await self._replies.is_owed(arrival):  # another response had it, or it needs none
                return SUCCESS
            if time.monotonic() >= until:
                return None
            await asyncio.sleep(AGAIN_SECONDS)
        return None

    async def _what_there_is(self, arrival: Arrival) -> Response | None:
        """Everything that is unsent, as far as it fits."""
        pushes = self._api.pushes
        notices = self._notices[_language(arrival)]
        taken = await self._replies.take(
            arrival, lambda unsent: self._fitting(unsent, pushes=pushes), rest_due=pushes
        )
        if not taken.deliveries:
            return None
        texts = [self._links.in_text(delivery) for delivery in taken.deliveries]
        if taken.left and not pushes:
            texts.append(self._with_more(notices.more, _language(arrival)))
        return Response(joined(texts), taken.deliveries)

    def _fitting(self, unsent: Sequence[Delivery], *, pushes: bool) -> list[Delivery]:
        """The first few that fit into one message; a picture that can be pushed ends them."""
        fitting: list[Delivery] = []
        texts: list[str] = []
        for delivery in unsent:
            media = delivery.segment.media
            if pushes and media is not None and kind_of(media) is not None:
                break
            texts.append(self._links.in_text(delivery))
            limit = LIMIT_BYTES if pushes or len(fitting) + 1 == len(unsent) else LIMIT_BYTES - HINT_BYTES
            if fitting and size_of(joined(texts)) > limit:
                break
            fitting.append(delivery)
        return fitting

    async def _at_the_deadline(self, arrival: Arrival) -> Response:
        """The answer is not ready and nobody will ask for it again."""
        response = await self._what_there_is(arrival)
        if self._api.pushes:
            return response or SUCCESS
        if await self._replies.has_newer(arrival):  # whose response can still bring it
            return response or SUCCESS
        language = _language(arrival)
        if response is None:
            return self.later(arrival.message, language)
        told = joined([response.text, self._with_more(self._notices[language].also_later, language)])
        return Response(told, response.taken) if size_of(told) <= LIMIT_BYTES else response

    def later(self, message: IncomingMessage | None, language: Language) -> Response:
        """That the answer takes longer, and how to get it."""
        notices = self._notices[language]
        asked_for_it = message is not None and message.command is not None and message.command.name == MORE
        return Response(self._with_more(notices.still_later if asked_for_it else notices.later, language))

    def _with_more(self, notice: str, language: Language) -> str:
        word = self._more[language]
        return notice.format(more=says(word, word))

    def _is_last(self, arrival: Arrival, asked_at: float) -> bool:
        """Whether nobody asks again. Where that cannot be known it is: a word too early is no trouble notice."""
        if self._api.pushes or self._api.account.delivery is Strategy.QUICK:
            return True
        if arrival.times >= TRIES or arrival.since_first.total_seconds() > (TRIES - 1) * TRY_SECONDS - 0.7:
            return True
        age = (datetime.now(UTC) - arrival.message.sent_at).total_seconds()
        if arrival.times > 1:  # only then: clocks may be some seconds apart
            return (TRIES - 1) * TRY_SECONDS - 0.7 < age < BELIEVABLE_SECONDS
        # While it was starting, tries may have been refused quickly; a message's age tells only whole seconds.
        return asked_at - self._began < YOUNG_SECONDS and 2.0 <= age < BELIEVABLE_SECONDS


def _language(arrival: Arrival) -> Language:
    return language_of(arrival.message.text, arrival.message.language)
