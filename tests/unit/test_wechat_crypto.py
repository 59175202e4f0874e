"""The envelope and the signatures against two that share no code with ours: tests/fakes/wechat_wire.py and, through
node, npm's wechat-crypto. And nobody learns from us why an envelope was refused."""

from __future__ import annotations

import base64
import json
import secrets
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.wechat.crypto import Envelope, Unreadable, is_signed, signature_of
from adapters.wechat.settings import WechatAccount
from adapters.wechat.xml import fields_of
from tests.fakes import wechat_wire as wire

ROOT = Path(__file__).parents[2]
VECTORS = json.loads((ROOT / "tests" / "data" / "wechat_crypto_vectors.json").read_text(encoding="utf-8"))
TOKEN, AES_KEY, APP_ID = "xinyu_token_0", "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG", "wx0123456789abcdef"
TIMESTAMP, NONCE = "1700000000", "486452656"
XML = "<xml><Content><![CDATA[睡不着，想找个人说说话。🌙]]></Content></xml>"


def account(token: str = TOKEN, aes_key: str = AES_KEY, app_id: str = APP_ID) -> WechatAccount:
    return WechatAccount(name="", app_id=app_id, token=token, encoding_aes_key=aes_key)


OURS, THEIRS = Envelope(account()), wire.Envelope(TOKEN, AES_KEY, APP_ID)

keys = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789", min_size=43, max_size=43)
app_ids = st.from_regex(r"wx[0-9a-f]{6,30}", fullmatch=True)


# --- right envelopes ------------------------------------------------------------------------


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: str(vector["name"]))
def test_what_another_implementation_sealed_is_opened(vector: dict[str, str]) -> None:
    """By npm wechat-crypto 0.0.2."""
    envelope = Envelope(account(vector["token"], vector["aes_key"], vector["app_id"]))
    signed = (vector["token"], vector["timestamp"], vector["nonce"], vector["encrypt"])
    assert is_signed(vector["signature"], *signed)
    assert envelope.open(vector["encrypt"]) == vector["xml"]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: str(vector["name"]))
def test_another_implementation_opens_what_we_sealed(vector: dict[str, str]) -> None:
    envelope = Envelope(account(vector["token"], vector["aes_key"], vector["app_id"]))
    sealed = envelope.seal(vector["xml"], vector["timestamp"], vector["nonce"])
    theirs = wire.Envelope(vector["token"], vector["aes_key"], vector["app_id"])
    assert theirs.open_reply(sealed.encode()).decode() == vector["xml"]


@given(st.text(), keys, app_ids)
def test_whatever_they_seal_we_open(xml: str, aes_key: str, app_id: str) -> None:
    theirs = wire.Envelope(TOKEN, aes_key, app_id)
    assert Envelope(account(aes_key=aes_key, app_id=app_id)).open(theirs.encrypt(xml)) == xml


@given(
    st.text(), keys, app_ids, st.integers(0, 2**31 - 1), st.from_regex(r"[0-9a-zA-Z]{1,20}", fullmatch=True)
)
def test_whatever_we_seal_they_open(xml: str, aes_key: str, app_id: str, at: int, nonce: str) -> None:
    sealed = Envelope(account(aes_key=aes_key, app_id=app_id)).seal(xml, str(at), nonce)
    assert wire.Envelope(TOKEN, aes_key, app_id).open_reply(sealed.encode()).decode() == xml


def test_no_two_envelopes_are_alike() -> None:
    assert OURS.seal(XML, TIMESTAMP, NONCE) != OURS.seal(XML, TIMESTAMP, NONCE)


def test_a_key_with_the_signs_of_base64_works() -> None:
    """The settings page takes letters and digits; wechat-crypto and older accounts take all of base64."""
    aes_key = "+/" + AES_KEY[2:]
    envelope = Envelope(account(aes_key=aes_key))
    assert envelope.open(fields_of(envelope.seal(XML, TIMESTAMP, NONCE))["Encrypt"]) == XML


# --- wrong ones -----------------------------------------------------------------------------


def framed(content: bytes, app_id: str = APP_ID, length: int | None = None) -> bytes:
    """What is encrypted, before its padding."""
    told = len(content) if length is None else length
    return secrets.token_bytes(16) + told.to_bytes(4, "big") + content + app_id.encode()


def padded(plain: bytes) -> bytes:
    missing = 32 - len(plain) % 32
    return plain + bytes([missing]) * missing


