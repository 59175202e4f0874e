"""Holding back work that can wait while the event loop is busy: a webhook's answer must not queue behind all of it."""

from __future__ import annotations

import asyncio

BUSY_SECONDS = 0.004
"""The loop is busy when one round through all that is ready takes so long."""
LONGEST_HOLD_SECONDS = 0.25


async def until_loop_keeps_up() -> None:
    """Wait until the loop goes round quickly, at most LONGEST_HOLD_SECONDS."""
    loop = asyncio.get_running_loop()
    asked, seconds = loop.time(), BUSY_SECONDS
    while seconds >= BUSY_SECONDS and loop.time() - asked < LONGEST_HOLD_SECONDS:
        passed = loop.time()
        await asyncio.sleep(0)  # once through everything that is ready
        seconds = loop.time() - passed
