"""Which of this machine's processes are alive, so that a dead one's leases are taken over at once.

Each process holds a file lock for as long as it lives; the kernel lets go of it however it dies. A
process on another machine has no file here: its leases simply expire.
"""

from __future__ import annotations

import fcntl
import os
import re
import socket
import uuid
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

_SAFE = re.compile(r"[^A-Za-z0-9.-]")


class Presence:
    """This process's name as a holder of leases, and its lock."""

    def __init__(self, folder: Path) -> None:
        host = _SAFE.sub("", socket.gethostname())[:40]
        self.owner = f"{host}_{os.getpid()}_{uuid.uuid4().hex[:12]}"
        self._folder = folder
        self._file = -1

    def __enter__(self) -> Presence:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self._path(self.owner), os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._path(self.owner).unlink(missing_ok=True)
        os.close(self._file)

    def dead_among(self, owners: Iterable[str]) -> list[str]:
        """Those of these owners that ran on this machine and are gone. Their files are removed."""
        dead = []
        for owner in owners:
            path = self._path(owner)
            if owner == self.owner or _SAFE.sub("", owner.replace("_", "")) != owner.replace("_", ""):
                continue
            try:
                file = os.open(path, os.O_RDWR)
            except FileNotFoundError:
                continue
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            finally:
                os.close(file)
            path.unlink(missing_ok=True)
            dead.append(owner)
        return dead

    def _path(self, owner: str) -> Path:
        return self._folder / f"{owner}.lock"
