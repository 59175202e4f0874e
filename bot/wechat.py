"""The WeChat channel's parts, out of the settings. Imported only when an account is set."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from aiohttp import web

from bot.settings import Settings
from core.commands.words import words_for
from core.errors import ConfigError
from core.outbox import Channel, Pace
from core.passive import PassiveReplies
from core.phrases import load_phrases
from core.ports import Inbox, SharedCache, Store
from core.safety.protocol import load_protocols

if TYPE_CHECKING:
    from adapters.wechat.api import Session, WechatApi
    from adapters.wechat.files import FileLinks
    from adapters.wechat.settings import WechatAccount

OVERALL = Pace(per_second=100, at_once=50)
PER_CHAT = Pace(per_second=5, at_once=5)
"""WeChat tells no pace for customer-service messages, only counts (5 for each message of a person's)."""


@dataclass(frozen=True, slots=True)
class WechatParts:
    apis: Mapping[str, WechatApi]
    """By app id."""
    channel: Channel
    links: FileLinks
    cache: SharedCache
    session: Session

    def routes(self, inbox: Inbox, replies: PassiveReplies, store: Store) -> list[web.RouteDef]:
        """The addresses of all accounts, and that of the files."""
        from adapters.wechat.callback import WechatCallback
        from adapters.wechat.delivery import Responder
        from adapters.wechat.file_route import file_route
        from adapters.wechat.notices import load_notices

        protocols, notices, began = load_protocols(), load_notices(), time.monotonic()
        more = {
            language: words_for("more", phrases, "") or "" for language, phrases in load_phrases().items()
        }
        routes = [file_route(self.links, store)]
        for api in self.apis.values():
            responder = Responder(api, replies, self.links, notices, more, began)
            callback = WechatCallback(api, inbox, replies, responder, self.cache, protocols, notices)
            routes += callback.routes()
        return routes

    async def run(self) -> None:
        """Keep the tokens fresh, until cancelled."""
        from adapters.wechat.keep import keep

        async with asyncio.TaskGroup() as group:
            for api in self.apis.values():
                group.create_task(keep(api), name="wechat-token")

    async def close(self) -> None:
        await self.session.close()


def wechat_accounts(settings: Settings) -> list[WechatAccount]:
    """The account of WECHAT_APP_ID, and those of WECHAT_ACCOUNTS. Raises ConfigError. Blocking: it reads a file."""
    if settings.wechat_app_id is None and settings.wechat_accounts is None:
        return []
    from adapters.wechat.accounts import load_accounts
    from adapters.wechat.settings import Delivery, WechatAccount

    base_url, public_url = settings.wechat_api_base_url, settings.public_url or ""
    accounts = []
    if settings.wechat_app_id is not None and settings.wechat_token is not None:
        secret, aes_key = settings.wechat_app_secret, settings.wechat_encoding_aes_key
        accounts.append(
            WechatAccount(
                name="",
                app_id=settings.wechat_app_id,
                token=settings.wechat_token.get_secret_value(),
                app_secret=secret.get_secret_value() if secret else "",
                encoding_aes_key=aes_key.get_secret_value() if aes_key else "",
                delivery=Delivery(settings.wechat_delivery),
                api_base_url=base_url,
                public_url=public_url,
            )
        )
    if settings.wechat_accounts is not None:
        accounts += load_accounts(settings.wechat_accounts, base_url, public_url)
    app_ids = [account.app_id for account in accounts]
    if len(set(app_ids)) < len(app_ids):
        raise ConfigError("WECHAT_ACCOUNTS: one of its accounts has the app_id of WECHAT_APP_ID")
    return accounts


def wechat_parts(settings: Settings, cache: SharedCache) -> WechatParts | None:
    """The channel, if an account is set. Raises ConfigError. Blocking: it imports the SDK."""
    accounts = wechat_accounts(settings)
    if not accounts:
        return None
    from adapters.proxy import proxy_for
    from adapters.wechat.api import Session, WechatApi
    from adapters.wechat.delivery import window
    from adapters.wechat.files import FileLinks, keeps
    from adapters.wechat.notices import load_notices
    from adapters.wechat.places import app_of
    from adapters.wechat.render import render
    from adapters.wechat.send import WechatSender

    session = Session(proxy_for(settings.wechat_api_base_url))
    apis = {account.app_id: WechatApi(account, cache, session) for account in accounts}
    links = FileLinks({account.app_id: account for account in accounts}, load_notices())
    channel = Channel(
        sender=WechatSender(apis, links),
        render=render,
        overall=OVERALL,
        chat=PER_CHAT,
        group=PER_CHAT,
        rides=lambda place: window(apis[app_of(place)]) if app_of(place) in apis else timedelta(),
        bubbles=False,
        keeps=keeps,
    )
    return WechatParts(apis, channel, links, cache, session)
