"""The models in the operator's order, each behind its breaker: the first that gives a whole answer wins."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import structlog

from core.errors import OF_THE_PROMPT, RESTING, ModelUnavailable
from core.model.breaker import Breaker
from core.model.client import ModelClient
from core.model.events import Finished, ModelEvent, PromptMessage, Restarted, TextDelta

log = structlog.get_logger()

FINAL_REASONS = frozenset(
    {"busy", "too_long", "refused_key", "no_such_model", "bad_request", "content_filter"}
)
"""The same call would fail the same way: no second try with this model."""
AT_ONCE_REASONS = frozenset({"refused_key", "no_such_model"})
"""One such failure shows that the endpoint is set up wrongly: its breaker opens at once."""


@dataclass(frozen=True, slots=True)
class RetryRule:
    tries: int = 2
    """With each model."""
    first_wait: timedelta = timedelta(milliseconds=400)
    longest_wait: timedelta = timedelta(seconds=3)
    """An endpoint that asks for a longer pause is passed over."""
    total_seconds: float = 60.0
    """For all models together, as long as nothing has come."""
    calls_at_once: int = 2048


@dataclass(frozen=True, slots=True)
class Candidate:
    client: ModelClient
    breaker: Breaker


class FallbackModel:
    """Implements core.ports.Model."""

    def __init__(self, candidates: Sequence[Candidate], rule: RetryRule = RetryRule()) -> None:
        self._candidates = tuple(candidates)
        self._rule = rule
        self._calls = asyncio.Semaphore(rule.calls_at_once)

    @property
    def available(self) -> bool:
        return any(candidate.breaker.lets_through for candidate in self._candidates)

    @property
    def states(self) -> dict[str, str]:
        """Each model's breaker, for /health."""
        return {c.client.endpoint.model: c.breaker.state.value for c in self._candidates}

    async def prepare(self) -> None:
        for candidate in self._candidates:
            await candidate.client.prepare()

    async def close(self) -> None:
        for candidate in self._candidates:
            await candidate.client.close()

    async def stream(self, prompt: Sequence[PromptMessage]) -> AsyncGenerator[ModelEvent, None]:
        last = ModelUnavailable("not_configured" if not self._candidates else RESTING)
        give_up_at = asyncio.get_running_loop().time() + self._rule.total_seconds
        shown = False
        for candidate in self._candidates:
            for tried in range(1, self._rule.tries + 1):
                if not candidate.breaker.lets_through:
                    break
                if shown:
                    yield Restarted()
                    shown = False
                try:
                    async with self._slot(give_up_at), aclosing(self._try(candidate, prompt)) as events:
                        async for event in events:
                            shown = shown or isinstance(event, TextDelta)
                            yield event
                    return
                except ModelUnavailable as error:
                    if error.reason == RESTING:
                        break
                    last = error
                if not await self._worth_another(last, tried):
                    break
        raise last

    @asynccontextmanager
    async def _slot(self, give_up_at: float) -> AsyncGenerator[None, None]:
        """One of the calls at once. Raises ModelUnavailable if none is free in time."""
        try:
            async with asyncio.timeout_at(give_up_at):
                await self._calls.acquire()
        except TimeoutError:
            raise ModelUnavailable("busy") from None
        try:
            yield
        finally:
            self._calls.release()

    async def _try(
        self, candidate: Candidate, prompt: Sequence[PromptMessage]
    ) -> AsyncGenerator[ModelEvent, None]:
        """One call, its end told to the breaker."""
        breaker = candidate.breaker
        if not breaker.enter():  # here, where leaving again in whatever way is told to it
            raise ModelUnavailable(RESTING)
        settled = False
        try:
            async with aclosing(candidate.client.stream(prompt)) as events:
                async for event in events:
                    if isinstance(event, Finished):
                        breaker.succeeded()
                        settled = True
                    yield event
        except ModelUnavailable as error:
            if error.reason not in OF_THE_PROMPT:
                breaker.failed(at_once=error.reason in AT_ONCE_REASONS, rest_seconds=self._asked_rest(error))
                settled = True
            log.warning(
                "model_call_failed",
                model=candidate.client.endpoint.model,
                reason=error.reason,
                breaker=breaker.state.value,
            )
            raise
        finally:
            if not settled:  # nobody listens any more, or the prompt was at fault
                breaker.abandoned()

    def _asked_rest(self, error: ModelUnavailable) -> float | None:
        """The pause that the endpoint asked for, where it is too long to wait out within a turn."""
        if error.retry_after is None or error.retry_after <= self._rule.longest_wait:
            return None
        return error.retry_after.total_seconds()

    async def _worth_another(self, error: ModelUnavailable, tried: int) -> bool:
        """Wait as long as is polite before the same model is tried again; False: go on to the next."""
        rule = self._rule
        if error.reason in FINAL_REASONS or tried == rule.tries:
            return False
        doubled: timedelta = rule.first_wait * 2 ** (tried - 1)
        wait = error.retry_after or doubled * random.uniform(0.5, 1.0)
        if wait > rule.longest_wait:
            return False
        await asyncio.sleep(wait.total_seconds())
        return True
