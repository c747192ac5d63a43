"""The paging board: a story on the real block manager, its arithmetic, and the browser's."""

import itertools

import pytest

from widgets.ch09.views import paging
from widgets.ch09.views.paging import MEMORY, RESERVED, SIZES, PagingBoard, room, tell, wide_waste

ALL = list(itertools.product(SIZES, (True, False)))
EVERY = [(size, shared, m) for size, shared in ALL for m in tell(size, shared)]


def told(step, size=16, sharing=True):
    return tell(size, sharing)[step]


@pytest.mark.parametrize("size, sharing", ALL)
def test_every_moment_holds_what_its_texts_need(size, sharing):
    for moment in tell(size, sharing):
        now = room(moment, size)
        places = [block for block, _, _ in moment.blocks]
        assert len(set(places)) == len(places) and set(places) <= set(range(MEMORY // size))
        assert all(1 <= filled <= size for _, _, filled in moment.blocks)
        for letter, tokens in moment.texts.items():
            own = [filled for _, who, filled in moment.blocks if letter in who]
            assert sum(own) == tokens and len(own) == -(-tokens // size)
            assert tokens <= RESERVED
        counted = sum(filled * len(who) for _, who, filled in moment.blocks)
        assert counted == now.stored_alone >= now.stored
        assert len(moment.texts) * RESERVED <= MEMORY  # in one piece they would just fit
        assert now.waste <= now.waste_alone
        if not sharing:
            assert now.stored == now.stored_alone and not moment.copies
            assert all(who for _, who, _ in moment.blocks)


def test_the_story_with_blocks_of_16():
    assert told(1).blocks == [(0, "A", 16), (1, "A", 5)]
    assert told(2).blocks == [(0, "ABC", 16), (1, "ABC", 5)] and not told(2).copies
    # A writes: it leaves block 1 to the others and goes on in a copy
    assert told(3).copies == [(1, 2)]
    assert told(3).blocks == [(0, "ABC", 16), (1, "BC", 5), (2, "A", 6)]
    assert told(4).copies == [(1, 3)] and told(4).blocks[1] == (1, "C", 5)
    assert not told(5).copies and told(5).blocks[1] == (1, "C", 6)  # alone now: no copy
    assert "16 of 23 tokens are found" in told(7).words
    assert told(7).blocks[0] == (0, "ABCD", 16)
    assert "B" not in told(9).texts and told(9).blocks[0] == (0, "ACD", 16)
    assert (1, "", 16) in told(10).blocks  # nobody reads it, but it can be found
    assert "16 of 21 tokens are found" in told(11).words and told(11).blocks[0] == (0, "DE", 16)
    assert told(12).texts == {} and all(who == "" for _, who, _ in told(12).blocks)
    assert told(13).texts == {"F": 60, "G": 60, "H": 60}
    assert "1 of 3 old contents are lost" in told(13).words


@pytest.mark.parametrize("size, first, again", [(4, 16, 20), (8, 16, 16), (16, 16, 16), (32, 0, 0)])
def test_only_full_blocks_are_found_again(size, first, again):
    assert [f"{first} of 23" in told(7, size).words, f"{again} of 21" in told(11, size).words] == (
        [True, True] if first else [False, False]
    )
    assert "so all 23 are computed" in told(7, size, False).words
    assert ("No full block" in told(7, size).words) == (size == 32)


def test_sharing_saves_room():
    for size in SIZES:
        for a, b in zip(tell(size, True)[1:12], tell(size, False)[1:12], strict=True):
            assert a.texts == b.texts
            assert room(a, size).taken_blocks <= room(b, size).taken_blocks
    now = room(told(2, 4), 4)
    assert (now.taken_blocks, now.stored, now.stored_alone) == (6, 21, 63)
    assert room(told(2, 4, False), 4).taken_blocks == 18
    words = "63 tokens of all texts are stored in 21 places: sharing saves 42."
    assert paging.saved_words(told(2, 4), 4) == words


def test_many_texts_waste_what_half_a_block_is():
    # half a block of the mean text's blocks is empty; in one piece, all but the mean length
    assert wide_waste(None) == pytest.approx(0.855, abs=0.01)
    for size in SIZES:
        half = (size - 1) / 2
        assert wide_waste(size) == pytest.approx(half / (297 + half), rel=0.05)
    assert [paging.percent(wide_waste(s)) for s in SIZES] == ["0.5%", "1.2%", "2.5%", "4.9%"]


def test_the_words():
    view = PagingBoard(0)
    assert view.summary() == "16 blocks of 16 tokens, read by nobody" and view.table() == []
    view.step = 8
    now = view.room()
    assert (now.reserved, now.reserved_alone) == (7 * 16, 4 * 64)
    assert view.summary().startswith("4 texts in 7 of 16 blocks: 29% of their room is empty, 50%")
    rows = view.table()
    assert [row["text"] for row in rows] == ["A", "B", "C", "D"]
    assert [row["tokens"] for row in rows] == list(view.moment().texts.values())
    assert rows[0]["with others"] == 1 and rows[0]["blocks it reads"].split()[0] == "0"
    svg = view.static_svg()
    note = view.frame()["notes"][0]
    assert note.startswith(view.moment().words) and "sharing saves 48" in note and "ABCD" in svg
    assert "5,000 texts (ours)" in svg
    assert all(f">{block}</text>" in svg for block in range(16))  # each box has its number
    assert PagingBoard().step == 0
    assert [paging.percent(x) for x in (0, 0.0006, 0.0996, 0.125, 1)] == [
        "0%",
        "0.1%",
        "10%",
        "13%",
        "100%",
    ]
