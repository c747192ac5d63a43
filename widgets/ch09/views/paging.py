"""The cache in blocks while several texts are written: who owns which block, and what stays empty.

The story is played with the real `BlockManager` and real sequences, once for each block size, with
and without sharing. The browser shows what was stored of it and counts again.
"""

import math
from dataclasses import dataclass, field
from functools import cache

from llama3lib.inference import SamplingParams
from llama3lib.inference.block_manager import BlockManager
from llama3lib.inference.sequence import Sequence
from llama3lib.inference.simulate import Workload
from widgets.core.colours import SERIES
from widgets.view import Paper, Scene, Slider, Toggle, View
from widgets.view.measure import wrap

SIZES = (4, 8, 16, 32)
MEMORY = 256  # ours: tokens of the whole cache
RESERVED = 64  # ours: tokens of a cache in one piece, the longest text allowed
MANY, MEAN, LONGEST = 5000, 298, 2048  # ours: a realistic batch, log-normal lengths
HEADING = (
    f"{MANY:,} texts (ours), {MEAN} tokens on average",
    f"and {LONGEST:,} at most: what stays empty",
)
SLOT, ROW, GAP, TOP = 17, 44, 5, 24  # pixels: a token, a row of blocks, between blocks, above
A_ROW = 32  # tokens in a row of the board, whatever the block size


@dataclass
class Moment:
    """One step of the story: what happened, and the board after it."""

    words: str
    texts: dict[str, int] = field(default_factory=dict)
    """Tokens of each text that is being written."""
    blocks: list[tuple[int, str, int]] = field(default_factory=list)
    """Place, letters of its readers, tokens in it; no letters: free, but still to be found."""
    copies: list[tuple[int, int]] = field(default_factory=list)
    changed: list[int] = field(default_factory=list)
    """Places that have other readers than a step ago."""


