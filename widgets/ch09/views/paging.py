"""The cache in blocks while several texts are written: who owns which block, and what stays empty.

The story is played with the real `BlockManager` and real sequences, once for each block size, with
and without sharing. The browser shows what was stored of it and counts again.
"""

import math
from dataclasses import asdict, dataclass, field
from functools import cache

import traitlets

from llama3lib.inference import SamplingParams
from llama3lib.inference.block_manager import BlockManager
from llama3lib.inference.sequence import Sequence
from llama3lib.inference.simulate import Workload
from widgets.core.drawing import BLUE, GREEN, INK, ORANGE, PAPER, PURPLE, RED, SKY, SOFT, Drawing
from widgets.core.widget import CourseWidget, css, esm

SIZES = (4, 8, 16, 32)
MEMORY = 256  # ours: tokens of the whole cache
RESERVED = 64  # ours: tokens of a cache in one piece, the longest text allowed
MANY, MEAN, LONGEST = 5000, 298, 2048  # ours: a realistic batch, log-normal lengths
HEADING = (
    f"{MANY:,} texts (ours), {MEAN} tokens on average",
    f"and {LONGEST:,} at most: what stays empty",
)
COLOURS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, "#8a8a00", "#666666")
GRID = {"x": 20, "y": 84, "slot": 17, "row": 44, "gap": 5}


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
    """Whole numbers from 10 %, one decimal below; halves go up, as in the browser."""
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


def block_box(block: int, size: int) -> tuple[float, float, float]:
    """Left, top and width of a block: 32 tokens a row, whatever the block size."""
    row, place = divmod(block * size, 32)
    x = GRID["x"] + place * GRID["slot"]
    return x, GRID["y"] + row * GRID["row"], size * GRID["slot"] - GRID["gap"]


def colour(letter: str) -> str:
    return COLOURS[(ord(letter) - ord("A")) % len(COLOURS)]


def _draw_block(picture: Drawing, block: int, who: str, filled: int, size: int, new: bool) -> None:
    x, y, width = block_box(block, size)
    picture.text(x + 2, y + 11, who, size=12, font_weight=600)
    long = width * filled / size
    for place, letter in enumerate(who):
        high = 22 / len(who)
        picture.rect(x, y + 14 + place * high, long, high, fill=colour(letter))
    edge, dash = (INK, None) if who else (SOFT, "3 3")
    style = {"fill": "none", "stroke": edge, "stroke_dasharray": dash}
    picture.rect(x, y + 14, width, 22, stroke_width=3 if new else 1, **style)
    _draw_number(picture, block, size)


def _draw_number(picture: Drawing, block: int, size: int) -> None:
    """The block's number at the right end of its box, readable on every colour."""
    x, y, width = block_box(block, size)
    halo = {"stroke": PAPER, "stroke_width": 3, "paint_order": "stroke"}
    picture.text(x + width - 5, y + 29, str(block), size=11, anchor="end", **halo)


def _draw_copy(picture: Drawing, source: int, target: int, size: int) -> None:
    """An arrow from a block to its copy, through the gap between two rows."""
    x1, y1, w1 = block_box(source, size)
    x2, y2, w2 = block_box(target, size)
    start, end = x1 + w1 / 2, x2 + w2 / 2
    tip, low = (y2 + 38, y1 + 44) if y1 == y2 else (y2 + 12, y2 + 2)
    path = f"M{start:.1f} {y1 + 37}V{low}H{end:.1f}V{tip}"
    picture.shape("path", d=path, fill="none", stroke=RED, stroke_width=2.5)
    turn = 6 if y1 == y2 else -6
    picture.shape("path", d=f"M{end:.1f} {tip}l-5 {turn}l10 0z", fill=RED)


def _draw_bar(picture: Drawing, y: float, name: str, share: float, words: str, wide: float) -> None:
    """A bar of room: what is used, then what is empty."""
    picture.text(610, y + 15, name, size=13)
    picture.rect(740, y, wide * (1 - share), 20, fill=BLUE)
    picture.rect(740 + wide * (1 - share), y, wide * share, 20, fill="url(#empty)", stroke=SOFT)
    picture.text(744 + wide, y + 15, words, size=13)


