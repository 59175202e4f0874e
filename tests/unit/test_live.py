"""Answers while they come into being: whoever watches, however slowly, ends with the whole text."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from core.live import LiveReplies, LiveReply, Piece, Place
from core.messages import ChatMessage, Platform, Role, Source
from core.ports import Outcome

EVENT = (Platform.WEB, "event")


def outcome(turn_id: int, text: str) -> Outcome:
    reply = ChatMessage(1, turn_id, Role.ASSISTANT, text, Source.MODEL, datetime.now(UTC))
    return Outcome(turn_id, 1, reply, deferred=False)


class Reader:
    """A client that keeps what it has read as the protocol says: a piece voids what stood from its offset on."""

    def __init__(self) -> None:
        self.place = Place()
        self.text = ""

    def read(self, reply: LiveReply) -> None:
        piece = reply.after(self.place)
        if piece is None:
            return
        kept = self.text if piece.turn_id == self.place.turn_id else ""
        assert piece.offset <= len(kept)
        self.text = kept[: piece.offset] + piece.text
        self.place = Place(piece.turn_id, piece.offset + len(piece.text))


@given(
    st.lists(st.text(max_size=5) | st.just(None), max_size=20),
    st.lists(st.booleans(), min_size=30, max_size=30),
    st.booleans(),
)
def test_a_reader_of_any_speed_ends_with_the_answer(
    pieces: list[str | None], reads: list[bool], by_another: bool
) -> None:
    reply, slow, keen = LiveReply(), Reader(), Reader()
    turn_id = 1
    reply.begin(turn_id)
    for piece, looks in zip(pieces, reads, strict=False):
        if piece is None:
            turn_id += 1
            reply.begin(turn_id)
        else:
            reply.append(piece)
        keen.read(reply)
        assert keen.text == reply.text
        if looks:
            slow.read(reply)
            assert slow.text == reply.text
    final = "另一个回答" if by_another else reply.text
    reply.finish(outcome(turn_id + by_another, final))
    for reader in (slow, keen, Reader()):
        reader.read(reply)
        assert reader.text == final
        assert reply.after(reader.place) is None, "nothing is shown twice"


def test_a_turn_begun_again_voids_what_was_read() -> None:
    reply = LiveReply()
    reply.begin(1)
    reply.append("我在")
    assert reply.after(Place()) == Piece(1, 0, "我在")
    reply.begin(2)
    assert reply.after(Place(1, 2)) == Piece(2, 0, "")
    assert reply.after(Place()) is None
    reply.append("听")
    assert reply.after(Place(2, 0)) == Piece(2, 0, "听")


def test_a_place_from_an_earlier_connection_is_gone_on_from() -> None:
    reply = LiveReply()
    reply.begin(7)
    reply.append("今天辛苦了")
    assert reply.after(Place(7, 2)) == Piece(7, 2, "辛苦了")
    assert reply.after(Place(7, 5)) is None
    assert reply.after(Place(6, 2)) == Piece(7, 0, "今天辛苦了")


async def test_all_who_watch_one_event_see_the_same() -> None:
    replies = LiveReplies()
    with replies.watch(*EVENT) as one, replies.watch(*EVENT) as other:
        with replies.answering([EVENT]) as (written,):
            waiting = [asyncio.create_task(reply.changed()) for reply in (one, other)]
            await asyncio.sleep(0)
            written.begin(1)
            written.append("好")
            async with asyncio.timeout(5):
                await asyncio.gather(*waiting)
        assert one.after(Place()) == other.after(Place()) == Piece(1, 0, "好")


async def test_the_messages_of_one_turn_have_one_answer_and_others_none() -> None:
    replies = LiveReplies()
    second, third = (Platform.WEB, "second"), (Platform.TELEGRAM, "event")
    with (
        replies.watch(*EVENT) as one,
        replies.watch(*second) as other,
        replies.watch(*third) as elsewhere,
        replies.answering([EVENT, second]) as written,
    ):
        for reply in written:
            reply.finish(outcome(3, "一起回"))
        assert one.text == other.text == "一起回" and one.outcome is not None
        assert elsewhere.outcome is None and not elsewhere.begun


def test_it_is_kept_while_anybody_watches_or_writes_and_no_longer() -> None:
    replies = LiveReplies()
    with replies.answering([EVENT]) as (written,):
        written.begin(1)
        written.append("半句")
        with replies.watch(*EVENT) as late:
            assert late.text == "半句", "who comes back finds what was written meanwhile"
    with replies.watch(*EVENT) as afterwards:
        assert not afterwards.begun
        with replies.watch(*EVENT) as beside:
            beside.begin(2)
        with replies.watch(*EVENT) as again:
            assert again.turn_id == 2, "the first still watches"
    with replies.watch(*EVENT) as forgotten:
        assert not forgotten.begun
