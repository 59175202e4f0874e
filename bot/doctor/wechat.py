"""The WeChat accounts: whether the API takes their secret, and whether they may do what is set."""

from __future__ import annotations

import asyncio
import importlib
import stat
from functools import partial
from typing import TYPE_CHECKING

from bot.doctor.finding import Finding, State
from bot.doctor.surroundings import Surroundings
from bot.wechat import wechat_accounts
from core.errors import ConfigError
from storage.shared_cache import LocalCache

if TYPE_CHECKING:
    from adapters.wechat.settings import WechatAccount

SECONDS = 6.0


async def wechat(around: Surroundings) -> list[Finding]:
    """One finding an account."""
    try:
        accounts = await asyncio.to_thread(wechat_accounts, around.settings)
    except ConfigError as error:
        return [
            Finding("wechat", State.FAIL, line, "改 WECHAT_ACCOUNTS 的文件 · change that file")
            for line in str(error).split("\n")
        ]
    file = around.settings.wechat_accounts
    if file is not None and (await asyncio.to_thread(file.stat)).st_mode & stat.S_IRWXO:
        found = f"{file}: 有密钥，而其他用户能看 · holds secrets and is open to other users"
        return [Finding("wechat", State.WARN, found, f"`chmod 600 {file}`")]
    if not accounts:
        return [Finding("wechat", State.SKIPPED, "没有设置 · not set")]
    await asyncio.to_thread(importlib.import_module, "adapters.wechat.check")
    public_url = around.settings.public_url or ""
    return list(await asyncio.gather(*map(partial(_account, public_url), accounts)))


async def _account(public_url: str, account: WechatAccount) -> Finding:
    from adapters.wechat.check import ask_wechat

    address = f"{public_url or 'https://…'}{account.path}"
    about = f"{account.name or 'main'} {account.app_id}, {account.delivery}, URL {address}"
    if not public_url:
        advice = (
            "设 PUBLIC_URL，设置页要填的地址、导出的文件都要它 · set it: the settings page and files need it"
        )
        return Finding("wechat", State.WARN, about, advice)
    if not account.app_secret:
        found = f"{about}；没有 AppSecret，只用被动回复 · no AppSecret: passive replies only"
        return Finding("wechat", State.OK, found)
    answer = await ask_wechat(account, LocalCache(), SECONDS)
    if isinstance(answer, str):
        found, advice = _TROUBLE.get(answer, ("接口回应异常 · the API answers oddly", _ADDRESS))
        return Finding("wechat", State.FAIL, f"{about}: {found} ({answer})", advice)
    return _of_strategy(about, account, may_push=answer)


def _of_strategy(about: str, account: WechatAccount, *, may_push: bool) -> Finding:
    may = "可以发客服消息 · may push" if may_push else "不能发客服消息 · may not push"
    found = f"{about}；{may}"
    if account.delivery == "certified" and not may_push:
        advice = "没有认证的号用 WECHAT_DELIVERY=auto 或 uncertified · use one of these"
        return Finding("wechat", State.FAIL, found, advice)
    if account.delivery in ("quick", "uncertified") and may_push:
        return Finding(
            "wechat", State.WARN, found, "用 auto，慢的回复就能主动送到 · auto would push late answers"
        )
    return Finding("wechat", State.OK, found)


def advice_for(reason: str) -> str:
    """What to do about a fixed word of the API's."""
    return _TROUBLE.get(reason, ("", _ADDRESS))[1]


_ADDRESS = "看网络、HTTPS_PROXY 和 WECHAT_API_BASE_URL · look at network, HTTPS_PROXY and WECHAT_API_BASE_URL"
_TROUBLE = {
    "wrong_app_id": ("不认这个 AppID · unknown AppID", "核对 WECHAT_APP_ID · check it"),
    "wrong_secret": (
        "AppSecret 不对 · wrong AppSecret",
        "在公众平台重置后填进 WECHAT_APP_SECRET · reset it there and set it here",
    ),
    "address_not_allowed": (
        "本机 IP 不在白名单 · this server's address is not on the account's list",
        "公众平台 → 基本配置 → IP 白名单 · add it there",
    ),
    "quota_exhausted": ("今天的接口次数用完了 · today's quota is used up", "明天恢复 · it is back tomorrow"),
    "not_certified": (
        "这个号没有这个接口 · not for this account",
        "没有认证的号用不了这个接口 · uncertified accounts may not use it",
    ),
    "unreachable": ("连不上 · unreachable", _ADDRESS),
    "timeout": ("没有回应 · no answer", _ADDRESS),
}
