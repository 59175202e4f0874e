"""How long a recording is and as what WeChat takes a file, told from its bytes: AMR and MP3 made by the book."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.wechat.send import kind_of, voice_seconds
from core.messages import Media, MediaKind

AMR_BITS = (95, 103, 118, 134, 148, 159, 204, 244, 39)
"""Of one 20 ms frame, by its type: 4.75 to 12.2 kbit/s, then comfort noise (3GPP TS 26.101, table 2)."""
NO_DATA = 15
MIB = 1024 * 1024


def amr_frame(kind: int) -> bytes:
    """A frame as a file holds it: its header, its bits in whole bytes (RFC 4867, section 5.3)."""
    bits = AMR_BITS[kind] if kind < len(AMR_BITS) else 0
    return bytes([kind << 3 | 4]) + b"\xa5" * -(-bits // 8)


def amr(*kinds: int) -> bytes:
    return b"#!AMR\n" + b"".join(map(amr_frame, kinds))


VERSIONS = {3: (1152, (44100, 48000, 32000)), 2: (576, (22050, 24000, 16000)), 0: (576, (11025, 12000, 8000))}
"""MPEG-1, 2 and 2.5 by their two bits: samples a frame, and rates."""
KBITS_1 = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
KBITS_2 = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)


def mp3_frame(
    version: int = 3, bitrate: int = 9, rate: int = 0, *, padded: bool = False, crc: bool = False
) -> bytes:
    """A layer III frame of silence: its size is samples / 8 · bit rate / sample rate, in whole bytes."""
    samples, rates = VERSIONS[version]
    kbits = (KBITS_1 if version == 3 else KBITS_2)[bitrate - 1]
    size = int(samples / 8 * kbits * 1000 / rates[rate]) + padded
    head = bytes(
        [0xFF, 0xE0 | version << 3 | 1 << 1 | (not crc), bitrate << 4 | rate << 2 | padded << 1, 0xC4]
    )
    return head.ljust(size, b"\0")


def id3(size: int) -> bytes:
    """A tag before the sound, its size in four times seven bits."""
    return b"ID3\x04\0\0" + bytes((size >> shift) & 0x7F for shift in (21, 14, 7, 0)) + b"\xff" * size


def mp3(seconds: float) -> bytes:
    return mp3_frame() * round(seconds * 44100 / 1152)


def voice(data: bytes) -> Media:
    return Media(MediaKind.VOICE, "voice", data)


# --- AMR ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*range(9), NO_DATA])
def test_each_amr_frame_is_20_ms_whatever_its_rate(kind: int) -> None:
    assert voice_seconds(amr(*[kind] * 150)) == pytest.approx(3.0)


@given(st.lists(st.sampled_from([*range(9), NO_DATA]), max_size=300))
def test_amr_of_changing_rates(kinds: list[int]) -> None:
    assert voice_seconds(amr(*kinds)) == pytest.approx(len(kinds) * 0.02)


def test_amr_goes_up_to_a_minute_and_not_further() -> None:
    assert kind_of(voice(amr(*[7] * 3000))) == "voice"
    assert kind_of(voice(amr(*[7] * 3001))) is None
    assert kind_of(voice(amr(*[0] * 3001))) is None
    assert kind_of(voice(amr())) is None, "nothing is in it"


# --- MP3 ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("rate", range(3))
def test_mp3_of_every_rate_and_version(version: int, rate: int) -> None:
    samples, rates = VERSIONS[version]
    for bitrate in range(1, 15):
        for padded in (False, True):
            frame = mp3_frame(version, bitrate, rate, padded=padded, crc=padded)
            assert voice_seconds(frame * 40) == pytest.approx(40 * samples / rates[rate])


@given(
    frames=st.lists(st.tuples(st.integers(1, 14), st.booleans()), min_size=1, max_size=60),
    tag=st.one_of(st.none(), st.integers(0, 3000)),
    end=st.sampled_from([b"", b"TAG".ljust(128, b"\0"), b"\0" * 500]),
)
def test_mp3_of_a_changing_bit_rate_with_tags_around_it(
    frames: list[tuple[int, bool]], tag: int | None, end: bytes
) -> None:
    sound = b"".join(mp3_frame(bitrate=bitrate, padded=padded) for bitrate, padded in frames)
    data = (b"" if tag is None else id3(tag)) + sound + end
    assert voice_seconds(data) == pytest.approx(len(frames) * 1152 / 44100)


def test_a_large_picture_in_the_tag_is_passed_over() -> None:
    assert voice_seconds(id3(300_000) + mp3(2)) == pytest.approx(2.0, abs=0.03)


def test_mp3_goes_up_to_a_minute_and_to_two_mebibytes() -> None:
    assert kind_of(voice(mp3(59.9))) == "voice"
    assert kind_of(voice(mp3(60.1))) is None
    assert kind_of(voice(id3(2 * MIB) + mp3(10))) is None
    loud = mp3_frame(bitrate=14)  # 320 kbit/s
    assert kind_of(voice(loud * (2 * MIB // len(loud)))) == "voice"
    assert kind_of(voice(loud * (2 * MIB // len(loud) + 1))) is None


# --- anything else --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"#!AMR",
        b"#!AMR-WB\n" + b"\x04" * 600,
        b"OggS" + b"\0" * 600,
        b"RIFF\x24\x08\0\0WAVEfmt " + b"\0" * 600,
        b"ID3",
        id3(0),
        id3(100),
        id3(5000)[:900],
        b"ID3\x04\0\0\x7f\x7f\x7f\x7f",
        b"\xff\xfb",
        b"\xff\xfb\x00\0" + b"\0" * 600,  # free bit rate
        b"\xff\xfb\xf0\0" + b"\0" * 600,  # no such bit rate
        b"\xff\xfb\x9c\0" + b"\0" * 600,  # no such sample rate
        b"\xff\xeb\x90\0" + b"\0" * 600,  # no such version
        b"\xff\xfd\x90\0" + b"\0" * 600,  # layer II
        b"\xff\xd8\xff\xe0" + b"\0" * 600,  # a JPEG
    ],
)
def test_what_is_neither_is_no_voice(data: bytes) -> None:
    assert not voice_seconds(data)
    assert kind_of(voice(data)) is None


@given(st.sampled_from([b"", b"#!AMR\n", b"ID3\x04\0\0", b"\xff\xfb\x90\xc4"]), st.binary(max_size=600))
def test_any_bytes_are_looked_at_without_harm(head: bytes, data: bytes) -> None:
    found = voice_seconds(head + data)
    assert found is None or 0 <= found < 60


@pytest.mark.parametrize(
    "data", [b"#!AMR\n" + b"\x7c" * (2 * MIB), mp3_frame(0, 1, 1) * (2 * MIB // len(mp3_frame(0, 1, 1)))]
)
def test_the_smallest_frames_take_no_long_look(data: bytes) -> None:
    began = time.process_time()
    assert voice_seconds(data)
    assert time.process_time() - began < 5.0


# --- other media ----------------------------------------------------------------------------------

PNG, JPEG, GIF = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"GIF89a"


@pytest.mark.parametrize("head", [PNG, JPEG, GIF])
def test_pictures_go_as_pictures_up_to_ten_mebibytes(head: bytes) -> None:
    assert kind_of(Media(MediaKind.PHOTO, "x", head.ljust(10 * MIB, b"\0"))) == "image"
    assert kind_of(Media(MediaKind.PHOTO, "x", head.ljust(10 * MIB + 1, b"\0"))) is None


def test_what_is_no_picture_or_a_file_goes_as_a_link() -> None:
    for data in (b"", b"RIFF\0\0\0\0WEBP", b"<svg>", b"\x89PNG"):
        assert kind_of(Media(MediaKind.PHOTO, "x.png", data)) is None
    for data in (PNG, amr(*[7] * 50), mp3(2), b"{}"):
        assert kind_of(Media(MediaKind.DOCUMENT, "x", data)) is None
    assert kind_of(voice(PNG)) is None
    assert kind_of(Media(MediaKind.PHOTO, "x", mp3(2))) is None
