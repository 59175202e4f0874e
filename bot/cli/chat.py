"""`xinyu chat`: talk with 心语 in this terminal; or pipe questions in, one a line.

The terminal has the main thread, where readline and Ctrl-C belong; the companion runs on an event
loop in a thread of its own. So neither a person who thinks nor a terminal that is held up (Ctrl-S)
ever keeps a turn or a lease waiting. It works beside a running `xinyu run` as well as alone.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import CancelledError, Future
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import structlog

from adapters.terminal.parse import NAME_LIMIT, Person, person_name
from adapters.terminal.render import Style, screen_of
from adapters.terminal.session import Core, Pieces, Session
from adapters.terminal.words import Words, language_of_locale, language_tag, load_words
from bot.cli.common import settings_or_complain
from bot.compose import Companion, composed
from bot.logs import logging_to
from bot.settings import Settings
from core.errors import ConfigError, StoreUnavailable
from core.live import Piece
from core.messages import ChatMessage, IncomingMessage, Platform
from core.persona.card import DEFAULT_CARD, load_card
from core.ports import Outcome

T = TypeVar("T")
log = structlog.get_logger()

HISTORY_MESSAGES = 10
LOOK_AGAIN_SECONDS = 2.0
SHORT_GOODBYE_SECONDS = 0.5
NOTICE_SECONDS = 0.2
"""How late a Ctrl-C may be noticed that came just before the main thread began to wait."""


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--as",
        dest="name",
        metavar="NAME",
        default="local",
        help="谁在说话：每个名字有自己的对话 · who is talking: each name has a conversation of its own",
    )
    parser.set_defaults(act=act)


def act(arguments: argparse.Namespace) -> int:
    settings = settings_or_complain()
    tag = language_tag(os.environ)
    language = language_of_locale(tag)
    words = load_words(language, load_card(settings.persona_file or DEFAULT_CARD).names[language])
    name = person_name(arguments.name)
    if name is None:
        raise ConfigError(words.wrong_name.format(limit=NAME_LIMIT))
    try:
        with (
            Path(os.devnull).open("w") as nowhere,
            logging_to(settings.log_dir, secrets=settings.secrets, debug=settings.debug, terminal=nowhere),
        ):
            return _chat(settings, words, Person(name, tag))
    except BrokenPipeError:
        raise
    except OSError as error:  # a folder that belongs to the service's user, most likely
        raise ConfigError(f"{error.filename or 'LOG_DIR, DATA_DIR'}: {error.strerror}") from error


def _chat(settings: Settings, words: Words, person: Person) -> int:
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # what the terminal's encoding lacks must not end the talk
    screen, aside = screen_of(sys.stdout, os.environ), screen_of(sys.stderr, os.environ)
    beside = _CoreBeside(settings, person)
    try:
        beside.start()
        if sys.stdin.isatty() and screen.is_terminal:
            Session(person, beside.calls(), words, screen, screen).talk()
            return 0
        return (
            0 if Session(person, beside.calls(), words, screen, aside).answer_lines(sys.stdin.buffer) else 1
        )
    except CancelledError:  # the core is gone; the log knows why
        aside.line(words.broken.format(log=settings.log_dir / "error.log"), Style.TROUBLE)
        return 1
    finally:
        beside.leave(lambda: aside.line(words.finishing, Style.DIM))


@dataclass(frozen=True, slots=True)
class _Running:
    loop: asyncio.AbstractEventLoop
    task: asyncio.Task[None]
    stop: asyncio.Event
    companion: Companion


class _CoreBeside:
    """The companion on an event loop in a thread of its own, and calls into it that wait."""

    def __init__(self, settings: Settings, person: Person) -> None:
        self._settings = settings
        self._person = person
        self._started: Future[_Running] = Future()
        self._thread = threading.Thread(target=self._run, name="core", daemon=True)

    def start(self) -> None:
        """Raises ConfigError, StoreUnavailable, OSError; CancelledError for what nobody expected."""
        self._thread.start()
        self._started.result()

    def leave(self, tell_waiting: Callable[[], None]) -> None:
        """Let an answer that is being written be kept. Ctrl-C cuts that short: its message stays in its row."""
        if not self._started.done() or self._started.cancelled() or self._started.exception():
            return
        running, told = self._started.result(), False
        self._on_loop(running.stop.set)
        while self._thread.is_alive():
            try:
                self._thread.join(SHORT_GOODBYE_SECONDS)
                if self._thread.is_alive() and not told:
                    tell_waiting()
                    told = True
            except KeyboardInterrupt:
                self._on_loop(running.task.cancel)

    def calls(self) -> Core:
        return Core(self._follow, self._history, self._started.result().companion.clock.now)

    # --- on the main thread -----------------------------------------------------------------

    def _follow(self, message: IncomingMessage) -> Pieces:
        pieces: SimpleQueue[Piece | Outcome | None] = SimpleQueue()
        following = self._begin(self._follow_on_loop(message, pieces.put))
        following.add_done_callback(lambda _: pieces.put(None))
        try:
            while True:
                with suppress(Empty):
                    piece = pieces.get(timeout=NOTICE_SECONDS)
                    if piece is None:
                        break
                    yield piece
            following.result()  # raises what ended it
        finally:
            following.cancel()

    def _history(self) -> tuple[ChatMessage, ...]:
        store, name = self._started.result().companion.store, self._person.name
        return self._begin(
            store.read(lambda tx: tx.conversations.history(Platform.TERMINAL, name, None, HISTORY_MESSAGES))
        ).result()

    def _begin(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        loop = self._started.result().loop
        if loop.is_closed():
            coroutine.close()
            raise CancelledError
        return asyncio.run_coroutine_threadsafe(coroutine, loop)

    def _on_loop(self, act: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # the loop is closed: there is nothing left to do
            self._started.result().loop.call_soon_threadsafe(act)

    # --- on the event loop ------------------------------------------------------------------

    def _run(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # Ctrl-C wakes the main thread
        try:
            asyncio.run(self._live())
        except (ConfigError, StoreUnavailable, OSError) as error:
            self._fail(error)
        except asyncio.CancelledError:  # Ctrl-C cut the goodbye short
            pass
        except BaseException:  # the thread's top
            log.exception("chat_failed")
            self._fail(CancelledError())

    def _fail(self, error: Exception) -> None:
        if not self._started.done():
            self._started.set_exception(error)

    async def _live(self) -> None:
        """As bot/lifecycle: work until told to stop, then let what runs finish."""
        task = asyncio.current_task()
        assert task is not None
        async with composed(self._settings, channels={}, sweeps=False, only=Platform.TERMINAL) as companion:
            running = _Running(asyncio.get_running_loop(), task, asyncio.Event(), companion)
            try:
                async with asyncio.TaskGroup() as group:
                    jobs = [
                        group.create_task(companion.worker.run(), name="worker"),
                        group.create_task(companion.outbox.run(), name="outbox"),
                        group.create_task(companion.model.prepare(), name="model"),
                    ]
                    self._started.set_result(running)
                    await running.stop.wait()
                    for job in jobs:
                        job.cancel()
            finally:
                await self._drain(companion)

    async def _drain(self, companion: Companion) -> None:
        try:
            await companion.worker.drain(self._settings.shutdown_seconds)
        except asyncio.CancelledError:  # Ctrl-C: give the leases back all the same
            await companion.worker.drain(0)
        await companion.outbox.drain(0)
        await companion.worker.let_go()

    async def _follow_on_loop(
        self, message: IncomingMessage, show: Callable[[Piece | Outcome], None]
    ) -> None:
        """Store the message, whatever Ctrl-C does meanwhile; then follow its answer."""
        companion = self._started.result().companion
        async with asyncio.timeout(self._settings.timeout):
            accepted = await asyncio.shield(companion.intake.accept(message))
            assert accepted is not None, "nobody overhears a dialogue"
            try:
                async with (
                    self._looking_again(companion, accepted.conversation_id),
                    aclosing(companion.dialogue.follow(message)) as pieces,
                ):
                    async for piece in pieces:
                        show(piece)
            except StoreUnavailable as error:  # it is stored, but its answer cannot be seen now
                raise TimeoutError from error

    @asynccontextmanager
    async def _looking_again(self, companion: Companion, conversation_id: int) -> AsyncIterator[None]:
        """The sweeper for this one conversation: another terminal may have held its lease, a turn may have broken."""

        async def look() -> None:
            while True:
                await asyncio.sleep(LOOK_AGAIN_SECONDS)
                companion.worker.look_at(conversation_id)

        looking = asyncio.create_task(look(), name="look-again")
        try:
            yield
        finally:
            looking.cancel()
