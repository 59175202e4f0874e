"""The files an operator writes for WeChat: the custom menu, and further accounts. Each problem is told by its place."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import pytest

from adapters.wechat.accounts import load_accounts
from adapters.wechat.menu import DEFAULT_MENU, load_menu
from adapters.wechat.settings import Delivery, WechatAccount
from bot.settings import load_settings
from bot.wechat import wechat_accounts
from core.commands.words import command_in_words
from core.errors import ConfigError

NOWHERE = Path("/nonexistent/config.env")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "file.toml"


# --- the menu -------------------------------------------------------------------------------------


def menu(file: Path, text: str) -> dict[str, Any]:
    file.write_text(text, encoding="utf-8")
    return load_menu(file)


def menu_problems(file: Path, text: str) -> list[str]:
    """What is complained of, without the file that each line names."""
    with pytest.raises(ConfigError) as caught:
        menu(file, text)
    lines = str(caught.value).splitlines()
    assert all(line.startswith(f"{file}: ") for line in lines)
    return [line.removeprefix(f"{file}: ") for line in lines]


def test_the_menu_that_comes_along_is_right_and_says_commands() -> None:
    made = load_menu(DEFAULT_MENU)
    assert made.keys() == {"button"} and 1 <= len(made["button"]) <= 3
    leaves: list[dict[str, str]] = []
    for button in made["button"]:
        assert len(button["name"].encode()) <= 16
        below = button.get("sub_button", [])
        assert len(below) <= 5 and all(len(leaf["name"].encode()) <= 60 for leaf in below)
        leaves += below or [button]
    said = [command_in_words(leaf["key"]) for leaf in leaves]
    assert {command.name for command in said if command} >= {
        "more",
        "settings",
        "export",
        "delete_me",
        "help",
    }


def test_a_menu_becomes_what_the_api_takes(file: Path) -> None:
    made = menu(
        file,
        '\ufeff[[button]]\nname = "聊聊"\nsays = "继续"\n'
        '[[button]]\nname = "我的"\n'
        '[[button.below]]\nname = "设置"\nsays = "设置：语言：英文"\n'
        '[[button.below]]\nname = "网页"\nurl = "https://example.org/页"\n',
    )
    assert made == {
        "button": [
            {"type": "click", "name": "聊聊", "key": "继续"},
            {
                "name": "我的",
                "sub_button": [
                    {"type": "click", "name": "设置", "key": "设置：语言：英文"},
                    {"type": "view", "name": "网页", "url": "https://example.org/页"},
                ],
            },
        ]
    }


def button(name: str = "好", **more: str) -> str:
    lines = {"name": name, **(more or {"says": "继续"})}
    return "[[button]]\n" + "".join(f'{key} = "{value}"\n' for key, value in lines.items())


def below(name: str = "好", **more: str) -> str:
    return button(name, **more).replace("[[button]]", "[[button.below]]")


def test_every_problem_of_a_menu_is_told_at_once_with_its_place(file: Path) -> None:
    text = (
        button("一" * 6)
        + button("二", says="随便说说")
        + '[[button]]\nname = "三"\n'
        + below("四" * 21)
        + below("五", url="ftp://example.org")
        + below("", says="设置")
        + button("四")
    )
    found = menu_problems(file, text)
    assert len(found) == 6
    assert found[0] == "button: at most 3"
    assert found[1] == "button 1: name is longer than 16 bytes"
    assert found[2].startswith("button 2: says is no command: 随便说说") and "docs/wechat.md" in found[2]
    assert found[3] == "button 3, below 1: name is longer than 60 bytes"
    assert found[4] == "button 3, below 2: url must begin with https://"
    assert found[5] == "button 3, below 3: name is missing"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "button: at least one [[button]] is needed"),
        (button() * 4, "button: at most 3"),
        ("button = []", "button: at least one [[button]] is needed"),
        ('[button]\nname = "x"\nsays = "继续"', "button: expected [[button]] tables"),
        ('button = ["继续"]', "button: expected [[button]] tables"),
        ('[[button]]\nsays = "继续"', "button 1: name is missing"),
        ('[[button]]\nname = "  "\nsays = "继续"', "button 1: name is missing"),
        ('[[button]]\nname = 5\nsays = "继续"', "button 1: name is missing"),
        ('[[button]]\nname = "x"', "button 1: says is missing"),
        ('[[button]]\nname = "x"\nsay = "继续"', "button 1: says is missing"),
        ('[[button]]\nname = "x"\nbelow = "继续"', "button 1, below: expected [[button]] tables"),
        ('[[button]]\nname = "x"\n' + below() * 6, "button 1, below: at most 5"),
        (button(says="继续" * 22), "button 1: says is longer than 128 bytes"),
        (button(url="https://e.org/" + "x" * 1011), "button 1: url is longer than 1024 bytes"),
        (button("abcdefghijklmnopq"), "button 1: name is longer than 16 bytes"),
    ],
)
def test_a_wrong_menu_is_told_by_its_place(file: Path, text: str, told: str) -> None:
    assert told in menu_problems(file, text)


def test_a_menu_button_without_anything_below_it_is_told(file: Path) -> None:
    """WeChat refuses it, and it would do nothing."""
    (told,) = menu_problems(file, button("好") + '[[button]]\nname = "空"\nbelow = []\n')
    assert told.startswith("button 2, below:")


def test_a_menu_of_just_the_limits_is_right(file: Path) -> None:
    text = button("a" * 16, url="https://e.org/" + "x" * 1010) + button("一二三四五")
    text += '[[button]]\nname = "三"\n' + below("四" * 20) * 5
    assert [len(one.get("sub_button", [])) for one in menu(file, text)["button"]] == [0, 0, 5]


def test_a_menu_that_is_no_toml_or_not_there_is_told(file: Path) -> None:
    for content in (b"[[button]\n", b"\xff\xfe"):
        file.write_bytes(content)
        with pytest.raises(ConfigError, match=r"file\.toml: cannot be read as TOML"):
            load_menu(file)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_menu(file.parent / "none.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_menu(file.parent)


# --- further accounts -----------------------------------------------------------------------------

CANARY = "canary9f31secret"
RIGHT = {
    "name": "support",
    "app_id": "wx0123456789abcdef",
    "app_secret": "0123456789abcdef0123456789abcdef",
    "token": "Token_1",
    "encoding_aes_key": "A" * 42 + "/",
    "delivery": "uncertified",
}


def account(**changes: str | int | None) -> str:
    """One `[[account]]`; None leaves a setting out."""
    values = {**RIGHT, **changes}
    lines = (
        f"{key} = {value}\n" if isinstance(value, int) else f'{key} = "{value}"\n'
        for key, value in values.items()
        if value is not None
    )
    return "[[account]]\n" + "".join(lines)


def accounts(file: Path, text: str) -> list[WechatAccount]:
    file.write_text(text, encoding="utf-8")
    return load_accounts(file, "https://api.weixin.qq.com", "https://xinyu.example")


def account_problems(file: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        accounts(file, text)
    assert CANARY not in "".join(traceback.format_exception(caught.value))
    lines = str(caught.value).splitlines()
    assert all(line.startswith(f"WECHAT_ACCOUNTS: {file}: ") for line in lines)
    return [line.removeprefix(f"WECHAT_ACCOUNTS: {file}: ") for line in lines]


def test_accounts_are_read_with_what_all_share(file: Path) -> None:
    few = {"app_secret": None, "encoding_aes_key": None, "delivery": None}
    one, two = accounts(file, "\ufeff" + account() + account(name="other-1", app_id="wxAAAAAAAA", **few))
    assert one == WechatAccount(
        name="support",
        app_id="wx0123456789abcdef",
        token="Token_1",
        app_secret="0123456789abcdef0123456789abcdef",
        encoding_aes_key="A" * 42 + "/",
        delivery=Delivery.UNCERTIFIED,
        api_base_url="https://api.weixin.qq.com",
        public_url="https://xinyu.example",
    )
    assert (two.path, two.delivery, two.app_secret, two.encoding_aes_key) == (
        "/webhooks/wechat/other-1",
        Delivery.AUTO,
        "",
        "",
    )
    assert accounts(file, "") == []


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"name": None}, "name"),
        ({"name": ""}, "name"),
        ({"name": "files"}, "name"),
        ({"name": "Upper"}, "name"),
        ({"name": "a/b"}, "name"),
        ({"name": "-a"}, "name"),
        ({"name": "a" * 33}, "name"),
        ({"app_id": None}, "app_id"),
        ({"app_id": f"gh_{CANARY}"}, "app_id"),
        ({"app_id": "wx012"}, "app_id"),
        ({"token": None}, "token"),
        ({"token": "ab"}, "token"),
        ({"token": f"{CANARY} with blanks"}, "token"),
        ({"token": "x" * 33}, "token"),
        ({"encoding_aes_key": CANARY}, "encoding_aes_key"),
        ({"encoding_aes_key": "A" * 44}, "encoding_aes_key"),
        ({"encoding_aes_key": "A" * 42 + "="}, "encoding_aes_key"),
        ({"delivery": "pigeon"}, "delivery"),
        ({"delivery": "certified", "app_secret": None}, "app_secret"),
        ({"appsecret": CANARY}, "appsecret"),
    ],
)
def test_a_wrong_account_is_told_by_its_setting(file: Path, changes: dict[str, str | None], key: str) -> None:
    (told,) = account_problems(file, account(name="right", app_id="wxAAAAAAAA") + account(**changes))
    assert told.startswith(f"account 2: {key}: ")


def test_every_problem_of_every_account_is_told_at_once(file: Path) -> None:
    text = account(token="!", app_id="gh_1") + account() + account(name="two", delivery=CANARY, port=80)
    found = account_problems(file, text)
    assert {tuple(line.split(": ")[:2]) for line in found} == {
        ("account 1", "app_id"),
        ("account 1", "token"),
        ("account 3", "delivery"),
        ("account 3", "port"),
    }


@pytest.mark.parametrize("changes", [{"name": "another"}, {"app_id": "wxAAAAAAAA"}])
def test_two_accounts_never_share_a_path_or_an_app_id(file: Path, changes: dict[str, str]) -> None:
    (told,) = account_problems(file, account() + account(**changes))
    assert "of its own" in told


def test_a_number_where_a_text_belongs_is_told(file: Path) -> None:
    assert "account 1: app_secret: expected a text" in account_problems(file, account(app_secret=12345))
    assert "account 1: token: expected a text" in account_problems(file, account(token=12345))


@pytest.mark.parametrize(
    "text",
    [
        f'token = "{CANARY}"\n' + account(),
        f'[account]\ntoken = "{CANARY}"',
        f'account = ["{CANARY}"]',
        f'[[accounts]]\ntoken = "{CANARY}"',
    ],
)
def test_anything_but_accounts_is_refused(file: Path, text: str) -> None:
    assert account_problems(file, text) == ["expected [[account]] tables and nothing else"]


@pytest.mark.parametrize(
    "text",
    [
        f'[[account]]\ntoken = "{CANARY}',
        f"[[account]]\ntoken = {CANARY}",
        f'[[account]]\ntoken = "{CANARY}\\q"',
        f'[[account]]\ntoken = "{CANARY}"\ntoken = "{CANARY}"',
        f'"{CANARY}" {CANARY}',
    ],
)
def test_what_is_no_toml_is_told_without_a_word_of_it(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"WECHAT_ACCOUNTS: .*file\.toml cannot be read") as caught:
        load_accounts(file, "", "")
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_what_is_no_text_is_told_without_a_word_of_it(file: Path) -> None:
    file.write_bytes(b'[[account]]\ntoken = "' + CANARY.encode() + b'\xff"\n')
    with pytest.raises(ConfigError, match="UnicodeDecodeError") as caught:
        load_accounts(file, "", "")
    assert CANARY not in "".join(traceback.format_exception(caught.value))


# --- all accounts together ------------------------------------------------------------------------


def from_settings(**environ: str) -> list[WechatAccount]:
    return wechat_accounts(load_settings(environ, NOWHERE).settings)


def test_without_an_account_there_is_no_channel() -> None:
    assert from_settings() == []


def test_the_account_of_the_settings_has_the_short_path(file: Path) -> None:
    file.write_text(account(app_id="wxAAAAAAAA"), encoding="utf-8")
    first, second = from_settings(
        WECHAT_APP_ID="wx0123456789abcdef",
        WECHAT_TOKEN="Token_0",
        WECHAT_APP_SECRET="s" * 32,
        WECHAT_ENCODING_AES_KEY="A" * 43,
        WECHAT_DELIVERY="certified",
        WECHAT_API_BASE_URL="http://127.0.0.1:9/",
        WECHAT_ACCOUNTS=str(file),
        PUBLIC_URL="https://xinyu.example/",
    )
    assert (first.path, first.delivery, first.app_secret) == (
        "/webhooks/wechat",
        Delivery.CERTIFIED,
        "s" * 32,
    )
    assert (first.token, first.encoding_aes_key) == ("Token_0", "A" * 43)
    assert (second.path, second.delivery) == ("/webhooks/wechat/support", Delivery.UNCERTIFIED)
    for one in (first, second):
        assert (one.api_base_url, one.public_url) == ("http://127.0.0.1:9", "https://xinyu.example")


def test_the_file_alone_will_do_and_may_not_repeat_the_settings_account(file: Path) -> None:
    file.write_text(account(), encoding="utf-8")
    assert [one.name for one in from_settings(WECHAT_ACCOUNTS=str(file))] == ["support"]
    with pytest.raises(ConfigError, match=r"WECHAT_ACCOUNTS: .*app_id of WECHAT_APP_ID"):
        from_settings(WECHAT_ACCOUNTS=str(file), WECHAT_APP_ID=RIGHT["app_id"], WECHAT_TOKEN="Token_0")