def encrypted(blocks: bytes, envelope: wire.Envelope = THEIRS) -> str:
    encryptor = envelope.cipher().encryptor()
    return base64.b64encode(encryptor.update(blocks) + encryptor.finalize()).decode()


def with_last_byte(byte: int, size: int = 40) -> str:
    plain = padded(framed(b"x" * size))
    return encrypted(plain[:-1] + bytes([byte]))


WRONG: dict[str, Callable[[], str]] = {
    "nothing": lambda: "",
    "no base64": lambda: "这不是base64" * 20,
    "base64 without its end": lambda: THEIRS.encrypt(XML)[:-1],
    "a sign that base64 has not": lambda: "-" + THEIRS.encrypt(XML)[1:],
    "a blank in the base64": lambda: THEIRS.encrypt(XML)[:8] + " " + THEIRS.encrypt(XML)[8:],
    "half a block": lambda: base64.b64encode(base64.b64decode(THEIRS.encrypt(XML))[:-16]).decode(),
    "part of a block": lambda: base64.b64encode(base64.b64decode(THEIRS.encrypt(XML))[:-5]).decode(),
    "no padding": lambda: with_last_byte(0),
    "padding beyond a block": lambda: with_last_byte(33),
    "much padding": lambda: with_last_byte(255),
    "padding that is not alike": lambda: encrypted(padded(framed(b"x" * 40))[:-2] + b"\1\2"),
    "another app's id": lambda: encrypted(padded(framed(b"x", "wx5823bf96d3bd56c7"))),
    "no app id": lambda: encrypted(padded(framed(b"x", ""))),
    "an app id and more": lambda: encrypted(padded(framed(b"x", APP_ID + "0"))),
    "less than an app id": lambda: encrypted(padded(framed(b"x", APP_ID[:-1]))),
    "a length too long": lambda: encrypted(padded(framed(b"x", length=2**32 - 1))),
    "a length too short": lambda: encrypted(padded(framed(b"xyz", length=2))),
    "no UTF-8": lambda: encrypted(padded(framed(b"\xff\xfe<xml>"))),
    "no room for a length": lambda: encrypted(bytes(14) + b"\x12" * 18),
    "another key": lambda: wire.Envelope(TOKEN, AES_KEY[::-1], APP_ID).encrypt(XML),
}


@pytest.mark.parametrize("kind", WRONG)
def test_an_envelope_with_a_fault_is_refused_without_a_word(kind: str) -> None:
    with pytest.raises(Unreadable) as refused:
        OURS.open(WRONG[kind]())
    assert (refused.value.args, refused.value.__cause__, refused.value.__context__) == ((), None, None)


@given(st.one_of(st.text(), st.binary(max_size=200).map(lambda data: base64.b64encode(data).decode())))
def test_no_envelope_does_more_than_being_refused(sealed: str) -> None:
    with pytest.raises(Unreadable):
        OURS.open(sealed)


@given(st.binary(max_size=5).map(lambda ending: framed(b"<xml/>") + ending), st.integers(0, 255))
def test_whatever_the_padding_only_the_right_one_is_taken(plain: bytes, byte: int) -> None:
    missing = 32 - len(plain) % 32
    blocks = plain + bytes([byte]) * missing
    if byte == missing and plain.endswith(APP_ID.encode()):
        assert OURS.open(encrypted(blocks)) == "<xml/>"
    else:
        with pytest.raises(Unreadable):
            OURS.open(encrypted(blocks))


def test_each_fault_takes_about_the_same_time() -> None:
    """Each as long as the others, so that only the kind of the fault can tell; a step left out would."""
    size = 32 * 8192
    content = b"x" * (size - 20 - len(APP_ID) - 5)
    right = padded(framed(content))
    assert len(right) == size
    kinds = {
        "padding": encrypted(right[:-1] + b"\0"),
        "app id": encrypted(padded(framed(content, APP_ID[::-1]))),
        "length": encrypted(padded(framed(content, length=2**31))),
        "UTF-8": encrypted(padded(framed(b"\xff" + content[1:]))),
        "half a block": base64.b64encode(base64.b64decode(encrypted(right))[:-16]).decode(),
        "base64 at its beginning": "-" + encrypted(right)[1:],
        "base64 at its end": encrypted(right)[:-1] + "-",
    }
    took: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(60):
        for kind, sealed in kinds.items():
            began = time.perf_counter()
            with pytest.raises(Unreadable):
                OURS.open(sealed)
            took[kind].append(time.perf_counter() - began)
    medians = {kind: statistics.median(times) for kind, times in took.items()}
    assert max(medians.values()) < 2.5 * min(medians.values()), medians