def draw_paging(moment: Moment, step: int, block_size: int) -> str:
    """The static picture, as SVG."""
    title, now = headline(moment, block_size), room(moment, block_size)
    told = [moment.words, saved_words(moment, block_size)]
    picture = Drawing(1000, 520, title=title, description=" ".join(told))
    picture.hatch("empty", SOFT, 45, gap=6)
    picture.text(20, 30, title, size=17, font_weight=600)
    key = f"step {step}; number: the block; letters: who reads it; dashed: free, can still be found"
    picture.text(20, 66, key, size=13, fill=SOFT)
    free = set(range(MEMORY // block_size)) - {block for block, _, _ in moment.blocks}
    for block in free:
        x, y, width = block_box(block, block_size)
        picture.rect(x, y + 14, width, 22, fill="none", stroke="#c8d1da")
        _draw_number(picture, block, block_size)
    for block, who, filled in moment.blocks:
        _draw_block(picture, block, who, filled, block_size, block in moment.changed)
    for source, target in moment.copies:
        _draw_copy(picture, source, target, block_size)
    picture.text(610, 66, "room now (hatched: reserved and empty)", size=14, fill=SOFT)
    for y, name, share, reserved in (
        (80, "in one piece", now.waste_alone, now.reserved_alone),
        (108, "in blocks", now.waste, now.reserved),
    ):
        words = f"{reserved}: {percent(share)}"
        _draw_bar(picture, y, name, share, words, 150 * reserved / MEMORY)
    for place, line in enumerate(HEADING):
        picture.text(610, 160 + 18 * place, line, size=14, fill=SOFT)
    for place, size in enumerate((None, *SIZES)):
        share = wide_waste(size)
        name = "in one piece" if size is None else f"blocks of {size}"
        name += " ◂" * (size == block_size)
        _draw_bar(picture, 190 + 28 * place, name, share, percent(share), 150)
    for place, line in enumerate(told):
        picture.text(20, 466 + 24 * place, line, size=15)
    return picture.svg()


class PagingBoard(CourseWidget):
    """Step through a story of nine texts and see which blocks of the cache they read.

    Works in a saved page: no kernel is asked.
    """

    _esm = esm("paging")
    _css = css("paging")
    step = traitlets.Int(0).tag(sync=True)
    block_size = traitlets.Int(16).tag(sync=True)
    sharing = traitlets.Bool(True).tag(sync=True)
    boards = traitlets.Dict().tag(sync=True)
    sizes = traitlets.Dict().tag(sync=True)

    def __init__(self, step: int = 0, *, block_size: int = 16, sharing: bool = True) -> None:
        boards = {
            f"{size}{' shared' * shared}": [asdict(moment) for moment in tell(size, shared)]
            for size in SIZES
            for shared in (True, False)
        }
        wide = {str(size or "one piece"): wide_waste(size) for size in (None, *SIZES)}
        sizes = {"memory": MEMORY, "reserved": RESERVED, "wide": wide, "heading": HEADING}
        super().__init__(boards=boards, sizes=sizes)
        self.block_size, self.sharing, self.step = block_size, sharing, step

    @traitlets.validate("step")
    def _in_story(self, proposal: dict) -> int:
        last = len(tell(SIZES[0], True)) - 1
        if not 0 <= proposal["value"] <= last:
            raise traitlets.TraitError(f"step={proposal['value']!r} is not allowed: 0 to {last}")
        return proposal["value"]

    @traitlets.validate("block_size")
    def _offered(self, proposal: dict) -> int:
        if proposal["value"] not in SIZES:
            names = ", ".join(map(str, SIZES))
            value = proposal["value"]
            raise traitlets.TraitError(f"block_size={value!r} is not allowed: one of {names}")
        return proposal["value"]

    def moment(self) -> Moment:
        """What the picture shows."""
        return tell(self.block_size, self.sharing)[self.step]

    def room(self) -> Room:
        """What is reserved and what is stored."""
        return room(self.moment(), self.block_size)

    def summary(self) -> str:
        return headline(self.moment(), self.block_size)

    def table(self) -> list[dict[str, object]]:
        return table_rows(self.moment())

    def static_svg(self) -> str:
        return draw_paging(self.moment(), self.step, self.block_size)
