"""What goes on beside the messages: the access token kept fresh, and what an account may looked at now and then."""

from __future__ import annotations

import asyncio

import structlog

from adapters.wechat.api import ApiError, WechatApi
from adapters.wechat.settings import Delivery

log = structlog.get_logger()

LOOK_SECONDS = 60.0
FIRST_WAIT_SECONDS = 5.0
LONGEST_WAIT_SECONDS = 120.0


async def keep(api: WechatApi) -> None:
    """Until cancelled. The API's troubles are waited out, never raised: without it answers ride on responses."""
    if not api.account.app_secret:
        await asyncio.Event().wait()
    told, wait = "", FIRST_WAIT_SECONDS
    while True:
        try:
            await api.token()
            if api.account.delivery in (Delivery.AUTO, Delivery.CERTIFIED):
                await api.look_whether_it_may_push()
            trouble = ""
        except ApiError as error:
            trouble = error.reason
        if trouble != told:
            told = trouble
            log.warning(
                "wechat_api_away" if trouble else "wechat_api_works",
                reason=trouble or None,
                app_id=api.account.app_id,
            )
        await asyncio.sleep(wait if trouble else LOOK_SECONDS)
        wait = min(wait * 2, LONGEST_WAIT_SECONDS) if trouble else FIRST_WAIT_SECONDS
