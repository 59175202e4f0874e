"""What WeChat's API says of an account, asked without sending anybody anything."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from adapters.proxy import proxy_for
from adapters.wechat.api import ApiError, Session, WechatApi
from adapters.wechat.settings import Delivery, WechatAccount
from core.ports import SharedCache


async def ask_wechat(account: WechatAccount, cache: SharedCache, seconds: float) -> bool | str:
    """Whether the account may push messages, or the fixed word for why nobody knows.

    The token that is asked for is the one that a running program uses, too: it stays good.
    """
    session = Session(proxy_for(account.api_base_url))
    try:
        async with asyncio.timeout(seconds):
            return await WechatApi(
                replace(account, delivery=Delivery.AUTO), cache, session
            ).look_whether_it_may_push()
    except TimeoutError:
        return "timeout"
    except ApiError as error:
        return error.reason
    finally:
        await session.close()
