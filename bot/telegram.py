"""The Telegram channel's parts, out of the settings. Imported only when a token is set: the SDK takes a second."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bot.settings import Settings
from core.commands.asked import COMMANDS
from core.language import Language
from core.messages import ConversationKind
from core.outbox import Channel, Pace
from core.phrases import load_phrases

if TYPE_CHECKING:
    from adapters.telegram.commands import Menu
    from adapters.telegram.receive import TelegramReceiver
    from adapters.telegram.request import AiohttpRequest

OVERALL = Pace(per_second=25, at_once=5)
PER_CHAT = Pace(per_second=1, at_once=3)
PER_GROUP = Pace(per_second=17 / 60, at_once=3)
"""core.telegram.org/bots/faq, "My bot is hitting limits": 30 a second, 1 a second in a chat (short bursts pass),
20 a minute in a group. What goes out at once counts in: no second has more than 30, no minute of a group than 20."""


@dataclass(frozen=True, slots=True)
class TelegramParts:
    receiver: TelegramReceiver
    channel: Channel
    requests: tuple[AiohttpRequest, ...]

    async def close(self) -> None:
        for request in self.requests:
            await request.shutdown()


def telegram_parts(settings: Settings) -> TelegramParts | None:
    """The channel, if its token is set. Blocking: it imports the SDK."""
    if settings.telegram_bot_token is None:
        return None
    from adapters.proxy import proxy_for
    from adapters.telegram.buttons import ButtonSeal
    from adapters.telegram.notices import not_yours
    from adapters.telegram.places import room_of
    from adapters.telegram.receive import TelegramReceiver, make_bot
    from adapters.telegram.render import render
    from adapters.telegram.request import AiohttpRequest
    from adapters.telegram.send import TelegramSender
    from adapters.telegram.settings import TelegramSettings

    secret = settings.telegram_webhook_secret
    wanted = TelegramSettings(
        token=settings.telegram_bot_token.get_secret_value(),
        webhook=settings.telegram_mode == "webhook",
        secret=secret.get_secret_value() if secret else "",
        api_base_url=settings.telegram_api_base_url,
        public_url=settings.public_url or "",
        certificate=settings.telegram_webhook_certificate,
    )
    proxy = proxy_for(wanted.api_base_url)
    requests = (AiohttpRequest(proxy), AiohttpRequest(proxy))
    bot = make_bot(wanted, *requests)
    seal = ButtonSeal(wanted.token)
    channel = Channel(
        sender=TelegramSender(bot, seal),
        render=render,
        overall=OVERALL,
        chat=PER_CHAT,
        group=PER_GROUP,
        room=room_of,
        previews=frozenset({ConversationKind.PRIVATE}),
    )
    receiver = TelegramReceiver(bot, wanted, seal, _menus(), not_yours())
    return TelegramParts(receiver, channel, requests)


def _menus() -> list[Menu]:
    """What people can ask for, in Chinese for those whose Telegram speaks it, in English for everybody else."""
    from adapters.telegram.commands import Menu

    phrases = load_phrases()
    return [
        Menu(
            kind,
            code,
            tuple(
                (name, phrases[language].commands["menu"][name])
                for name, places in COMMANDS.items()
                if kind in places
            ),
        )
        for kind in ConversationKind
        for code, language in (("", Language.EN), ("en", Language.EN), ("zh", Language.ZH))
    ]
