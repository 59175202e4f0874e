"""Sortable 63-bit ids made by the program: known before the insert, ordered by time within a process."""

from __future__ import annotations

import secrets
import threading
import time
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(2025, 1, 1, tzinfo=UTC)  # 41 bits of milliseconds last until 2094
_EPOCH_MS = int(_EPOCH.timestamp()) * 1000
_TICK = timedelta(milliseconds=1)
_SEQUENCE_BITS = 22

_lock = threading.Lock()
_last = 0


def new_id() -> int:
    """An id greater than every id this process made before, also when the clock steps back.

    41 bits of milliseconds, then 22 bits that start at random within each millisecond so that
    processes do not meet.
    """
    global _last
    now = (time.time_ns() // 1_000_000 - _EPOCH_MS) << _SEQUENCE_BITS
    with _lock:
        fresh = now | secrets.randbits(_SEQUENCE_BITS - 1)
        _last = fresh if fresh > _last else _last + 1
        return _last


def first_id_at(moment: datetime) -> int:
    """The smallest id that may have been made at a moment: to compare ids with times."""
    return max(0, ((moment - _EPOCH) // _TICK) << _SEQUENCE_BITS)


def moment_of(id_: int) -> datetime:
    """When an id was made, to the millisecond: `first_id_at` of it is not greater than the id."""
    return _EPOCH + (id_ >> _SEQUENCE_BITS) * _TICK
