"""Signatures, and the envelope of the compatible and safe modes.

developers.weixin.qq.com, "消息加解密说明" (Message encryption): AES-256-CBC under the EncodingAESKey, whose first half
is the IV; inside 16 random bytes, the XML's length (4 bytes, network order), the XML, the app id; PKCS#7 to 32 bytes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re

from wechatpy.crypto.base import WeChatCipher
from wechatpy.crypto.pkcs7 import PKCS7Encoder

from adapters.wechat.settings import WechatAccount

AES_KEY = re.compile(r"[A-Za-z0-9+/]{43}")
BLOCK = 32
_HEAD = 16 + 4


class Unreadable(ValueError):
    """An envelope that is not what its account's WeChat sends. It says no more: nobody is to learn why."""


def signature_of(*parts: str) -> str:
    """SHA-1 of the sorted parts (the account's token among them), as WeChat signs."""
    return hashlib.sha1(
        "".join(sorted(parts)).encode(errors="surrogateescape"), usedforsecurity=False
    ).hexdigest()


def is_signed(signature: str, *parts: str) -> bool:
    """In constant time."""
    return hmac.compare_digest(signature.encode(errors="surrogateescape"), signature_of(*parts).encode())


class Envelope:
    """Opens and seals messages of an account that has an EncodingAESKey."""

    def __init__(self, account: WechatAccount) -> None:
        self._key = base64.b64decode(account.encoding_aes_key + "=")
        self._app_id = account.app_id.encode()
        self._token = account.token

    def open(self, encrypted: str) -> str:
        """The XML inside. Raises Unreadable.

        Whatever is wrong, all steps are taken: how long it took says nothing either.
        """
        sealed, right = _decoded(encrypted)
        plain = WeChatCipher(self._key).decrypt(sealed)
        padding = plain[-1]
        right &= 1 <= padding <= BLOCK
        right &= hmac.compare_digest(plain[-BLOCK:][-padding:], bytes([padding]) * min(padding, BLOCK))
        length = int.from_bytes(plain[16:_HEAD], "big")
        content = plain[_HEAD : len(plain) - padding]
        right &= length <= len(content)
        right &= hmac.compare_digest(content[length:], self._app_id)
        try:
            xml = str(content[:length], "utf-8")
        except UnicodeDecodeError:
            xml, right = "", False
        if not right:
            raise Unreadable
        return xml

    def seal(self, xml: str, timestamp: str, nonce: str) -> str:
        """The XML of the response that holds a reply."""
        body = xml.encode()
        framed = os.urandom(16) + len(body).to_bytes(4, "big") + body + self._app_id
        encrypted = base64.b64encode(WeChatCipher(self._key).encrypt(PKCS7Encoder.encode(framed))).decode()
        signature = signature_of(self._token, timestamp, nonce, encrypted)
        return (
            f"<xml><Encrypt><![CDATA[{encrypted}]]></Encrypt>"
            f"<MsgSignature><![CDATA[{signature}]]></MsgSignature>"
            f"<TimeStamp>{timestamp}</TimeStamp><Nonce><![CDATA[{nonce}]]></Nonce></xml>"
        )


def _decoded(encrypted: str) -> tuple[bytes, bool]:
    """The ciphertext, or as much of nothing in its place."""
    try:
        sealed = base64.b64decode(encrypted, validate=True)
    except (binascii.Error, ValueError):
        sealed = base64.b64decode(b"A" * (len(encrypted) // 4 * 4))[:-1]  # as much work, and still no block
    if sealed and len(sealed) % BLOCK == 0:
        return sealed, True
    return bytes(max(BLOCK, len(encrypted) * 3 // 4 // BLOCK * BLOCK)), False
