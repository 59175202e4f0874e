"""What the Telegram channel needs to know."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class TelegramSettings:
    token: str
    webhook: bool
    secret: str = ""
    api_base_url: str = "https://api.telegram.org"
    public_url: str = ""
    certificate: Path | None = None
    """The public half of a certificate that signs itself, for Telegram to trust."""
    poll_seconds: int = 25
    """How long Telegram holds an empty getUpdates open."""
    check_webhook_seconds: float = 30.0
    """How often to look whether the webhook is still ours: one that was taken away is noticed within a minute."""
    silence_seconds: float = 10.0
    """A poll that is not answered so long after it should have been has a dead connection: it is replaced."""

    @property
    def bot_id(self) -> str:
        return self.token.partition(":")[0]

    @property
    def webhook_url(self) -> str:
        return f"{self.public_url}/webhooks/telegram"
