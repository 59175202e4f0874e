"""Logs: readable in a terminal, JSON in LOG_DIR, never a person's words and never a secret.

What may be logged is an allow-list: our own fixed event names, and values under known keys. Other
libraries are heard from WARNING on, and of what they say only where it was said: their messages
may hold request bodies, addresses with tokens in them, or SQL parameters. Tracebacks keep types
and places and lose the messages of exceptions that are not ours.
"""

from __future__ import annotations

import logging
import logging.handlers
import queue
import sys
import traceback
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import structlog
from structlog.typing import Processor

from core.errors import XinYuError

FILE_BYTES = 10 * 1024 * 1024
FILE_COUNT = 5
QUEUE_LIMIT = 10_000
VALUE_LIMIT = 200
ACCESS = "access"
OURS = ("bot", "core", "storage", "adapters", ACCESS)
SAFE_KEYS = frozenset(
    [
        "app_id",
        "attempts",
        "bot",
        "breaker",
        "code",
        "count",
        "delivery_id",
        "conversation_id",
        "database",
        "detail",
        "error",
        "host",
        "inbox_id",
        "kind",
        "level",
        "logger",
        "messages",
        "method",
        "mode",
        "model",
        "ms",
        "name",
        "offset",
        "outcome",
        "owner",
        "part",
        "parts",
        "path",
        "pid",
        "platform",
        "port",
        "reachable",
        "reason",
        "request_id",
        "retry_after",
        "revision",
        "role",
        "roles",
        "route",
        "seconds",
        "setting",
        "signal",
        "since",
        "size",
        "state",
        "status",
        "timestamp",
        "tries",
        "turn_id",
        "update_id",
        "url_host",
        "users",
        "version",
        "where",
        "exception",
        "event",
    ]
)


@contextmanager
def logging_to(
    log_dir: Path, *, secrets: tuple[str, ...] = (), debug: bool = False, terminal: TextIO | None = None
) -> Iterator[None]:
    """Set up logging for the program's lifetime; what was logged is on disk when the block ends.

    Records go through a bounded queue to a thread, so that no disk ever holds up the event loop.
    """
    log_dir.mkdir(parents=True, exist_ok=True)
    shared = _shared(secrets)
    level = logging.DEBUG if debug else logging.INFO
    files = [
        _file(log_dir / "application.log", shared, level),
        _file(log_dir / "error.log", shared, logging.ERROR),
        _file(log_dir / "access.log", shared, logging.INFO),
    ]
    files[0].addFilter(lambda record: record.name != ACCESS)
    files[2].addFilter(lambda record: record.name == ACCESS)
    screen = _screen(terminal or sys.stderr, shared, level)
    records: queue.Queue[logging.LogRecord] = queue.Queue(QUEUE_LIMIT)
    listener = logging.handlers.QueueListener(records, *files, screen, respect_handler_level=True)
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    root.handlers[:] = [_Enqueue(records)]
    root.setLevel(logging.WARNING)
    for name in OURS:
        logging.getLogger(name).setLevel(level)
    _configure_structlog(shared)
    listener.start()
    try:
        yield
    finally:
        listener.stop()
        root.handlers[:], root.level = before
        for handler in files:
            with suppress(OSError):  # a full disk: what could be written is
                handler.close()


class _Enqueue(logging.handlers.QueueHandler):
    """Drops what does not fit instead of waiting: a log line is worth less than an answer."""

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record  # our handlers format; nothing is pickled

    def enqueue(self, record: logging.LogRecord) -> None:
        with suppress(queue.Full):
            self.queue.put_nowait(record)


def _configure_structlog(shared: list[Processor]) -> None:
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def _shared(secrets: tuple[str, ...]) -> list[Processor]:
    return [
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _traceback_without_words,
        _only_what_is_safe(secrets),
    ]


def _file(path: Path, shared: list[Processor], level: int) -> logging.Handler:
    handler = logging.handlers.RotatingFileHandler(
        path, maxBytes=FILE_BYTES, backupCount=FILE_COUNT, encoding="utf-8", delay=True
    )
    handler.setLevel(level)
    handler.setFormatter(_formatter(structlog.processors.JSONRenderer(ensure_ascii=False), shared))
    return handler


def _screen(stream: TextIO, shared: list[Processor], level: int) -> logging.Handler:
    handler = logging.StreamHandler(stream)
    handler.setLevel(level)
    renderer = structlog.dev.ConsoleRenderer(colors=stream.isatty(), pad_event_to=24)
    handler.setFormatter(_formatter(renderer, shared))
    handler.addFilter(lambda record: record.name != ACCESS)
    return handler


def _formatter(renderer: Processor, shared: list[Processor]) -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[_where_it_was_said, *shared],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        keep_exc_info=False,
    )


def _where_it_was_said(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Another library's record, without its message."""
    record: logging.LogRecord = event["_record"]
    place = f"{record.module}:{record.lineno}"
    exc_info = record.exc_info
    record.exc_text = record.stack_info = None
    return {**event, "event": "library_message", "where": place, "exc_info": exc_info}


def _traceback_without_words(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    exc_info = event.pop("exc_info", None)
    if exc_info is True:
        exc_info = sys.exc_info()
    if isinstance(exc_info, BaseException):
        exc_info = (type(exc_info), exc_info, exc_info.__traceback__)
    if exc_info and exc_info[1] is not None:
        event["exception"] = _describe(exc_info[1], exc_info[2])
    return event


def _describe(error: BaseException, trace: TracebackType | None) -> str:
    """The exception and what caused it: types, places, and the words of our own errors only."""
    said = f": {error}" if isinstance(error, XinYuError) else ""
    frames = [
        f"  {Path(frame.filename).name}:{frame.lineno} {frame.name}"
        for frame in traceback.extract_tb(trace)[-12:]
    ]
    lines = [f"{type(error).__module__}.{type(error).__qualname__}{said}", *frames]
    if isinstance(error, BaseExceptionGroup):
        lines += [_describe(inner, inner.__traceback__) for inner in error.exceptions[:4]]
    if error.__cause__ is not None:
        lines += ["caused by", _describe(error.__cause__, error.__cause__.__traceback__)]
    return "\n".join(lines)


def _only_what_is_safe(secrets: tuple[str, ...]) -> Processor:
    # The longest first: one may be a part of another (a password of an address).
    hidden = tuple(sorted((secret for secret in secrets if len(secret) >= 4), key=len, reverse=True))

    def keep_safe(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        kept: dict[str, Any] = {}
        for key, value in event.items():
            if key.startswith("_"):  # structlog's own
                kept[key] = value
            elif key in SAFE_KEYS:
                kept[key] = _short(value, hidden, limit=4000 if key == "exception" else VALUE_LIMIT)
        return kept

    return keep_safe


def _short(value: Any, secrets: tuple[str, ...], limit: int) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    text = str(value)
    for secret in secrets:  # before anything is cut off: half a secret is not found any more
        text = text.replace(secret, "***")
    return text[:limit]


def silent() -> None:
    """For commands that say themselves what they find."""
    logging.disable()  # what libraries have to say may hold addresses with tokens in them
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
