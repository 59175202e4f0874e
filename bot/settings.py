"""Every setting, typed and frozen, from config.env and the environment (which wins).

Names are those of config.env.example in lower case. All problems are reported at once.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlsplit
from zoneinfo import ZoneInfo

from dotenv import dotenv_values
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from core.errors import ConfigError
from storage.keys import parse_key

CONFIG_FILE = Path("config.env")
PLACEHOLDERS = re.compile(r"^your_.*|^changeme$|^xxx+$", re.IGNORECASE)
TELEGRAM_PORTS = (443, 80, 88, 8443)
"""Bot API, setWebhook."""
MYSQL_SCHEMES = ("mysql://", "mysql+aiomysql://", "mariadb://", "mariadb+aiomysql://")


def _http_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        right = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # half an IPv6 address, a port that is no number
        right = False
    if not right:
        raise ValueError("an address such as https://example.com/v1")
    return value.rstrip("/")


def _time_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError):
        raise ValueError("a time zone such as Asia/Shanghai") from None
    return value


def _no_placeholder(value: SecretStr | None) -> SecretStr | None:
    if value is not None and PLACEHOLDERS.match(value.get_secret_value()):
        raise ValueError("the real value, or nothing: this is the example's placeholder")
    return value


def _listed(value: object) -> object:
    return (
        tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value
    )


def _fallbacks(value: tuple[str, ...]) -> tuple[str, ...]:
    for entry in value:
        name, at, base_url = entry.partition("@")
        try:
            right = bool(name) and (not at or bool(_http_url(base_url)))
        except ValueError:
            right = False
        if not right:
            raise ValueError("models such as qwen-turbo or qwen3:4b@http://127.0.0.1:11434/v1, with commas")
    return value


def _origins(value: tuple[str, ...]) -> tuple[str, ...]:
    for origin in value:
        if _http_url(origin) != origin or urlsplit(origin).path:
            raise ValueError("web origins such as https://example.com, with commas and without a path")
    return value


def _redis_url(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("an address such as redis://127.0.0.1:6379/0")
    return value


def _bot_token(value: SecretStr) -> SecretStr:
    if not re.fullmatch(r"[0-9]+:[A-Za-z0-9_-]{20,}", value.get_secret_value()):
        raise ValueError("the token that @BotFather gave, such as 123456789:AA…")
    return value


def _discord_token(value: SecretStr) -> SecretStr:
    if not re.fullmatch(r"[\w-]{18,}\.[\w-]{5,}\.[\w-]{20,}", value.get_secret_value(), re.ASCII):
        raise ValueError("the token of the Developer Portal's Bot page: three parts with dots between")
    return value


def _app_id(value: str) -> str:
    if not re.fullmatch(r"wx[0-9A-Za-z]{6,30}", value):
        raise ValueError("the AppID of the settings page, such as wx0123456789abcdef")
    return value


def _wechat_token(value: SecretStr) -> SecretStr:
    if not re.fullmatch(r"[0-9A-Za-z_]{3,32}", value.get_secret_value()):
        raise ValueError("the Token of the settings page: 3 to 32 letters and digits")
    return value


def _aes_key(value: SecretStr) -> SecretStr:
    if not re.fullmatch(r"[A-Za-z0-9+/]{43}", value.get_secret_value()):
        raise ValueError("the EncodingAESKey of the settings page: 43 characters")
    return value


def _encryption_key(value: SecretStr) -> SecretStr:
    try:
        parse_key(value.get_secret_value())
    except ConfigError:
        raise ValueError("32 bytes in base64, as `xinyu keys encryption` prints") from None
    return value


def _file(value: Path) -> Path:
    if not value.is_file():
        raise ValueError("the path of a file that is there")
    return value


def _folder(value: Path) -> Path:
    if not value.is_dir():
        raise ValueError("the path of a folder that is there")
    return value


def _is_pem(path: Path) -> bool:
    try:
        return b"-----BEGIN CERTIFICATE-----" in path.read_bytes()[:100_000]
    except OSError:
        return False


HttpUrl = Annotated[str, AfterValidator(_http_url)]
Secret = Annotated[SecretStr, AfterValidator(_no_placeholder)]
Listed = Annotated[tuple[str, ...], BeforeValidator(_listed)]
Seconds = Annotated[float, Field(ge=0, le=3600)]


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", hide_input_in_errors=True, enable_decoding=False
    )

    # The model
    llm_api_key: Secret | None = None
    llm_base_url: HttpUrl = "https://dashscope.aliyuncs.com/compatible-mode/v1"
    default_model: Annotated[str, Field(min_length=1, max_length=191)] = "qwen-plus"
    fallback_models: Annotated[Listed, AfterValidator(_fallbacks)] = ()
    model_first_token_seconds: Seconds = 20.0
    model_stall_seconds: Seconds = 15.0
    max_model_calls: Annotated[int, Field(ge=1, le=100_000)] = 2048
    window_tokens: Annotated[int, Field(ge=100, le=1_000_000)] = 2000
    prices_file: Annotated[Path, AfterValidator(_file)] | None = None
    embedding_model: str = "builtin"

    # The database
    database_url: SecretStr | None = None
    mysql_host: str | None = None
    mysql_port: Annotated[int, Field(ge=1, le=65535)] = 3306
    mysql_user: str | None = None
    mysql_password: Secret | None = None
    mysql_database: str = "emotional_chat"
    redis_url: Annotated[SecretStr, AfterValidator(_redis_url)] | None = None
    chroma_persist_directory: Path = Path("./chroma_db")
    chroma_url: HttpUrl | None = None
    data_dir: Path = Path("./data")
    encryption_key: Annotated[SecretStr, AfterValidator(_encryption_key)] | None = None

    # The server
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    public_url: HttpUrl | None = None
    allowed_hosts: Listed = ()
    cors_origins: Annotated[Listed, AfterValidator(_origins)] = ()
    rate_limit_per_minute: Annotated[int, Field(ge=1, le=1_000_000)] = 60
    workers: Annotated[int, Field(ge=1)] = 1
    timeout: Annotated[float, Field(ge=1, le=3600)] = 120.0
    shutdown_seconds: Seconds = 20.0
    debug: bool = False
    log_dir: Path = Path("./log")

    # The companion
    persona_file: Annotated[Path, AfterValidator(_file)] | None = None
    personas_dir: Annotated[Path, AfterValidator(_folder)] | None = None
    timezone: Annotated[str, AfterValidator(_time_zone)] = "Asia/Shanghai"
    burst_quiet_seconds: Seconds = 1.2
    burst_max_seconds: Seconds = 6.0
    max_turns: Annotated[int, Field(ge=1, le=100_000)] = 2048
    rag_enabled: bool = True
    agent_enabled: bool = True

    # Telegram
    telegram_bot_token: Annotated[Secret, AfterValidator(_bot_token)] | None = None
    telegram_mode: Literal["polling", "webhook"] = "polling"
    telegram_webhook_secret: SecretStr | None = None
    telegram_webhook_certificate: Annotated[Path, AfterValidator(_file)] | None = None
    telegram_api_base_url: HttpUrl = "https://api.telegram.org"

    # WeChat
    wechat_app_id: Annotated[str, AfterValidator(_app_id)] | None = None
    wechat_app_secret: Secret | None = None
    wechat_token: Annotated[Secret, AfterValidator(_wechat_token)] | None = None
    wechat_encoding_aes_key: Annotated[Secret, AfterValidator(_aes_key)] | None = None
    wechat_delivery: Literal["auto", "quick", "certified", "uncertified"] = "auto"
    wechat_api_base_url: HttpUrl = "https://api.weixin.qq.com"
    wechat_accounts: Annotated[Path, AfterValidator(_file)] | None = None

    # Discord
    discord_bot_token: Annotated[Secret, AfterValidator(_discord_token)] | None = None
    discord_catch_up_hours: Annotated[float, Field(ge=0, le=24)] = 6.0
    discord_api_base_url: HttpUrl = "https://discord.com/api"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Nothing but what load_settings gives: it has read the environment and names every problem."""
        return (init_settings,)

    @model_validator(mode="after")
    def _fits_together(self) -> Settings:
        problems = [problem for problem in self._contradictions() if problem]
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _contradictions(self) -> list[str | None]:
        url = self.database_url.get_secret_value() if self.database_url else ""
        secret = self.telegram_webhook_secret.get_secret_value() if self.telegram_webhook_secret else ""
        webhook = bool(self.telegram_bot_token) and self.telegram_mode == "webhook"
        return [
            "MYSQL_USER: needed with MYSQL_HOST, e.g. emotional_chat"
            if self.mysql_host and not self.mysql_user and not url
            else None,
            "DATABASE_URL: must begin with sqlite:/// or mysql://, e.g. mysql://user:password@host/emotional_chat"
            if url and not url.startswith(("sqlite:///", *MYSQL_SCHEMES))
            else None,
            "ENCRYPTION_KEY: needed with a database server; `xinyu keys encryption` makes one. Keep it safe: "
            "without it nothing people wrote can be read"
            if self.store_url.startswith("mysql") and self.encryption_key is None
            else None,
            "BURST_MAX_SECONDS: must not be less than BURST_QUIET_SECONDS"
            if self.burst_max_seconds < self.burst_quiet_seconds
            else None,
            "WORKERS: only 1 for now; for more processes start `xinyu run --role work` again beside this one"
            if self.workers != 1
            else None,
            "PUBLIC_URL: TELEGRAM_MODE=webhook needs the https address at which Telegram reaches this server"
            if webhook and not (self.public_url or "").startswith("https://")
            else None,
            "PUBLIC_URL: Telegram brings updates only to the ports 443, 80, 88 and 8443"
            if webhook and urlsplit(self.public_url or "").port not in (None, *TELEGRAM_PORTS)
            else None,
            "TELEGRAM_WEBHOOK_CERTIFICATE: expected a certificate as PEM text (-----BEGIN CERTIFICATE-----)"
            if self.telegram_webhook_certificate and not _is_pem(self.telegram_webhook_certificate)
            else None,
            "TELEGRAM_WEBHOOK_SECRET: TELEGRAM_MODE=webhook needs 1 to 256 of A-Z a-z 0-9 _ -, e.g. from "
            "`openssl rand -hex 32`"
            if webhook and not re.fullmatch(r"[A-Za-z0-9_-]{1,256}", secret)
            else None,
            "WECHAT_TOKEN: needed with WECHAT_APP_ID; it is the Token of the settings page, which you choose yourself"
            if self.wechat_app_id and not self.wechat_token
            else None,
            "WECHAT_APP_ID: needed with WECHAT_TOKEN; it is the AppID of the settings page"
            if self.wechat_token and not self.wechat_app_id
            else None,
            "WECHAT_APP_ID: the other WECHAT_ settings are of no use without it and WECHAT_TOKEN"
            if (self.wechat_app_secret or self.wechat_encoding_aes_key)
            and not self.wechat_app_id
            and not self.wechat_token
            else None,
            "PUBLIC_URL: the address of the server alone, e.g. https://chat.example.com, without /webhooks/…"
            if "/webhooks" in (self.public_url or "")
            else None,
            "WECHAT_APP_SECRET: WECHAT_DELIVERY=certified needs it, to call the API"
            if self.wechat_app_id and self.wechat_delivery == "certified" and not self.wechat_app_secret
            else None,
        ]

    @property
    def store_url(self) -> str:
        """The database as SQLAlchemy wants it. It may hold a password: do not print it."""
        if self.database_url is not None:
            url = self.database_url.get_secret_value()
            for scheme in MYSQL_SCHEMES:
                if url.startswith(scheme):
                    return "mysql+aiomysql://" + url.removeprefix(scheme)
            return url
        if self.mysql_host:
            password = self.mysql_password.get_secret_value() if self.mysql_password else ""
            account = f"{quote(self.mysql_user or '', safe='')}:{quote(password, safe='')}"
            return (
                f"mysql+aiomysql://{account}@{self.mysql_host}:{self.mysql_port}/"
                f"{quote(self.mysql_database, safe='')}"
            )
        return f"sqlite:///{self.data_dir / 'xinyu.db'}"

    @property
    def secrets(self) -> tuple[str, ...]:
        """Every secret value that is set: what logs must never hold."""
        values = (getattr(self, name) for name in type(self).model_fields)
        return tuple(value.get_secret_value() for value in values if isinstance(value, SecretStr))


