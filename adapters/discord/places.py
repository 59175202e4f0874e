"""Discord's places as core's chat ids.

`@17` is the private chat with user 17, `1/2` channel 2 of server 1, `1/2/3` thread (or forum post) 3 of that channel,
and `1` alone the server, about which its administrators decide.

A private chat goes by its person, not by its channel: what somebody asks for in a server and gets to see alone
belongs to the same conversation.
"""

from __future__ import annotations

import discord


def private_with(user_id: int) -> str:
    return f"@{user_id}"


def person_in(place: str) -> int | None:
    """Whose private chat it is; None for any other place."""
    return int(place[1:]) if place.startswith("@") else None


def channel_in(place: str) -> int:
    """The channel or thread that a server's place is."""
    return int(place.rpartition("/")[2])


def is_server(place: str) -> bool:
    return "/" not in place and person_in(place) is None


def server_in(place: str) -> int:
    return int(place.partition("/")[0])


def place_of(guild_id: int, channel: object, channel_id: int) -> str:
    """A server's channel or thread."""
    if isinstance(channel, discord.Thread):
        return f"{guild_id}/{channel.parent_id}/{channel.id}"
    return f"{guild_id}/{channel_id}"
