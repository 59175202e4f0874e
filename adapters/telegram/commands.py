"""The menu of commands that Telegram shows: per language, in private chats and in groups."""

from __future__ import annotations

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

from adapters.telegram.errors import word_for
from core.messages import ConversationKind

log = structlog.get_logger()

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
    """Set what Telegram has otherwise. Without the menus everything works as well: trouble is logged, not raised."""
    try:
        for menu in menus:
            scope, wanted = _SCOPES[menu.kind], tuple(BotCommand(*entry) for entry in menu.entries)
            if await bot.get_my_commands(scope, menu.language or None) != wanted:
                await bot.set_my_commands(wanted, scope, menu.language or None)
    except TelegramError as error:
        log.warning("telegram_menus_not_set", reason=word_for(error))
