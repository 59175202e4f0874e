"""WeChat as an operator meets it: `xinyu doctor` against the API's own answers, `xinyu wechat menu`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.wechat_api import MENU_CREATE, SEND, STABLE_TOKEN
from tests.fakes.wechat_platform import FakeWechat
from tests.integration.test_doctor import Outcome, doctor, xinyu

ADDRESS = "https://xinyu.example"


def settings_of(wechat: FakeWechat, **more: str) -> dict[str, str]:
    return {
        "PUBLIC_URL": ADDRESS,
        "WECHAT_APP_ID": wechat.app_id,
        "WECHAT_APP_SECRET": wechat.secret,
        "WECHAT_TOKEN": wechat.token,
        "WECHAT_API_BASE_URL": wechat.base_url,
        **more,
    }


@pytest.mark.parametrize(
    ("delivery", "certified", "state", "says"),
    [
        ("auto", True, "ok", "may push"),
        ("auto", False, "ok", "may not push"),
        ("certified", True, "ok", "may push"),
        ("certified", False, "fail", "uncertified"),
        ("uncertified", False, "ok", "may not push"),
        ("uncertified", True, "warn", "auto"),
        ("quick", True, "warn", "auto"),
    ],
)
async def test_the_doctor_asks_the_api_whether_the_strategy_fits(
    tmp_path: Path, delivery: str, certified: bool, state: str, says: str
) -> None:
    async with FakeWechat(certified=certified) as wechat:
        outcome = await doctor(tmp_path, settings_of(wechat, WECHAT_DELIVERY=delivery))
        assert wechat.forced_refreshes == 0
        assert wechat.shown == []
    finding = outcome.one("wechat")
    assert finding["state"] == state
    assert says in finding["found"] + finding["advice"]
    assert f"{ADDRESS}/webhooks/wechat" in finding["found"]


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"WECHAT_APP_SECRET": "f" * 32}, "wrong_secret"),
        ({"WECHAT_APP_ID": "wxffffffffffffffff"}, "wrong_app_id"),
    ],
)
async def test_the_doctor_names_what_the_api_refuses(
    tmp_path: Path, wrong: dict[str, str], word: str
) -> None:
    async with FakeWechat() as wechat:
        outcome = await doctor(tmp_path, {**settings_of(wechat), **wrong})
    finding = outcome.one("wechat")
    assert finding["state"] == "fail"
    assert word in finding["found"]
    assert finding["advice"]


async def test_an_api_that_hangs_answers_html_or_is_not_on_the_list(tmp_path: Path) -> None:
    async with FakeWechat() as wechat:
        wechat.fail_next(STABLE_TOKEN, html=True)
        odd = await doctor(tmp_path, settings_of(wechat))
        wechat.fail_next(STABLE_TOKEN, errcode=40164)
        not_listed = await doctor(tmp_path, settings_of(wechat))
        wechat.hang()
        hanging = await doctor(tmp_path, settings_of(wechat))
    found = [outcome.one("wechat") for outcome in (odd, not_listed, hanging)]
    assert [finding["state"] for finding in found] == ["fail"] * 3
    assert [
        word in finding["found"]
        for word, finding in zip(("answers_oddly", "address_not_allowed", "timeout"), found, strict=True)
    ] == [True] * 3


async def test_without_a_secret_the_api_is_not_asked(tmp_path: Path) -> None:
    async with FakeWechat() as wechat:
        outcome = await doctor(tmp_path, settings_of(wechat, WECHAT_APP_SECRET=""))
        assert set(wechat.calls) <= {"/"}, "but for what time it is there"
    assert outcome.state("wechat") == "ok"


async def test_each_further_account_is_looked_at_and_a_broken_file_is_told(tmp_path: Path) -> None:
    accounts = tmp_path / "accounts.toml"
    accounts.write_text(
        '[[account]]\nname = "second"\napp_id = "wxfedcba9876543210"\ntoken = "second0token"\n',
        encoding="utf-8",
    )
    async with FakeWechat() as wechat:
        accounts.chmod(0o644)
        exposed = await doctor(tmp_path, settings_of(wechat, WECHAT_ACCOUNTS=str(accounts)))
        accounts.chmod(0o600)
        both = await doctor(tmp_path, settings_of(wechat, WECHAT_ACCOUNTS=str(accounts)))
        accounts.write_text('[[account]]\nname = "files"\napp_secret = "s3cret-of-mine"\n', encoding="utf-8")
        broken = await doctor(tmp_path, settings_of(wechat, WECHAT_ACCOUNTS=str(accounts)))
    assert exposed.state("wechat") == "warn"
    assert "chmod 600" in exposed.one("wechat")["advice"]
    assert [finding["state"] for finding in both.all("wechat")] == ["ok", "ok"]
    assert "/webhooks/wechat/second" in both.all("wechat")[1]["found"]
    problems = [finding["found"] for finding in broken.all("wechat")]
    assert all(any(key in problem for problem in problems) for key in ("name:", "app_id:", "token:"))
    assert "s3cret-of-mine" not in broken.output


# --- the menu -------------------------------------------------------------------------------------


async def menu(folder: Path, settings: dict[str, str], *arguments: str) -> Outcome:
    return await xinyu(folder, settings, "wechat", "menu", *arguments)


async def test_the_menu_is_applied_from_its_file(tmp_path: Path) -> None:
    async with FakeWechat() as wechat:
        ours = await menu(tmp_path, settings_of(wechat))
        assert ours.code == 0, ours.output
        assert wechat.menu is not None
        assert [button["name"] for button in wechat.menu["button"]] == ["接着聊聊", "我的", "帮助"]
        own = tmp_path / "menu.toml"
        own.write_text('[[button]]\nname = "说说"\nsays = "more"\n', encoding="utf-8")
        assert (await menu(tmp_path, settings_of(wechat), "--file", str(own))).code == 0
        assert wechat.menu == {"button": [{"type": "click", "name": "说说", "key": "more"}]}
        assert wechat.calls[MENU_CREATE] == 2


async def test_a_menu_that_cannot_be_is_told_before_anything_is_sent(tmp_path: Path) -> None:
    wrong = tmp_path / "menu.toml"
    wrong.write_text('[[button]]\nname = "一个很长很长的名字"\nsays = "跳舞"\n', encoding="utf-8")
    async with FakeWechat() as wechat:
        outcome = await menu(tmp_path, settings_of(wechat), "--file", str(wrong))
        assert not wechat.calls
    assert outcome.code == 2
    assert "name" in outcome.output
    assert "跳舞" in outcome.output
    assert "Traceback" not in outcome.output


async def test_an_account_that_may_not_have_a_menu_is_told_so(tmp_path: Path) -> None:
    async with FakeWechat(certified=False) as wechat:
        outcome = await menu(tmp_path, settings_of(wechat))
        assert wechat.calls[SEND] == 0
    assert outcome.code == 1
    assert "48001" in outcome.output
    nobody = await menu(tmp_path, {})
    assert nobody.code == 2
    assert "WECHAT_APP_ID" in nobody.output
