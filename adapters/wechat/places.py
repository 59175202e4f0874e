"""A person's chat with an account as core's chat id: `wx0123…/oABC…`. An openid is one account's name for them."""

from __future__ import annotations


def place_of(app_id: str, openid: str) -> str:
    return f"{app_id}/{openid}"


def app_of(place: str) -> str:
    return place.partition("/")[0]


def openid_of(place: str) -> str:
    return place.partition("/")[2]