@dataclass(frozen=True, slots=True)
class Loaded:
    settings: Settings
    warnings: tuple[str, ...]


def load_settings(environ: Mapping[str, str], config_file: Path | None = None) -> Loaded:
    """Read config.env (or the file named by XINYU_CONFIG) and the environment.

    Raises ConfigError with every problem, one a line: the setting's name and what a right value looks like.
    """
    path = config_file or Path(environ.get("XINYU_CONFIG", CONFIG_FILE))
    in_file = _read(path)
    known = {name.upper() for name in Settings.model_fields}
    problems = [
        f"{name}: no such setting{_meant(name, known)} ({path})" for name in in_file if name not in known
    ]
    warnings = tuple(
        f"{name}: no such setting{meant} (environment)"
        for name in environ
        if name not in known and (meant := _meant(name, known, 0.9))
    )
    merged = {**in_file, **{name: value for name, value in environ.items() if name in known}}
    given = {name.lower(): value.strip() for name, value in merged.items() if name in known and value.strip()}
    settings, wrong = _validate(given)
    if settings is None or problems:
        raise ConfigError("\n".join(problems + wrong))
    return Loaded(settings, warnings)


def _validate(given: dict[str, str]) -> tuple[Settings | None, list[str]]:
    """The settings, or every problem: also what does not fit together among those that are right alone."""
    try:
        return Settings.model_validate(given), []
    except ValidationError as error:
        items = error.errors()
    problems = [line for item in items for line in _explain(item)]
    wrong_alone = {str(item["loc"][0]) for item in items if item["loc"]}
    if wrong_alone:
        rest = {name: value for name, value in given.items() if name not in wrong_alone}
        # What is wrong is not missing.
        problems += [line for line in _validate(rest)[1] if line.partition(":")[0].lower() not in wrong_alone]
    return None, problems


def _read(path: Path) -> dict[str, str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as UTF-8 text ({type(error).__name__})") from error
    return {
        name: value or "" for name, value in dotenv_values(stream=StringIO(text), interpolate=False).items()
    }


def _meant(name: str, known: set[str], likeness: float = 0.75) -> str:
    close = difflib.get_close_matches(name.upper(), known, n=1, cutoff=likeness)
    return f"; did you mean {close[0]}?" if close else ""


_WANTED = {
    "int_parsing": "a whole number",
    "float_parsing": "a number",
    "bool_parsing": "true or false",
    "greater_than_equal": "at least {ge}",
    "less_than_equal": "at most {le}",
    "literal_error": "one of {expected}",
    "string_too_short": "a text that is not empty",
    "string_too_long": "a shorter text",
}


def _explain(item: Any) -> list[str]:
    """A problem in the operator's words; never the value, which may be a secret."""
    message = str(item["msg"]).removeprefix("Value error, ")
    if not item["loc"]:
        return message.split("\n")
    wanted = _WANTED.get(item["type"], message).format(**item.get("ctx", {}))
    return [f"{str(item['loc'][0]).upper()}: expected {wanted}"]
