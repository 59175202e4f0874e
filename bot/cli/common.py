"""What several commands share."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

from bot.compose import opened_store
from bot.settings import Settings, load_settings
from storage.sql.open import SqlStore

T = TypeVar("T")


def settings_or_complain() -> Settings:
    """The settings; what looks odd but harmless goes to stderr. Raises ConfigError."""
    loaded = load_settings(os.environ)
    for warning in loaded.warnings:
        print(warning, file=sys.stderr)
    return loaded.settings


def with_store(settings: Settings, act: Callable[[SqlStore], Awaitable[T]]) -> T:
    """Open the database, act, close it."""

    async def run() -> T:
        async with opened_store(settings) as store:
            return await act(store)

    return asyncio.run(run())


def print_json(value: object) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=2, default=str))
