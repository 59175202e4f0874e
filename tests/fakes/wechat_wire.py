"""What goes over the wire between WeChat and an Official Account's webhook, as WeChat writes and reads it.

Written from developers.weixin.qq.com alone: 「消息推送」 (signature), 「消息加解密说明」 (the envelope),
「接收普通消息」, 「接收事件推送」 and 「自定义菜单事件推送」 (what is pushed), 「被动回复用户消息」 (the answers).
The cryptography is its own, so that it checks ours. What WeChat might not take is not forgiven: it raises `Illegal`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import secrets
from dataclasses import dataclass
from typing import Literal
from xml.etree import ElementTree

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

TEXT_BYTES = 2048
"""Of UTF-8 in one text, as a reply or through the API."""
PADDED_TO = 32
TROUBLE = "该公众号提供的服务出现故障，请稍后再试"
"""What the phone shows where the webhook did not answer, or not legally."""

Fields = tuple[tuple[str, "str | int | float"], ...]
"""Elements in the order in which WeChat writes them: strings as CDATA, numbers plain."""
ReplyKind = Literal["text", "image", "voice"]


class Illegal(Exception):
    """An answer that WeChat does not take: the person sees the trouble notice."""


def signature(token: str, timestamp: str, nonce: str, encrypted: str = "") -> str:
    """The URL's `signature`; with the ciphertext of a message, its `msg_signature`."""
    parts = [token, timestamp, nonce, *([encrypted] if encrypted else [])]
    return hashlib.sha1("".join(sorted(parts)).encode(), usedforsecurity=False).hexdigest()


# --- the envelope ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Envelope:
    """One account's message encryption: AES-256-CBC of 16 random bytes, the length, the message, the app id."""

    token: str
    aes_key: str
    """EncodingAESKey: 43 characters of base64."""
    app_id: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9]{43}", self.aes_key):
            raise ValueError("an EncodingAESKey has 43 letters and digits")

    @property
    def key(self) -> bytes:
        return base64.b64decode(self.aes_key + "=")

    def encrypt(self, message: str, salt: bytes | None = None) -> str:
        text = message.encode()
        salt = secrets.token_bytes(16) if salt is None else salt
        plain = salt + len(text).to_bytes(4, "big") + text + self.app_id.encode()
        missing = PADDED_TO - len(plain) % PADDED_TO
        encryptor = self.cipher().encryptor()
        sealed = encryptor.update(plain + bytes([missing]) * missing) + encryptor.finalize()
        return base64.b64encode(sealed).decode()

    def decrypt(self, encrypted: str) -> str:
        """The message in it, if every byte is as it must be."""
        try:
            sealed = base64.b64decode(encrypted, validate=True)
        except binascii.Error:
            raise Illegal("Encrypt is not base64") from None
        if not sealed or len(sealed) % PADDED_TO:
            raise Illegal("the ciphertext is not made of blocks of 32 bytes")
        decryptor = self.cipher().decryptor()
        padded = decryptor.update(sealed) + decryptor.finalize()
        missing = padded[-1]
        if not 1 <= missing <= PADDED_TO or padded[-missing:] != bytes([missing]) * missing:
            raise Illegal("wrong padding")
        plain = padded[16:-missing]
        end = 4 + int.from_bytes(plain[:4], "big")
        if len(plain) < 4 or end > len(plain):
            raise Illegal("wrong length")
        if plain[end:] != self.app_id.encode():
            raise Illegal("wrong app id")
        return _utf8(plain[4:end])

    def sign(self, timestamp: str, nonce: str, encrypted: str) -> str:
        return signature(self.token, timestamp, nonce, encrypted)

    def seal_reply(self, message: str, timestamp: str, nonce: str) -> bytes:
        """A reply in its envelope, as an account's server writes it."""
        encrypted = self.encrypt(message)
        return _xml(
            (
                ("Encrypt", encrypted),
                ("MsgSignature", self.sign(timestamp, nonce, encrypted)),
                ("TimeStamp", int(timestamp)),
                ("Nonce", nonce),
            )
        )

    def open_reply(self, body: bytes) -> bytes:
        """What is in an encrypted reply, its signature and each element checked."""
        found = _elements(body)
        if set(found) != {"Encrypt", "MsgSignature", "TimeStamp", "Nonce"}:
            raise Illegal(f"an encrypted reply has other elements than {sorted(found)}")
        timestamp, nonce, encrypted = (_text(found[name]) for name in ("TimeStamp", "Nonce", "Encrypt"))
        if not re.fullmatch(r"[0-9]{1,10}", timestamp) or not nonce:
            raise Illegal("TimeStamp or Nonce is none")
        if _text(found["MsgSignature"]) != self.sign(timestamp, nonce, encrypted):
            raise Illegal("wrong MsgSignature")
        return self.decrypt(encrypted).encode()

    def cipher(self) -> Cipher[modes.CBC]:
        return Cipher(algorithms.AES(self.key), modes.CBC(self.key[:16]))


# --- what WeChat pushes ---------------------------------------------------------------------


def push(original_id: str, openid: str, at: int, fields: Fields, msg_id: str = "") -> str:
    """The XML of a message (with its MsgId) or an event (which has none)."""
    whole: Fields = (
        ("ToUserName", original_id),
        ("FromUserName", openid),
        ("CreateTime", at),
        *fields,
        *((("MsgId", int(msg_id)),) if msg_id else ()),
    )
    return _xml(whole).decode()


