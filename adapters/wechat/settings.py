"""What the WeChat channel needs to know of an Official Account."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

PATH = "/webhooks/wechat"


class Delivery(StrEnum):
    """How answers reach people; docs/wechat.md explains each."""

    AUTO = "auto"
    """As the API says that the account may."""
    QUICK = "quick"
    """On the first try; what is not ready in time comes with the next message."""
    CERTIFIED = "certified"
    """On the first try, or pushed by the customer-service message API."""
    UNCERTIFIED = "uncertified"
    """On whichever of the three tries it is ready."""


@dataclass(frozen=True, slots=True)
class WechatAccount:
    """One Official Account. `name` is empty for the one of WECHAT_APP_ID, else the end of its path."""

    name: str
    app_id: str
    token: str
    app_secret: str = ""
    """Without it no API is called: nothing can be pushed."""
    encoding_aes_key: str = ""
    """Empty: messages come in plain mode only."""
    delivery: Delivery = Delivery.AUTO
    api_base_url: str = "https://api.weixin.qq.com"
    public_url: str = ""
    """Under which people's phones reach this server, for files."""

    @property
    def path(self) -> str:
        return f"{PATH}/{self.name}" if self.name else PATH