# --- signatures -----------------------------------------------------------------------------


@given(st.lists(st.text(max_size=20), min_size=1, max_size=4))
def test_signatures_are_those_of_the_sorted_parts(parts: list[str]) -> None:
    assert is_signed(signature_of(*parts), *reversed(parts))
    assert not is_signed(signature_of(*parts, "x"), *parts)


def test_the_signature_that_wechat_documents() -> None:
    """「消息推送」 gives it."""
    assert is_signed("f464b24fc39322e44b38aa78f5edd27bd1441696", "AAAAA", "1714036504", "1514711492")


as_handed_over = st.one_of(st.text(), st.binary().map(lambda raw: raw.decode("utf-8", "surrogateescape")))
"""What aiohttp makes of a query: bytes that are no UTF-8 are surrogates."""


@given(as_handed_over, as_handed_over)
def test_no_signature_does_more_than_being_wrong(signature: str, nonce: str) -> None:
    assert not is_signed(signature, TOKEN, TIMESTAMP, nonce)


# --- npm's wechat-crypto itself ---------------------------------------------------------------

PACKAGE = ROOT / ".cache" / "wechat-crypto"
SCRIPT = """
const WXBizMsgCrypt = require('wechat-crypto');
const asked = JSON.parse(require('fs').readFileSync(0, 'utf8'));
console.log(JSON.stringify(asked.map(one => {
  const crypt = new WXBizMsgCrypt(one.token, one.aes_key, one.app_id);
  const encrypted = crypt.encrypt(one.xml);
  return {
    opened: crypt.decrypt(one.sealed),
    signature: crypt.getSignature(one.timestamp, one.nonce, one.sealed),
    encrypted: encrypted,
    encrypted_signature: crypt.getSignature(one.timestamp, one.nonce, encrypted),
  };
})));
"""


def wechat_crypto(asked: list[dict[str, str]]) -> list[dict[str, Any]]:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("needs node and npm")
    if not (PACKAGE / "node_modules" / "wechat-crypto").exists():
        PACKAGE.mkdir(parents=True, exist_ok=True)
        wanted = ["--no-save", "--omit=dev", "--prefix", str(PACKAGE), "wechat-crypto@0.0.2"]
        try:
            subprocess.run([npm, "install", *wanted], check=True, capture_output=True, timeout=100)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            pytest.skip("npm cannot install wechat-crypto@0.0.2 here")
    told = subprocess.run(
        [node, "-e", SCRIPT],
        cwd=PACKAGE,
        input=json.dumps(asked).encode(),
        capture_output=True,
        check=True,
        timeout=60,
    )
    answered: list[dict[str, Any]] = json.loads(told.stdout)
    return answered


@pytest.mark.slow
def test_npm_wechat_crypto_and_we_open_each_others_envelopes() -> None:
    asked = []
    for number in range(200):
        token, app_id = f"token_{number}", f"wx{secrets.token_hex(8)}"
        aes_key = base64.b64encode(secrets.token_bytes(32)).decode()[:43]
        xml = XML * (number % 7) + "心" * number
        sealed = Envelope(account(token, aes_key, app_id)).seal(xml, TIMESTAMP, str(number))
        asked.append(
            {
                "token": token,
                "aes_key": aes_key,
                "app_id": app_id,
                "xml": xml,
                "timestamp": TIMESTAMP,
                "nonce": str(number),
                "sealed": fields_of(sealed)["Encrypt"],
                "signature": fields_of(sealed)["MsgSignature"],
            }
        )
    for one, theirs in zip(asked, wechat_crypto(asked), strict=True):
        assert theirs["opened"] == {"message": one["xml"], "id": one["app_id"]}
        assert theirs["signature"] == one["signature"]
        signed = (one["token"], one["timestamp"], one["nonce"], theirs["encrypted"])
        assert is_signed(theirs["encrypted_signature"], *signed)
        ours = Envelope(account(one["token"], one["aes_key"], one["app_id"]))
        assert ours.open(theirs["encrypted"]) == one["xml"]
