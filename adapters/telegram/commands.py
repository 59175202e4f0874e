"""The menu of commands that Telegram shows: per language, in private chats and in groups."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from telegram import (
    Bot,
    BotCommand,
    BotCommandScope,
    BotCommandScopeAllGroupChats,
    BotCommandScopeAllPrivateChats,
)
from telegram.error import TelegramError

from adapters.telegram.errors import asked_to_wait, word_for
from core.messages import ConversationKind

log = structlog.get_logger()

AGAIN_SECONDS, LONGEST_WAIT_SECONDS = 5.0, 600.0

_SCOPES: dict[ConversationKind, BotCommandScope] = {
    ConversationKind.PRIVATE: BotCommandScopeAllPrivateChats(),
    ConversationKind.GROUP: BotCommandScopeAllGroupChats(),
}


@dataclass(frozen=True, slots=True)
class Menu:
    """Commands with their descriptions, for one kind of chat and one language (empty: every other language)."""

    kind: ConversationKind
    language: str
    entries: tuple[tuple[str, str], ...]


async def show_menus(bot: Bot, menus: Sequence[Menu]) -> None:
    """Set what Telegram has otherwise, and try again until that is done. Without the menus everything else works."""
    wait = AGAIN_SECONDS
    while True:
        try:
            for menu in menus:
                await _show(bot, menu)
            return
        except TelegramError as error:
            log.warning("telegram_menus_not_set", reason=word_for(error))
            await asyncio.sleep(max(asked_to_wait(error), wait))
            wait = min(2 * wait, LONGEST_WAIT_SECONDS)


async def _show(bot: Bot, menu: Menu) -> None:
    scope, wanted = _SCOPES[menu.kind], tuple(BotCommand(*entry) for entry in menu.entries)
    if await bot.get_my_commands(scope, menu.language or None) != wanted:
        await bot.set_my_commands(wanted, scope, menu.language or None)