def sealed(original_id: str, encrypted: str, plain: str = "") -> str:
    """A push's body in safe mode, or beside its plain elements in compatible mode."""
    if plain:
        encrypt = f"<Encrypt><![CDATA[{encrypted}]]></Encrypt>\n</xml>"
        return plain.removesuffix("</xml>") + encrypt
    return _xml((("ToUserName", original_id), ("Encrypt", encrypted))).decode()


def text(content: str, menu_id: str = "") -> Fields:
    """`menu_id`: of the menu message, or the `weixin://bizmsgmenu` link, that was tapped to send it."""
    menu: Fields = (("bizmsgmenuid", menu_id),) if menu_id else ()
    return (("MsgType", "text"), ("Content", content), *menu)


def image(picture_url: str, media_id: str) -> Fields:
    return (("MsgType", "image"), ("PicUrl", picture_url), ("MediaId", media_id))


def voice(media_id: str, recognition: str | None = None) -> Fields:
    """`recognition`: what was heard; None where the account has recognition switched off (no element)."""
    heard: Fields = () if recognition is None else (("Recognition", recognition),)
    return (
        ("MsgType", "voice"),
        ("MediaId", media_id),
        ("Format", "amr"),
        ("MediaId16K", f"{media_id}-16k"),
        *heard,
    )


def video(media_id: str, thumb_id: str, *, short: bool = False) -> Fields:
    kind = "shortvideo" if short else "video"
    return (("MsgType", kind), ("MediaId", media_id), ("ThumbMediaId", thumb_id))


def location(latitude: float, longitude: float, label: str, scale: int = 20) -> Fields:
    return (
        ("MsgType", "location"),
        ("Location_X", latitude),
        ("Location_Y", longitude),
        ("Scale", scale),
        ("Label", label),
    )


def link(title: str, description: str, url: str) -> Fields:
    return (("MsgType", "link"), ("Title", title), ("Description", description), ("Url", url))


def event(name: str, key: str | None = None, ticket: str = "", more: Fields = ()) -> Fields:
    """subscribe (`EventKey` empty, or qrscene_… with a `Ticket`), unsubscribe, SCAN, CLICK, VIEW, anything."""
    keyed: Fields = () if key is None else (("EventKey", key),)
    ticketed: Fields = (("Ticket", ticket),) if ticket else ()
    return (("MsgType", "event"), ("Event", name), *keyed, *ticketed, *more)


def location_event(latitude: float, longitude: float, precision: float) -> Fields:
    where: Fields = (("Latitude", latitude), ("Longitude", longitude), ("Precision", precision))
    return event("LOCATION", more=where)


def _xml(fields: Fields) -> bytes:
    lines = [
        f"<{name}>{_cdata(value) if isinstance(value, str) else value}</{name}>" for name, value in fields
    ]
    return "\n".join(("<xml>" + lines[0], *lines[1:], "</xml>")).encode()


def _cdata(value: str) -> str:
    return "<![CDATA[" + value.replace("]]>", "]]]]><![CDATA[>") + "]]>"


# --- what the account answers ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reply:
    """A legal passive reply."""

    kind: ReplyKind
    text: str = ""
    media_id: str = ""


def reply(body: bytes, openid: str, original_id: str) -> Reply | None:
    """The passive reply in a plain answer; None for `success` and for an empty body, which show nothing."""
    if body in (b"", b"success"):
        return None
    found = _elements(body)
    kind = _text(found.pop("MsgType", None))
    if _text(found.pop("ToUserName", None)) != openid:
        raise Illegal("ToUserName is not the person's openid")
    if _text(found.pop("FromUserName", None)) != original_id:
        raise Illegal("FromUserName is not the account's original id")
    if not re.fullmatch(r"[0-9]{1,10}", _text(found.pop("CreateTime", None))):
        raise Illegal("CreateTime is no whole number of seconds")
    if kind == "text":
        said = _text(found.pop("Content", None))
        if not said.strip():
            raise Illegal("Content is empty")
        if len(said.encode()) > TEXT_BYTES:
            raise Illegal(f"Content has {len(said.encode())} bytes")
        answer = Reply("text", text=said)
    elif kind == "image":
        answer = Reply("image", media_id=_media_id(found.pop("Image", None)))
    elif kind == "voice":
        answer = Reply("voice", media_id=_media_id(found.pop("Voice", None)))
    else:
        raise Illegal(f"MsgType {kind!r}")
    if found:
        raise Illegal(f"a {kind} has no {sorted(found)}")
    return answer


def _elements(body: bytes) -> dict[str, ElementTree.Element]:
    """The children of the one <xml>, each there once."""
    written = _utf8(body)
    if not written.startswith("<xml>") or not written.rstrip("\n").endswith("</xml>"):
        raise Illegal("not exactly one <xml>")
    try:
        root = ElementTree.fromstring(written)
    except ElementTree.ParseError as problem:
        raise Illegal(f"no well-formed XML: {problem}") from None
    if (root.text or "").strip() or any(child.attrib or (child.tail or "").strip() for child in root):
        raise Illegal("text or attributes between the elements")
    found = {child.tag: child for child in root}
    if len(found) != len(root):
        raise Illegal("an element is there twice")
    return found


def _text(element: ElementTree.Element | None) -> str:
    if element is None:
        raise Illegal("an element is missing")
    if len(element):
        raise Illegal(f"elements in {element.tag}")
    return element.text or ""


def _media_id(element: ElementTree.Element | None) -> str:
    if element is None or [child.tag for child in element] != ["MediaId"]:
        raise Illegal("expected exactly one MediaId")
    media_id = _text(element[0])
    if not media_id:
        raise Illegal("MediaId is empty")
    return media_id


def _utf8(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise Illegal("not UTF-8") from None
