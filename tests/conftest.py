"""Fixtures that many tests share: the real servers, started when the first test asks for one."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from tests.services import MariaDb, RedisServer, ServiceMissing

signal.signal(signal.SIGINT, signal.default_int_handler)
"""Where the tests run in the background, shells have SIGINT ignored, and every process below inherits that."""


@pytest.fixture(scope="session")
def mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDb]:
    """This test process's MariaDB, running. Who kills it starts it again: others come after."""
    server = MariaDb(tmp_path_factory.mktemp("mariadb"))
    start_or_skip(server)
    yield server
    server.remove()


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """This test process's Redis, running. Who kills it starts it again: others come after."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    start_or_skip(server)
    yield server
    server.remove()


def start_or_skip(server: MariaDb | RedisServer) -> None:
    """Start a server. Where its program is missing the test is skipped, or under CI fails."""
    try:
        server.start()
    except ServiceMissing as missing:
        server.remove()
        if os.environ.get("CI") == "true":
            pytest.fail(str(missing))
        pytest.skip(str(missing))
