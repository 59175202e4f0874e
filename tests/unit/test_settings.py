"""Settings: every problem at once and by name, never a secret's value, and an example file that is complete."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from dotenv import dotenv_values
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError
from sqlalchemy import make_url

from bot.settings import Loaded, Settings, load_settings
from core.errors import ConfigError

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "config.env.example"
NOWHERE = Path("/nonexistent/config.env")
KEY = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
GUIDE = [
    "LLM_API_KEY",
    "LLM_BASE_URL",
    "DEFAULT_MODEL",
    "MYSQL_HOST",
    "MYSQL_PORT",
    "MYSQL_USER",
    "MYSQL_PASSWORD",
    "MYSQL_DATABASE",
    "CHROMA_PERSIST_DIRECTORY",
    "HOST",
    "PORT",
    "DEBUG",
    "RAG_ENABLED",
    "AGENT_ENABLED",
    "WORKERS",
    "TIMEOUT",
]
DESIGN = [
    "DATABASE_URL",
    "REDIS_URL",
    "CHROMA_URL",
    "DATA_DIR",
    "LOG_DIR",
    "ENCRYPTION_KEY",
    "PUBLIC_URL",
    "TIMEZONE",
    "BURST_QUIET_SECONDS",
    "BURST_MAX_SECONDS",
    "EMBEDDING_MODEL",
    "FALLBACK_MODELS",
    "TELEGRAM_BOT_TOKEN",
    "TELEGRAM_MODE",
    "TELEGRAM_WEBHOOK_SECRET",
    "TELEGRAM_API_BASE_URL",
    "WECHAT_APP_ID",
    "WECHAT_APP_SECRET",
    "WECHAT_TOKEN",
    "WECHAT_ENCODING_AES_KEY",
]


def load(environ: Mapping[str, str] = {}, file: Path = NOWHERE) -> Loaded:
    return load_settings(environ, file)


def settings(**environ: str) -> Settings:
    return load(environ).settings


def problems(environ: Mapping[str, str] = {}, file: Path = NOWHERE) -> dict[str, str]:
    """What is complained of, by name."""
    with pytest.raises(ConfigError) as caught:
        load(environ, file)
    return dict(line.split(": ", 1) for line in str(caught.value).splitlines())


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config.env"


# --- where they come from -------------------------------------------------------------------------


def test_without_anything_the_defaults_run_on_a_laptop() -> None:
    loaded = load()
    assert loaded.warnings == () and loaded.settings == Settings()
    assert loaded.settings.host == "127.0.0.1" and loaded.settings.debug is False
    assert loaded.settings.store_url == "sqlite:///data/xinyu.db"
    assert loaded.settings.llm_api_key is None and loaded.settings.telegram_bot_token is None


def test_names_of_the_guide_and_the_design_are_settings() -> None:
    assert {*GUIDE, *DESIGN} <= {name.upper() for name in Settings.model_fields}


def test_the_environment_wins_over_the_file(config: Path) -> None:
    config.write_text("PORT=9000\nHOST=0.0.0.0\nDEBUG=true # comment\n", encoding="utf-8")
    loaded = load({"PORT": "9001", "HOST": "", "HOME": "/root"}, config).settings
    assert (loaded.port, loaded.host, loaded.debug) == (9001, "127.0.0.1", True)


def test_the_file_can_be_elsewhere(config: Path) -> None:
    config.write_text("PORT=9000\n")
    assert load_settings({"XINYU_CONFIG": str(config)}).settings.port == 9000


def test_a_file_as_windows_writes_it_and_values_as_people_quote_them(config: Path) -> None:
    config.write_bytes(
        b"\xef\xbb\xbfPORT=9000\r\nexport HOST='0.0.0.0'\r\nLLM_API_KEY=\"a$b${HOME}\"\r\nTIMEZONE= UTC \r\n"
    )
    loaded = load({}, config).settings
    assert (loaded.port, loaded.host, loaded.timezone) == (9000, "0.0.0.0", "UTC")
    assert loaded.llm_api_key == SecretStr("a$b${HOME}"), "a dollar in a password is a dollar"


def test_empty_means_the_default(config: Path) -> None:
    config.write_text("PORT=\nMYSQL_HOST=\nTELEGRAM_BOT_TOKEN=  \nDEBUG\n")
    assert load({"TIMEZONE": " "}, config).settings == Settings()


def test_lists_are_separated_by_commas() -> None:
    found = settings(
        FALLBACK_MODELS=" qwen-turbo, llama3@http://localhost:11434/v1 ,", ALLOWED_HOSTS="a.example"
    )
    assert found.fallback_models == ("qwen-turbo", "llama3@http://localhost:11434/v1")
    assert found.allowed_hosts == ("a.example",)


def test_a_file_that_is_no_text_is_told(config: Path) -> None:
    config.write_bytes(b"PORT=\xff\xfe\n")
    with pytest.raises(ConfigError, match=r"config\.env.*UTF-8"):
        load({}, config)


def test_they_cannot_be_changed() -> None:
    found: Any = settings()
    with pytest.raises(ValidationError):
        found.port = 1


# --- what is wrong with them ----------------------------------------------------------------------


def test_every_problem_is_told_at_once_with_what_is_right(config: Path) -> None:
    config.write_text("PORTT=1\nPORT=eighty\nTIMEZONE=Mars/Olympus\n")
    found = problems(
        {
            "LLM_BASE_URL": "dashscope",
            "DEBUG": "perhaps",
            "BURST_QUIET_SECONDS": "-1",
            "WORKERS": "4",
            "TELEGRAM_MODE": "pigeon",
            "MYSQL_HOST": "localhost",
            "MAX_TURNS": "9999999",
        },
        config,
    )
    assert found.keys() == {
        "PORTT",
        "PORT",
        "TIMEZONE",
        "LLM_BASE_URL",
        "DEBUG",
        "BURST_QUIET_SECONDS",
        "WORKERS",
        "TELEGRAM_MODE",
        "MYSQL_USER",
        "ENCRYPTION_KEY",
        "MAX_TURNS",
    }
    assert "did you mean PORT?" in found["PORTT"] and str(config) in found["PORTT"]
    assert found["PORT"] == "expected a whole number"
    assert "Asia/Shanghai" in found["TIMEZONE"]
    assert "https://example.com/v1" in found["LLM_BASE_URL"]
    assert found["DEBUG"] == "expected true or false"
    assert found["BURST_QUIET_SECONDS"] == "expected at least 0.0"
    assert "'polling' or 'webhook'" in found["TELEGRAM_MODE"]
    assert found["MAX_TURNS"] == "expected at most 100000"


@pytest.mark.parametrize(
    ("environ", "name", "hint"),
    [
        ({"PORT": "70000"}, "PORT", "65535"),
        ({"DEFAULT_MODEL": "x" * 192}, "DEFAULT_MODEL", "shorter"),
        ({"TIMEOUT": "soon"}, "TIMEOUT", "a number"),
        ({"BURST_QUIET_SECONDS": "nan"}, "BURST_QUIET_SECONDS", ""),
        ({"TIMEOUT": "inf"}, "TIMEOUT", "at most"),
        ({"PUBLIC_URL": "ftp://x"}, "PUBLIC_URL", "https://"),
        ({"LLM_BASE_URL": "https://"}, "LLM_BASE_URL", "https://"),
        ({"LLM_BASE_URL": "https://[half/v1"}, "LLM_BASE_URL", "https://"),
        ({"CHROMA_URL": "http://localhost:port"}, "CHROMA_URL", "https://"),
        ({"DATABASE_URL": "postgres://h/d"}, "DATABASE_URL", "sqlite:///"),
        ({"DATABASE_URL": "mysql://u:p@h/d"}, "ENCRYPTION_KEY", "xinyu keys encryption"),
        ({"BURST_QUIET_SECONDS": "7"}, "BURST_MAX_SECONDS", "BURST_QUIET_SECONDS"),
        ({"TIMEZONE": "/etc/passwd"}, "TIMEZONE", "Asia/Shanghai"),
        ({"TIMEZONE": "../x"}, "TIMEZONE", "Asia/Shanghai"),
        ({"ENCRYPTION_KEY": "", "MYSQL_HOST": "h", "MYSQL_USER": "u"}, "ENCRYPTION_KEY", "Keep it safe"),
    ],
)
def test_a_wrong_value_is_told_by_name(environ: dict[str, str], name: str, hint: str) -> None:
    found = problems(environ)
    assert found.keys() == {name} and hint in found[name]


WEBHOOK = {"TELEGRAM_BOT_TOKEN": "1:AAa-token-of-twenty-or-more", "TELEGRAM_MODE": "webhook"}


@pytest.mark.parametrize(
    ("more", "names"),
    [
        ({}, {"PUBLIC_URL", "TELEGRAM_WEBHOOK_SECRET"}),
        ({"PUBLIC_URL": "http://x.example", "TELEGRAM_WEBHOOK_SECRET": "ok"}, {"PUBLIC_URL"}),
        (
            {"PUBLIC_URL": "https://x.example", "TELEGRAM_WEBHOOK_SECRET": "no blank"},
            {"TELEGRAM_WEBHOOK_SECRET"},
        ),
        (
            {"PUBLIC_URL": "https://x.example", "TELEGRAM_WEBHOOK_SECRET": "x" * 257},
            {"TELEGRAM_WEBHOOK_SECRET"},
        ),
    ],
)
def test_a_webhook_needs_an_address_and_a_secret(more: dict[str, str], names: set[str]) -> None:
    assert problems({**WEBHOOK, **more}).keys() == names


def test_a_webhook_with_both_is_right() -> None:
    found = settings(**WEBHOOK, PUBLIC_URL="https://x.example/", TELEGRAM_WEBHOOK_SECRET="a-b_C9")
    assert found.public_url == "https://x.example"


WECHAT = {"WECHAT_APP_ID": "wx0123456789abcdef", "WECHAT_TOKEN": "Token_1"}


def test_a_wechat_account_needs_no_more_than_its_id_and_token() -> None:
    found = settings(**WECHAT)
    assert found.wechat_app_id == "wx0123456789abcdef" and found.wechat_token == SecretStr("Token_1")
    assert found.wechat_app_secret is None and found.wechat_encoding_aes_key is None
    assert (found.wechat_delivery, found.wechat_api_base_url) == ("auto", "https://api.weixin.qq.com")
    assert settings().wechat_app_id is None and settings().wechat_accounts is None


@pytest.mark.parametrize("delivery", ["auto", "quick", "certified", "uncertified"])
def test_a_whole_wechat_account_is_right(delivery: str, config: Path) -> None:
    config.write_text("")
    found = settings(
        **WECHAT,
        WECHAT_APP_SECRET="s3cret",
        WECHAT_ENCODING_AES_KEY="aZ09+/" + "x" * 37,
        WECHAT_DELIVERY=delivery,
        WECHAT_ACCOUNTS=str(config),
        WECHAT_API_BASE_URL="http://127.0.0.1:9/",
    )
    assert found.wechat_delivery == delivery and found.wechat_accounts == config
    assert found.wechat_api_base_url == "http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("environ", "name", "hint"),
    [
        ({"WECHAT_APP_ID": WECHAT["WECHAT_APP_ID"]}, "WECHAT_TOKEN", "settings page"),
        ({"WECHAT_TOKEN": "Token_1"}, "WECHAT_APP_ID", "AppID"),
        ({**WECHAT, "WECHAT_APP_ID": "gh_0123456789ab"}, "WECHAT_APP_ID", "wx0123456789abcdef"),
        ({**WECHAT, "WECHAT_APP_ID": "wx01/../../x"}, "WECHAT_APP_ID", "wx0123456789abcdef"),
        ({**WECHAT, "WECHAT_TOKEN": "no blanks"}, "WECHAT_TOKEN", "3 to 32"),
        ({**WECHAT, "WECHAT_TOKEN": "ab"}, "WECHAT_TOKEN", "3 to 32"),
        ({**WECHAT, "WECHAT_TOKEN": "a" * 33}, "WECHAT_TOKEN", "3 to 32"),
        ({**WECHAT, "WECHAT_ENCODING_AES_KEY": "A" * 42}, "WECHAT_ENCODING_AES_KEY", "43"),
        ({**WECHAT, "WECHAT_ENCODING_AES_KEY": "A" * 43 + "="}, "WECHAT_ENCODING_AES_KEY", "43"),
        ({**WECHAT, "WECHAT_DELIVERY": "pigeon"}, "WECHAT_DELIVERY", "'certified' or 'uncertified'"),
        ({**WECHAT, "WECHAT_DELIVERY": "certified"}, "WECHAT_APP_SECRET", "certified"),
        ({"WECHAT_ACCOUNTS": "/nonexistent.toml"}, "WECHAT_ACCOUNTS", "a file that is there"),
        ({"WECHAT_API_BASE_URL": "api.weixin.qq.com"}, "WECHAT_API_BASE_URL", "https://"),
    ],
)
def test_a_wrong_wechat_account_is_told_by_name(environ: dict[str, str], name: str, hint: str) -> None:
    found = problems(environ)
    assert found.keys() == {name} and hint in found[name], "what is wrong is not told to be missing"


def test_wrong_wechat_settings_are_told_at_once() -> None:
    wrong = {
        "WECHAT_APP_ID": "x",
        "WECHAT_TOKEN": "!",
        "WECHAT_ENCODING_AES_KEY": "y",
        "WECHAT_DELIVERY": "z",
    }
    assert problems(wrong).keys() == wrong.keys()


@pytest.mark.parametrize(
    ("name", "placeholder"),
    [
        ("LLM_API_KEY", "your_qwen_api_key_here"),
        ("MYSQL_PASSWORD", "your_secure_password"),
        ("TELEGRAM_BOT_TOKEN", "changeme"),
        ("LLM_API_KEY", "XXXX"),
        ("WECHAT_APP_SECRET", "your_app_secret"),
        ("WECHAT_TOKEN", "your_token"),
        ("WECHAT_ENCODING_AES_KEY", "your_encoding_aes_key"),
    ],
)
def test_the_guides_placeholders_are_refused(name: str, placeholder: str) -> None:
    assert "placeholder" in problems({name: placeholder})[name]


def test_unknown_names_in_the_file_are_refused_and_in_the_environment_looked_at(config: Path) -> None:
    config.write_text("LLM_APIKEY=1\nSOMETHING_ELSE=1\nWECHAT_APPID=1\nDISCORD_TOKEN=1\n")
    found = problems({}, config)
    assert found.keys() == {"LLM_APIKEY", "SOMETHING_ELSE", "WECHAT_APPID", "DISCORD_TOKEN"}
    assert "did you mean LLM_API_KEY?" in found["LLM_APIKEY"]
    assert "did you mean WECHAT_APP_ID?" in found["WECHAT_APPID"]
    assert "did you mean DISCORD_BOT_TOKEN?" in found["DISCORD_TOKEN"]
    assert "did you mean" not in found["SOMETHING_ELSE"]
    loaded = load(
        {"TELEGRAM_BOT_TOKENS": "1", "HOSTNAME": "box", "PATH": "/bin", "LANG": "C", "SHELL": "/bin/sh"}
    )
    assert len(loaded.warnings) == 1
    assert "did you mean TELEGRAM_BOT_TOKEN?" in loaded.warnings[0]


# --- secrets --------------------------------------------------------------------------------------

CANARY = "canary-9f31-secret"
SECRETS = {
    "LLM_API_KEY": f"{CANARY}-1",
    "MYSQL_PASSWORD": f"{CANARY}-2",
    "DATABASE_URL": f"mysql://u:{CANARY}-3@h/d",
    "REDIS_URL": f"redis://:{CANARY}-4@h",
    "ENCRYPTION_KEY": base64.b64encode(f"{CANARY}-5".encode().ljust(32)).decode(),
    "TELEGRAM_BOT_TOKEN": f"1:{CANARY}-6-of-the-bot",
    "TELEGRAM_WEBHOOK_SECRET": f"{CANARY}-7",
    "WECHAT_APP_SECRET": f"{CANARY}-8",
    "WECHAT_TOKEN": f"{CANARY}_9".replace("-", "_"),
    "WECHAT_ENCODING_AES_KEY": f"{CANARY}/10/".replace("-", "/").ljust(43, "A"),
}
SHOWING = re.compile("canary.9f31.secret|" + re.escape(SECRETS["ENCRYPTION_KEY"]))
"""Whatever would give one of them away."""


def test_secrets_are_never_shown() -> None:
    given = {**SECRETS, "WECHAT_APP_ID": WECHAT["WECHAT_APP_ID"]}
    found = settings(**given)
    for shown in (
        repr(found),
        str(found),
        f"{found}",
        repr(load(given)),
        str(found.model_dump()),
        repr(vars(found)),
    ):
        assert not SHOWING.search(shown)
    assert not SHOWING.search(found.model_dump_json())
    assert set(found.secrets) == set(SECRETS.values()), "the log knows what to hide"


@pytest.mark.parametrize("name", SECRETS)
def test_secrets_are_in_no_complaint(name: str, config: Path) -> None:
    wrong = {"PORT": CANARY, "LLM_BASE_URL": CANARY, "TIMEZONE": CANARY, "DATABASE_URL": f"ftp://{CANARY}"}
    config.write_text(f"{name}X={CANARY}\n{name}_OLD='{CANARY}'\n")
    others = {
        "TELEGRAM_WEBHOOK_SECRET": f"{CANARY} !",
        "WECHAT_TOKEN": f"{CANARY} !",
        "WECHAT_APP_ID": CANARY,
    }
    aes = {"WECHAT_ENCODING_AES_KEY": f"{CANARY}!", "WECHAT_DELIVERY": CANARY, "WECHAT_ACCOUNTS": "/x"}
    for environ in (wrong, {**SECRETS, **wrong, **WEBHOOK, **others, **aes}):
        with pytest.raises(ConfigError) as caught:
            load(environ, config)
        error: BaseException | None = caught.value
        while error is not None:
            assert not SHOWING.search(str(error)) and not SHOWING.search(repr(error))
            error = error.__cause__ or error.__context__


# --- the database's address -----------------------------------------------------------------------


@given(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zs", "Zl", "Zp"]), min_size=1),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20),
)
def test_any_password_and_user_arrive_as_they_are(password: str, user: str) -> None:
    if (
        re.match(r"^your_|^changeme$|^xxx+$", password, re.IGNORECASE)
        or not password.strip()
        or not user.strip()
    ):
        return
    found = settings(
        MYSQL_HOST="db.example",
        MYSQL_USER=user,
        MYSQL_PASSWORD=password,
        MYSQL_DATABASE="d/b",
        ENCRYPTION_KEY=KEY,
    )
    url = make_url(found.store_url)
    assert (url.drivername, url.host, url.port) == ("mysql+aiomysql", "db.example", 3306)
    assert (url.username, url.password) == (user.strip(), password.strip())


@pytest.mark.parametrize("scheme", ["mysql", "mysql+aiomysql", "mariadb", "mariadb+aiomysql"])
def test_a_whole_address_wins(scheme: str) -> None:
    found = settings(
        DATABASE_URL=f"{scheme}://u:p%40ss@h:3307/d", MYSQL_HOST="other", MYSQL_USER="x", ENCRYPTION_KEY=KEY
    )
    assert found.store_url == "mysql+aiomysql://u:p%40ss@h:3307/d"


def test_sqlite_lies_in_the_data_directory() -> None:
    assert settings(DATA_DIR="/srv/xinyu").store_url == "sqlite:////srv/xinyu/xinyu.db"
    assert settings(DATABASE_URL="sqlite:///elsewhere.db").store_url == "sqlite:///elsewhere.db"


# --- the example file -----------------------------------------------------------------------------


def test_the_example_is_complete_and_says_the_defaults() -> None:
    written = dotenv_values(EXAMPLE, interpolate=False)
    assert written.keys() == {name.upper() for name in Settings.model_fields}
    assert load({}, EXAMPLE).settings == Settings()
    for name, field in Settings.model_fields.items():
        shown = isinstance(field.default, int | float | str | Path) and not isinstance(field.default, bool)
        if shown:
            assert written[name.upper()], f"{name.upper()} does not show its default"
    assert len(re.findall(r"^[A-Z_]+=", EXAMPLE.read_text(), re.MULTILINE)) == len(written), "none twice"


def test_the_example_holds_no_secret_and_config_env_is_not_committed() -> None:
    written = dotenv_values(EXAMPLE, interpolate=False)
    for name in SECRETS:
        assert not written[name]
    assert "config.env" in (ROOT / ".gitignore").read_text().split()


def test_the_guides_configuration_works() -> None:
    """The reference deployment guide's config.env, with its two placeholders filled in."""
    guide = {
        "LLM_API_KEY": "sk-real",
        "LLM_BASE_URL": "https://dashscope.aliyuncs.com/compatible-mode/v1",
        "DEFAULT_MODEL": "qwen-plus",
        "MYSQL_HOST": "localhost",
        "MYSQL_PORT": "3306",
        "MYSQL_USER": "emotional_chat",
        "MYSQL_PASSWORD": "p@ss:w/rd#1",
        "CHROMA_PERSIST_DIRECTORY": "./chroma_db",
        "HOST": "0.0.0.0",
        "PORT": "8000",
        "DEBUG": "false",
    }
    assert problems(guide).keys() == {"ENCRYPTION_KEY"}, "the one thing that the guide does not know of"
    found = settings(**guide, ENCRYPTION_KEY=KEY)
    assert make_url(found.store_url).password == "p@ss:w/rd#1"
    assert found.mysql_database == "emotional_chat"
