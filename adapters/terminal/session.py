"""A conversation in a terminal, from greeting to goodbye; or questions from a pipe, one a line.

All of this is plain blocking code for the main thread, where readline and Ctrl-C belong. The core
runs beside it on an event loop of its own (bot/cli/chat.py) and is reached through `Core`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO

from adapters.terminal.lines import hushed_keyboard, piped, set_up_editing, typed
from adapters.terminal.parse import MESSAGE_LIMIT, Person, TooLong, message_of
from adapters.terminal.render import GrowingAnswer, Screen, Style, clock_time
from adapters.terminal.words import Words
from core.errors import StoreUnavailable
from core.live import Piece
from core.messages import ChatMessage, IncomingMessage, Role, Source
from core.ports import Outcome
from core.text import NotText

Pieces = Generator[Piece | Outcome, None, None]


@dataclass(frozen=True, slots=True)
class Core:
    """What a session needs of the core, as calls that wait."""

    follow: Callable[[IncomingMessage], Pieces]
    """`Dialogue.follow`. Raises TimeoutError; StoreUnavailable if the message was not stored."""
    history: Callable[[], tuple[ChatMessage, ...]]
    """The newest messages, oldest first. Raises StoreUnavailable."""
    now: Callable[[], datetime]


class Session:
    def __init__(self, person: Person, core: Core, words: Words, screen: Screen, aside: Screen) -> None:
        self._person = person
        self._core = core
        self._words = words
        self._screen = screen
        self._aside = aside
        """Where trouble is told: beside the answers, where those go to a pipe."""
        self._seen = 0
        """The newest message that was shown whole."""

    # --- at a keyboard ----------------------------------------------------------------------

    def talk(self) -> None:
        """Talk until Ctrl-D or Ctrl-C."""
        try:
            set_up_editing(self._screen)
            self._greet()
            while self._take_turn():
                self._show_missed()
        except KeyboardInterrupt:
            pass
        self._screen.line("\n" + self._words.bye, Style.DIM)

    def _greet(self) -> None:
        words = self._words
        self._screen.line("\n" + words.greeting, Style.THEY)
        for text in (words.honest, words.keys):
            self._screen.line(text, Style.DIM)
        try:
            past = self._core.history()
        except StoreUnavailable:
            self._tell(words.history_failed)
            past = ()
        if past:
            self._screen.line("\n" + words.earlier, Style.DIM)
        self._show_past(past)
        self._screen.write("\n")

    def _take_turn(self) -> bool:
        """One line and its answer; False at the end of input."""
        try:
            line = typed(self._screen, self._words.you)
            if line is None:
                return False
            message = message_of(self._person, line, self._core.now())
        except (NotText, TooLong) as error:
            self._tell(self._problem(error))
            return True
        if message is not None:
            with hushed_keyboard():
                self._answer(message)
        return True

    def _answer(self, message: IncomingMessage) -> None:
        answer = GrowingAnswer(self._screen, f"{self._words.they} › ", self._words.again)
        try:
            answer.wait(self._words.writing)
            with closing(self._core.follow(message)) as pieces:
                first = next(pieces)
                answer.stop_waiting()
                self._show_missed(but_turn=first.turn_id)
                self._show(first, pieces, answer)
        except (KeyboardInterrupt, TimeoutError, StoreUnavailable) as error:
            answer.break_off()
            self._tell(self._problem(error))

    # --- from a pipe ------------------------------------------------------------------------

    def answer_lines(self, source: BinaryIO) -> bool:
        """Answer each line of a pipe; whether all could be."""
        all_well = True
        for number, line in enumerate(piped(source), 1):
            try:
                self._answer_line(line)
            except (NotText, TooLong, TimeoutError, StoreUnavailable) as error:
                self._tell(self._words.in_line.format(number=number, problem=self._problem(error)))
                all_well = False
        return all_well

    def _answer_line(self, line: str | NotText) -> None:
        if isinstance(line, NotText):
            raise line
        message = message_of(self._person, line, self._core.now())
        if message is None:
            return
        answer = GrowingAnswer(self._screen, "", self._words.again)
        try:
            with closing(self._core.follow(message)) as pieces:
                self._show(next(pieces), pieces, answer)
        finally:
            answer.break_off()

    # --- what is shown ----------------------------------------------------------------------

    def _show(self, first: Piece | Outcome, rest: Pieces, answer: GrowingAnswer) -> None:
        """Show an answer as it comes, to its end."""
        piece = first
        while isinstance(piece, Piece):
            answer.take(piece)
            piece = next(rest)
        answer.end()
        self._seen = piece.reply.id
        if piece.reply.source is Source.LISTENER:
            note = self._words.listener_deferred if piece.deferred else self._words.listener
            self._aside.line(note, Style.DIM)

    def _show_missed(self, but_turn: int = 0) -> None:
        """Answers that came while nobody waited for them: late ones, and those after a Ctrl-C."""
        try:
            past = self._core.history()
        except StoreUnavailable:  # the next line tries again
            return
        missed = tuple(
            message
            for message in past
            if message.id > self._seen and message.role is Role.ASSISTANT and message.turn_id != but_turn
        )
        if missed:
            self._screen.line(self._words.meanwhile, Style.DIM)
        self._show_past(missed)

    def _show_past(self, messages: tuple[ChatMessage, ...]) -> None:
        now = self._core.now()
        for message in messages:
            name = self._words.they if message.role is Role.ASSISTANT else self._words.you
            note = f"\n{self._words.listener}" if message.source is Source.LISTENER else ""
            time = clock_time(message.created_at, now)
            self._screen.line(f"{time} {name} › {message.text}{note}", Style.DIM)
            self._seen = max(self._seen, message.id)

    def _tell(self, problem: str) -> None:
        self._aside.line(problem, Style.TROUBLE)

    def _problem(self, error: BaseException) -> str:
        match error:
            case KeyboardInterrupt():
                return self._words.left
            case TimeoutError():
                return self._words.late
            case StoreUnavailable():
                return self._words.not_stored
            case TooLong():
                return self._words.too_long.format(limit=MESSAGE_LIMIT, count=error.args[0])
            case _:
                return self._words.not_text
