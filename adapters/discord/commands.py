"""The slash commands and the entries of a message's menu, in Chinese and English."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import discord
from discord import app_commands
from discord.app_commands import locale_str

from adapters.discord.notices import Notices
from core.commands.asked import COMMANDS
from core.language import Language

CHINESE = (discord.Locale.chinese, discord.Locale.taiwan_chinese)
LONGEST_TEXT = 2000
WHERE = app_commands.AppCommandContext(guild=True, dm_channel=True, private_channel=False)
IN_SERVERS = app_commands.AppCommandContext(guild=True, dm_channel=False, private_channel=False)
INSTALLED = app_commands.AppInstallationType(guild=True, user=False)
PERSONA = "persona"
Interaction = discord.Interaction[discord.Client]


class Takes(Protocol):
    """Who does what people ask for."""

    async def talk(self, interaction: Interaction, text: str) -> None: ...

    async def command(self, interaction: Interaction, name: str, argument: str = "") -> None: ...

    async def set_up(self, interaction: Interaction) -> None: ...

    async def talk_about(self, interaction: Interaction, message: discord.Message) -> None: ...

    async def not_good(self, interaction: Interaction, message: discord.Message) -> None: ...


class InChinese(app_commands.Translator):
    """English is what commands are made with; Chinese is told beside it."""

    async def translate(
        self,
        string: locale_str,
        locale: discord.Locale,
        context: app_commands.TranslationContext[Any, Any],
    ) -> str | None:
        chinese: str | None = string.extras.get("zh")
        return chinese if locale in CHINESE else None


def add_commands(
    tree: app_commands.CommandTree[Any],
    takes: Takes,
    notices: Notices,
    menu: Mapping[Language, Mapping[str, str]],
) -> None:
    """`menu`: what core's commands mean, a line each."""
    names = notices.commands

    def named(key: str) -> locale_str:
        return locale_str(names[Language.EN][key], zh=names[Language.ZH][key])

    def meaning(name: str) -> locale_str:
        return locale_str(menu[Language.EN][name], zh=menu[Language.ZH][name])

    @app_commands.describe(text=named("chat_text"))
    @app_commands.rename(text="text")
    async def chat(interaction: Interaction, text: app_commands.Range[str, 1, LONGEST_TEXT]) -> None:
        await takes.talk(interaction, text)

    _add(tree, named("chat"), named("about_chat"), chat)
    for name in COMMANDS:
        _add(tree, named(name), meaning(name), _doing(takes, name))

    async def persona(interaction: Interaction) -> None:
        await takes.command(interaction, "settings", PERSONA)

    _add(tree, named(PERSONA), named("about_persona"), persona)
    group = app_commands.Group(
        name=named("xinyu"),
        description=named("about_setup"),
        allowed_contexts=IN_SERVERS,
        allowed_installs=INSTALLED,
        default_permissions=discord.Permissions(manage_guild=True),
    )

    async def setup(interaction: Interaction) -> None:
        await takes.set_up(interaction)

    group.add_command(
        app_commands.Command(name=named("setup"), description=named("about_setup"), callback=setup)
    )
    tree.add_command(group)
    _add_menus(tree, takes, named)


def _add_menus(tree: app_commands.CommandTree[Any], takes: Takes, named: Callable[[str], locale_str]) -> None:
    async def talk_about(interaction: Interaction, message: discord.Message) -> None:
        await takes.talk_about(interaction, message)

    async def not_good(interaction: Interaction, message: discord.Message) -> None:
        await takes.not_good(interaction, message)

    for key, callback in (("talk_about", talk_about), ("not_good", not_good)):
        tree.add_command(
            app_commands.ContextMenu(
                name=named(key), callback=callback, allowed_contexts=WHERE, allowed_installs=INSTALLED
            )
        )


def _doing(takes: Takes, name: str) -> Callable[[Interaction], Awaitable[None]]:
    async def do(interaction: Interaction) -> None:
        await takes.command(interaction, name)

    return do


def _add(
    tree: app_commands.CommandTree[Any],
    name: locale_str,
    description: locale_str,
    callback: Callable[..., Any],
) -> None:
    tree.add_command(
        app_commands.Command(
            name=name,
            description=description,
            callback=callback,
            allowed_contexts=WHERE,
            allowed_installs=INSTALLED,
        )
    )
