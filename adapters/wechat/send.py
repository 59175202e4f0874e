"""Pushing to a person by the customer-service message API: what certified accounts may, within 48 hours."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping
from datetime import timedelta

import structlog

from adapters.wechat.api import OF_THE_ACCOUNT, UNAUTHORIZED, ApiError, WechatApi
from adapters.wechat.files import FileLinks
from adapters.wechat.places import app_of, openid_of
from core.errors import DeliveryFailed, HeldBack, RecipientGone
from core.messages import Delivery, Media, MediaKind

log = structlog.get_logger()

ACCOUNT_WAIT = timedelta(minutes=5)
QUOTA_WAIT = timedelta(minutes=10)
UNKNOWN_WAIT = timedelta(seconds=5)
TOO_FAST_WAIT = timedelta(seconds=60)
TYPING_AFTER_SECONDS = 4.3
"""Before that the answer may still ride on the response."""
TYPING_LASTS_SECONDS = 14.0
"""The sign stays for 15 s, and must not be asked for again before (error 45081)."""
TYPING_GAP_SECONDS = 8.0
CHATS_LIMIT = 10_000
VOICE_BYTES = 2 * 1024 * 1024
VOICE_SECONDS = 60.0
IMAGE_BYTES = 10 * 1024 * 1024
_HELD = frozenset({"window_closed", "count_exhausted", "not_certified"})
_GONE = frozenset({"unknown_person", "not_following", "blocked"})
_NEVER = frozenset({40004, 40005, 40006, 40007, 40008, 40009, 44001, 44002, 44004, 45001, 45002})
"""The file's or the text's own fault."""


class WechatSender:
    """Implements core.ports.Sender for every account of this process."""

    def __init__(self, apis: Mapping[str, WechatApi], links: FileLinks) -> None:
        """`apis` by app id."""
        self._apis = apis
        self._links = links
        self._typing: OrderedDict[str, _Typing] = OrderedDict()

    async def send(self, delivery: Delivery) -> str | None:
        api = self._apis.get(app_of(delivery.chat_id))
        if api is None:  # its account is switched off: it waits until it is on again
            raise DeliveryFailed("account_off", retry_after=ACCOUNT_WAIT)
        try:
            if api.may_push is None:  # keep.py finds out; meanwhile it rides on responses
                raise DeliveryFailed("not_known_yet", retry_after=UNKNOWN_WAIT)
            if not api.may_push:
                raise HeldBack("no_push")
            if api.quota_used_up:
                raise DeliveryFailed("quota_exhausted", retry_after=QUOTA_WAIT)
            if api.is_away:  # it must not hold what could ride on a response
                raise DeliveryFailed("api_away", retry_after=api.away_for)
            await self._send(api, openid_of(delivery.chat_id), delivery)
        except ApiError as error:
            if error.code == UNAUTHORIZED:
                await api.note_unauthorized()
            raise translate(error) from error
        return None

    async def _send(self, api: WechatApi, openid: str, delivery: Delivery) -> None:
        media = delivery.segment.media
        kind = kind_of(media) if media is not None else None
        if media is not None and kind is not None:
            try:
                await api.send_media(openid, kind, await api.upload(kind, media.name, media.data))
                return
            except ApiError as error:
                if error.code not in _NEVER:
                    raise
                log.warning("wechat_media_refused", kind=kind, code=error.code)  # then as a link
        text = self._links.in_text(delivery)
        if text:
            await api.send_text(openid, text)

    async def show_typing(self, chat_id: str) -> None:
        """Shown when the response could not wait any longer, and again when the sign has gone."""
        api = self._apis.get(app_of(chat_id))
        if api is None or not api.may_push:
            return
        now = time.monotonic()
        typing = self._typing.get(chat_id)
        if typing is None or now - typing.asked_at > TYPING_GAP_SECONDS:
            typing = _Typing(now)
            self._typing[chat_id] = typing
            if len(self._typing) > CHATS_LIMIT:
                self._typing.popitem(last=False)
        typing.asked_at = now
        if now - typing.since < TYPING_AFTER_SECONDS or now - typing.shown_at < TYPING_LASTS_SECONDS:
            return
        typing.shown_at = now
        try:
            await api.show_typing(openid_of(chat_id))
        except ApiError as error:
            log.debug("typing_not_shown", reason=error.reason, code=error.code)

    async def show_preview(
        self, chat_id: str, preview_id: int, text: str, message_id: str | None
    ) -> str | None:
        return None  # nothing is shown half: WeChat has no edits

    async def may_manage(self, chat_id: str, user_id: str) -> bool:
        return False  # there are no groups


class _Typing:
    """The sign in one chat since a turn began."""

    def __init__(self, since: float) -> None:
        self.since = since
        self.asked_at = since
        self.shown_at = -TYPING_LASTS_SECONDS


def translate(error: ApiError) -> DeliveryFailed | HeldBack | RecipientGone:
    """What a failed call means for the delivery."""
    if error.reason in _HELD:
        return HeldBack(error.reason)
    if error.reason in _GONE:
        return RecipientGone(error.reason)
    if error.reason == "quota_exhausted":
        return DeliveryFailed(error.reason, retry_after=QUOTA_WAIT)
    if error.reason in OF_THE_ACCOUNT:
        return DeliveryFailed(error.reason, retry_after=ACCOUNT_WAIT)
    if error.reason == "too_fast":
        return DeliveryFailed(error.reason, retry_after=TOO_FAST_WAIT)
    return DeliveryFailed(f"{error.reason}_{error.code}", permanent=error.code in _NEVER)


def kind_of(media: Media) -> str | None:
    """As what the temporary-media upload takes it ("新增临时素材"); None for what it does not, which goes as a link."""
    data = media.data
    match media.kind:
        case MediaKind.PHOTO:
            known = data.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8"))
            return "image" if known and len(data) <= IMAGE_BYTES else None
        case MediaKind.VOICE:
            fits = len(data) <= VOICE_BYTES and (seconds := voice_seconds(data)) and seconds <= VOICE_SECONDS
            return "voice" if fits else None
    return None


_AMR = b"#!AMR\n"
_AMR_FRAME_BYTES = (13, 14, 16, 18, 20, 21, 27, 32, 6)
"""By a frame's type, its first byte with it; 20 ms each (RFC 4867, section 5.3; 3GPP TS 26.101)."""
_MP3_BITRATES = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_MP3_BITRATES_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_MP3_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}