class _Board:
    """A block manager, the texts on it, and the moments so far."""

    def __init__(self, size: int, sharing: bool) -> None:
        self.manager = BlockManager(MEMORY // size, size, prefix_sharing=sharing)
        self.texts: dict[str, Sequence] = {}
        self.moments: list[Moment] = []
        self._copies: list[tuple[int, int]] = []

    def begin(self, letter: str, tokens: list[int]) -> int:
        """Read a prompt; the tokens that were there already."""
        text = self.texts[letter] = Sequence(list(tokens), SamplingParams())
        found = self.manager.share_prefix(text)
        self._compute(text)
        return found

    def fork(self, parent: str, child: str) -> None:
        self.texts[child] = self.texts[parent].fork(1, None)
        self.manager.fork(self.texts[parent], self.texts[child])

    def write(self, letter: str, number: int) -> bool:
        """Add tokens, one a time as the engine does; whether a block was copied for it."""
        text, before = self.texts[letter], len(self._copies)
        for place in range(number):
            text.token_ids.append(1000 * ord(letter) + place + len(text))
            self._compute(text)
        return len(self._copies) > before

    def end(self, *letters: str) -> None:
        for letter in letters:
            self.manager.free(self.texts.pop(letter))

    def _compute(self, text: Sequence) -> None:
        number = text.num_uncomputed_tokens
        self._copies += [(c.source, c.target) for c in self.manager.reserve(text, number)]
        self.manager.note_computed(text, number)

    def note(self, words: str) -> None:
        """Keep the board as it is now."""
        self.manager.check(list(self.texts.values()))
        size, readers, filled = self.manager.block_size, {}, {}
        for letter, text in self.texts.items():
            for place, block in enumerate(text.block_table):
                readers[block] = readers.get(block, "") + letter
                filled[block] = min(size, text.num_computed_tokens - place * size)
        kept = [b for b in range(self.manager.num_blocks) if self.manager.keeps(b)]
        blocks = [(b, readers[b], filled[b]) for b in readers]
        blocks += [(b, "", size) for b in kept if b not in readers]
        before = {b: who for b, who, _ in self.moments[-1].blocks} if self.moments else {}
        changed = [b for b, who, _ in blocks if who and before.get(b, "") != who]
        lengths = {letter: len(text) for letter, text in self.texts.items()}
        self.moments.append(Moment(words, lengths, sorted(blocks), self._copies, sorted(changed)))
        self._copies = []


@cache
def tell(block_size: int, sharing: bool) -> tuple[Moment, ...]:
    """The whole story on the real block manager.

    Without sharing each answer is a request of its own that reads the prompt again.
    """
    board = _Board(block_size, sharing)
    system = list(range(16))
    prompt = system + [100 + i for i in range(5)]
    board.note(f"The cache has room for {MEMORY} tokens, in blocks of {block_size}. All are free.")
    board.begin("A", prompt)
    board.note(f"Text A reads its prompt of {len(prompt)} tokens.")
    _three_answers(board, sharing, prompt)
    for letter in "ABC":
        board.write(letter, 6)
    board.note("A, B and C write 6 tokens each, one at a time; a block is taken when one is full.")
    found = board.begin("D", system + [200 + i for i in range(7)])
    board.note(f"D comes. Its first 16 tokens are those of A. {_found_words(found, 23, sharing)}")
    for letter, number in (("A", 5), ("C", 9), ("D", 6)):
        board.write(letter, number)
    board.note("They go on: A writes 5 tokens, C 9, D 6.")
    board.end("B")
    board.note("B has ended. Blocks that only B read are free; the others stay.")
    board.end("A", "C")
    keep = "Full blocks keep their content until they are needed." if sharing else ""
    board.note(f"A and C have ended. {keep}".strip())
    found = board.begin("E", prompt)
    board.note(f"E comes with the prompt of A, token for token. {_found_words(found, 21, sharing)}")
    board.end("D", "E")
    board.note("D and E have ended. Nobody reads a block now.")
    kept = {block for block, _, _ in board.moments[-1].blocks}
    for letter in "FGH":
        board.begin(letter, [1000 * ord(letter) + i for i in range(60)])
    taken = {block for text in board.texts.values() for block in text.block_table}
    lost = f": {len(kept & taken)} of {len(kept)} old contents are lost." if kept else "."
    coming = "F, G and H come, 60 other tokens each, and take the blocks unused for longest"
    board.note(coming + lost)
    found = board.begin("I", prompt)
    board.note(f"I comes with the prompt of A once more. {_found_words(found, 21, sharing)}")
    return tuple(board.moments)


def _three_answers(board: _Board, sharing: bool, prompt: list[int]) -> None:
    for letter in "BC":
        board.fork("A", letter) if sharing else board.begin(letter, prompt)
    board.note(
        "Two more answers to it are wanted, B and C. They read the blocks of A; nothing is copied."
        if sharing
        else "Two more answers to it are wanted. B and C read the prompt again, each for itself."
    )
    words = {
        True: "{0} writes a token into a block that others read: it gets a copy of it first.",
        False: "{0} writes a token. Nobody else reads its last block: no copy is needed.",
    }
    for letter in "ABC":
        board.note(words[board.write(letter, 1)].format(letter))


def _found_words(found: int, total: int, sharing: bool) -> str:
    if not sharing:
        return f"Nothing is shared, so all {total} are computed."
    if not found:
        return f"No full block of them is found, so all {total} are computed."
    return f"{found} of {total} tokens are found in the cache and need not be computed."


@cache
def wide_waste(block_size: int | None) -> float:
    """Part of the room that stays empty for 5,000 texts of log-normal length (ours): 0 to 1.

    block_size: None for a cache in one piece of the longest length for each text.
    """
    sizes = {"prompt_spread": 0.6, "most_tokens": LONGEST, "rate": math.inf}
    work = Workload.random(MANY, prompt_tokens=MEAN, output_tokens=1, **sizes)
    lengths = [job.prompt_tokens for job in work.jobs]
    if block_size is None:
        return 1 - sum(lengths) / (MANY * LONGEST)
    manager = BlockManager(1, block_size)
    return 1 - sum(lengths) / (block_size * sum(map(manager.blocks_for, lengths)))


@dataclass(frozen=True)
class Room:
    """Tokens that were reserved and tokens that are stored: in blocks, and in one piece a text."""

    taken_blocks: int
    reserved: int
    stored: int
    reserved_alone: int
    stored_alone: int

    @property
    def waste(self) -> float:
        """Part of the reserved room that is empty."""
        return 1 - self.stored / self.reserved if self.reserved else 0.0

    @property
    def waste_alone(self) -> float:
        return 1 - self.stored_alone / self.reserved_alone if self.reserved_alone else 0.0


def room(moment: Moment, block_size: int) -> Room:
    """What a moment takes."""
    taken = [filled for _, who, filled in moment.blocks if who]
    lengths = moment.texts.values()
    return Room(
        len(taken), len(taken) * block_size, sum(taken), RESERVED * len(lengths), sum(lengths)
    )


def percent(share: float) -> str:
    """Whole numbers from 10 %, one decimal below; halves go up."""
    value = 100 * share
    if value >= 10:
        return f"{math.floor(value + 0.5)}%"
    return f"{math.floor(10 * value + 0.5) / 10:g}%"


def headline(moment: Moment, block_size: int) -> str:
    """The title: what stays empty in blocks, and in one piece."""
    number, all_blocks = len(moment.texts), MEMORY // block_size
    if not number:
        return f"{all_blocks} blocks of {block_size} tokens, read by nobody"
    now = room(moment, block_size)
    texts = f"{number} text{'s' * (number > 1)} in {now.taken_blocks} of {all_blocks} blocks"
    alone = f"{percent(now.waste_alone)} with {RESERVED} tokens reserved for each"
    return f"{texts}: {percent(now.waste)} of their room is empty, {alone}"


def saved_words(moment: Moment, block_size: int) -> str:
    """What sharing saves in this moment."""
    now = room(moment, block_size)
    saved = now.stored_alone - now.stored
    if not saved:
        return f"{now.stored} tokens are stored; no block has several readers."
    whole = f"{now.stored_alone} tokens of all texts are stored in {now.stored} places"
    return f"{whole}: sharing saves {saved}."


def table_rows(moment: Moment) -> list[dict[str, object]]:
    """The texts of a moment as a table."""
    return [
        {
            "text": letter,
            "tokens": tokens,
            "blocks it reads": " ".join(str(b) for b, who, _ in moment.blocks if letter in who),
            "with others": sum(letter in who and len(who) > 1 for _, who, _ in moment.blocks),
            "in one piece": RESERVED,
        }
        for letter, tokens in moment.texts.items()
    ]


def block_box(block: int, size: int, slot: float) -> tuple[float, float, float]:
    """Left, top and width of a block."""
    row, place = divmod(block * size, A_ROW)
    return place * slot + 2, TOP + row * ROW, size * slot - GAP


def role_of(letter: str) -> str:
    """The colour of a text."""
    return SERIES[(ord(letter) - ord("A")) % len(SERIES)]


def draw_block(
    paper: Paper, block: int, who: str | None, filled: int, size: int, *, slot: float, new: bool
) -> None:
    """A block, its readers, and how full it is. who: "" if free but found again; None if empty."""
    x, y, width = block_box(block, size, slot)
    readers = f"read by {', '.join(who)}" if who else "free"
    again = "" if who is None or who else "; its content can still be found"
    with paper.group(key=f"block {block}", tip=f"block {block}: {filled} tokens, {readers}{again}"):
        paper.rect(x, y + 14, width, 22, "paper")
        for place, letter in enumerate(who or ""):
            high = 22 / len(who)
            paper.rect(x, y + 14 + place * high, width * filled / size, high, role_of(letter))
        style = {"stroke": "ink" if who else "soft" if who == "" else "quiet"}
        style |= {"stroke_dasharray": "3 3" if who == "" else None}
        paper.rect(x, y + 14, width, 22, "none", stroke_width=3 if new else 1, **style)
        if who:
            paper.text(x + 2, y + 11, who, size=12, bold=True)
        paper.text(x + width - 4, y + 29, str(block), size=11, anchor="end", halo=True)


def draw_copy(paper: Paper, source: int, target: int, size: int, slot: float) -> None:
    """An arrow from a block to its copy, through the gap between two rows."""
    x1, y1, w1 = block_box(source, size, slot)
    x2, y2, w2 = block_box(target, size, slot)
    start, end = x1 + w1 / 2, x2 + w2 / 2
    tip, low = (y2 + 38, y1 + 44) if y1 == y2 else (y2 + 12, y2 + 2)
    turn = 6 if y1 == y2 else -6
    way = [(start, y1 + 37), (start, low), (end, low), (end, tip)]
    paper.path(way, "fourth", width=2.5)
    paper.path([(end, tip), (end - 5, tip + turn), (end + 5, tip + turn)], "none", fill="fourth",
               closed=True)  # fmt: skip


def draw_bar(
    paper: Paper, x: float, y: float, name: str, share: float, words: str, wide: float, chosen: bool
) -> None:
    """A bar of room: what is used, then what is empty."""
    paper.text(x, y + 15, name, bold=chosen)
    used = wide * (1 - share)
    paper.rect(x + 104, y, used, 20, "main", key=f"used {name} {y}")
    paper.rect(x + 104 + used, y, wide - used, 20, paper.hatch("soft", gap=6), stroke="soft")
    paper.text(x + 110 + wide, y + 15, words, bold=chosen)


def draw_board(paper: Paper, moment: Moment, size: int, slot: float) -> None:
    """All blocks of the cache, and the copies of this step."""
    held = {block: (who, filled) for block, who, filled in moment.blocks}
    for block in range(MEMORY // size):
        who, filled = held.get(block, (None, 0))
        draw_block(paper, block, who, filled, size, slot=slot, new=block in moment.changed)
    for source, target in moment.copies:
        draw_copy(paper, source, target, size, slot)


def draw_room(paper: Paper, moment: Moment, size: int, x: float, y: float) -> None:
    """What is reserved and empty: now, and in a realistic batch."""
    now, wide = room(moment, size), min(150, paper.width - x - 190)
    paper.text(x, y + 16, "tokens reserved now; how much is empty", "soft")
    for place, (name, share, reserved) in enumerate(
        (
            ("in one piece", now.waste_alone, now.reserved_alone),
            ("in blocks", now.waste, now.reserved),
        )
    ):
        words = f"{reserved}: {percent(share)}"
        length = wide * reserved / MEMORY
        draw_bar(paper, x, y + 28 + 28 * place, name, share, words, length, place == 1)
    for place, line in enumerate(HEADING):
        paper.text(x, y + 112 + 19 * place, line, "soft")
    for place, each in enumerate((None, *SIZES)):
        share = wide_waste(each)
        name = "in one piece" if each is None else f"blocks of {each}"
        at = y + 142 + 28 * place
        draw_bar(paper, x, at, name, share, percent(share), wide, each == size)
    low = y + 142 + 28 * 5 + 6
    paper.rect(x, low, 20, 16, "main")
    paper.text(x + 27, low + 13, "stored", "soft")
    paper.rect(x + 100, low, 20, 16, paper.hatch("soft", gap=6), stroke="soft")
    paper.text(x + 127, low + 13, "reserved, empty", "soft")
    paper.rect(x, low + 24, 20, 16, "none", stroke="soft", stroke_dasharray="3 3")
    paper.text(x + 27, low + 37, "free; its content can still be found", "soft")


class PagingBoard(View):
    """Step through a story of nine texts and see which blocks of the cache they read."""

    step = Slider(
        lambda view, values: {i: f"{i} of {view.last}" for i in range(view.last + 1)},
        "step", play=1200,
    )  # fmt: skip
    block_size = Slider(SIZES, "block size", start=16, text=lambda size: f"{size} tokens")
    sharing = Toggle("share equal beginnings", start=True)

    def __init__(self, step: int = 0, *, block_size: int = 16, sharing: bool = True) -> None:
        self.last = len(tell(SIZES[0], True)) - 1
        super().__init__(step=step, block_size=block_size, sharing=sharing)

    def scene(self, paper: Paper, *, step: int, block_size: int, sharing: bool) -> Scene:
        moment = tell(block_size, sharing)[step]
        wide = paper.width if paper.narrow else min(paper.width - 340, A_ROW * SLOT)
        key = "number: the block; letters: who reads it; thick edge: changed in this step"
        for place, line in enumerate(wrap(key, 13, wide)):
            paper.text(2, 14 + 16 * place, line, "soft", size=13)
        with paper.group(transform=f"translate(0 {6 if paper.narrow else 4})"):
            draw_board(paper, moment, block_size, wide / A_ROW)
        low = TOP + ROW * (MEMORY // A_ROW) + 8
        at = (2, low) if paper.narrow else (wide + 26, 0)
        draw_room(paper, moment, block_size, *at)
        title, now = headline(moment, block_size), room(moment, block_size)
        return Scene(
            title=title,
            notes=[f"{moment.words} {saved_words(moment, block_size)}"],
            table=table_rows(moment),
            say=f"{moment.words} {title}",
            facts={"taken": now.taken_blocks, "stored": now.stored, "copies": len(moment.copies)},
        )

    def moment(self) -> Moment:
        """What the picture shows."""
        return tell(self.block_size, self.sharing)[self.step]

    def room(self) -> Room:
        """What is reserved and what is stored."""
        return room(self.moment(), self.block_size)
