"""What a model's answer costs, from the operator's price file."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path

from core.errors import ConfigError

DEFAULT_PRICES = Path(__file__).with_name("prices.toml")
_MILLION = Decimal(1_000_000)


@dataclass(frozen=True, slots=True)
class Price:
    """Per million tokens, in `currency` (ISO 4217)."""

    currency: str
    prompt: Decimal
    cached: Decimal
    completion: Decimal

    def of(self, prompt_tokens: int, cached_tokens: int, completion_tokens: int) -> Decimal:
        """What an answer costs; `cached_tokens` are among the prompt's."""
        fresh = max(0, prompt_tokens - cached_tokens)
        total = fresh * self.prompt + cached_tokens * self.cached + completion_tokens * self.completion
        return total / _MILLION


def load_prices(path: Path = DEFAULT_PRICES) -> dict[str, Price]:
    """Prices by model name. Raises ConfigError saying which entry is malformed."""
    try:
        models = tomllib.loads(path.read_text(encoding="utf-8")).get("models", {})
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"PRICES_FILE {path}: {error}") from error
    prices = {}
    for name, entry in models.items():
        try:
            prompt = Decimal(entry["per_million_prompt"])
            prices[name] = Price(
                currency=str(entry["currency"])[:3],
                prompt=prompt,
                cached=Decimal(entry.get("per_million_cached", prompt)),
                completion=Decimal(entry["per_million_completion"]),
            )
        except (KeyError, TypeError, ValueError, InvalidOperation) as error:
            raise ConfigError(
                f"PRICES_FILE {path}: models.{name} needs currency, per_million_prompt and "
                'per_million_completion as texts such as "0.80"'
            ) from error
    return prices