def voice_seconds(data: bytes) -> float | None:
    """How long an AMR or MP3 recording is; None for anything else."""
    if data.startswith(_AMR):
        place, frames = len(_AMR), 0
        while place < len(data):
            kind = (data[place] >> 3) & 0x0F
            place += _AMR_FRAME_BYTES[kind] if kind < len(_AMR_FRAME_BYTES) else 1
            frames += 1
        return frames * 0.02
    return _mp3_seconds(data)


def _mp3_seconds(data: bytes) -> float | None:
    """Frame by frame (ISO 11172-3, section 2.4.2.3, layer III)."""
    place, seconds = 0, 0.0
    if data.startswith(b"ID3") and len(data) > 10:
        place = 10 + sum(
            (byte & 0x7F) << shift for byte, shift in zip(data[6:10], (21, 14, 7, 0), strict=True)
        )
    while place + 4 <= len(data):
        first, second, third = data[place], data[place + 1], data[place + 2]
        version, layer = (second >> 3) & 3, (second >> 1) & 3
        bitrate, rate = third >> 4, (third >> 2) & 3
        if first != 0xFF or second < 0xE0 or layer != 1 or version == 1 or not 0 < bitrate < 15 or rate == 3:
            break
        kbits = (_MP3_BITRATES if version == 3 else _MP3_BITRATES_2)[bitrate]
        samples, hertz = (1152 if version == 3 else 576), _MP3_RATES[version][rate]
        place += samples // 8 * kbits * 1000 // hertz + ((third >> 1) & 1)
        seconds += samples / hertz
    return seconds or None
