"""Which block of the cache belongs to whom: paging, shared prefixes, copy on write.

A cache in one piece for each text must be as long as the text may become, and most of it stays
empty. Here the cache is cut into blocks of some tokens, as memory is cut into pages. A text gets a
block when it needs one; texts with the same beginning read the same blocks.
"""

from collections import OrderedDict
from dataclasses import dataclass, field

from llama3lib.inference.sequence import Sequence
from llama3lib.utils.require import at_least

_ROOT = -1  # the name of the empty prefix


@dataclass
class _Block:
    """Who reads a block, and by which name its content may be found again."""

    readers: int = 0
    key: int | None = None


@dataclass(frozen=True)
class BlockCopy:
    """Keys and values of block `source` are to be copied to block `target` before the next step."""

    source: int
    target: int


@dataclass
class BlockManager:
    """Hands out blocks of `block_size` tokens; never more than `num_blocks`.

    A block that nobody reads any more keeps its content until it is needed for something else, the
    longest unused first; until then a new text with the same beginning may have it.

    Raises ValueError for sizes below 1.
    """

    num_blocks: int
    block_size: int = 16
    prefix_sharing: bool = True
    hits: int = 0
    """Tokens that were found in the cache when a text was let in."""
    _blocks: list[_Block] = field(default_factory=list)
    _free: "OrderedDict[int, None]" = field(default_factory=OrderedDict)
    _by_prefix: dict[tuple[int, tuple[int, ...]], int] = field(default_factory=dict)
    _prefix_of: dict[int, tuple[int, tuple[int, ...]]] = field(default_factory=dict)
    _next_key: int = 0

    def __post_init__(self) -> None:
        for name in ("num_blocks", "block_size"):
            at_least(name, getattr(self, name), 1)
        self._blocks = [_Block() for _ in range(self.num_blocks)]
        self._free = OrderedDict.fromkeys(range(self.num_blocks))

    @property
    def num_free_blocks(self) -> int:
        """Blocks that nobody reads."""
        return len(self._free)

    def keeps(self, block: int) -> bool:
        """Whether a new text with the same beginning would find what is in a block."""
        return self._blocks[block].key is not None

    def blocks_for(self, num_tokens: int) -> int:
        """Blocks that so many tokens need."""
        return -(-num_tokens // self.block_size)

    def share_prefix(self, sequence: Sequence) -> int:
        """Give a new sequence the blocks that hold its beginning already; the tokens saved.

        At least its last token stays to be computed: its result is what the next one is drawn
        from.
        """
        if not self.prefix_sharing or sequence.block_table:
            return 0
        size, parent = self.block_size, _ROOT
        for end in range(size, len(sequence), size):
            prefix = (parent, tuple(sequence.token_ids[end - size : end]))
            block = self._by_prefix.get(prefix)
            if block is None:
                break
            self._read(block)
            parent = self._blocks[block].key
            sequence.block_table.append(block)
            sequence.block_keys.append(parent)
        sequence.num_computed_tokens = len(sequence.block_table) * size
        return sequence.num_computed_tokens

    def can_reserve(self, sequence: Sequence, num_tokens: int, *, spare: int = 0) -> bool:
        """Whether there are blocks for the next tokens of a sequence, and `spare` blocks more."""
        return self._needed(sequence, num_tokens) + spare <= self.num_free_blocks

    def _needed(self, sequence: Sequence, num_tokens: int) -> int:
        end = sequence.num_computed_tokens + num_tokens
        return self.blocks_for(end) - len(sequence.block_table) + self._writes_shared(sequence)

    def _writes_shared(self, sequence: Sequence) -> bool:
        """Whether the next token goes into a block that others read too."""
        place = sequence.num_computed_tokens // self.block_size
        table = sequence.block_table
        return place < len(table) and self._blocks[table[place]].readers > 1

    def reserve(self, sequence: Sequence, num_tokens: int) -> list[BlockCopy]:
        """Make room for the next `num_tokens` tokens; blocks to be copied first.

        A block that others read is not written to: the sequence gets a copy (copy on write).

        Raises ValueError if there are not enough blocks; nothing has changed then.
        """
        if not self.can_reserve(sequence, num_tokens):
            raise ValueError(
                f"{self._needed(sequence, num_tokens)} blocks are needed, "
                f"{self.num_free_blocks} are free"
            )
        copies = []
        if self._writes_shared(sequence):
            place = sequence.num_computed_tokens // self.block_size
            shared, own = sequence.block_table[place], self._take()
            self._blocks[shared].readers -= 1
            sequence.block_table[place] = own
            copies.append(BlockCopy(shared, own))
        end = sequence.num_computed_tokens + num_tokens
        while len(sequence.block_table) < self.blocks_for(end):
            sequence.block_table.append(self._take())
        return copies

    def note_computed(self, sequence: Sequence, num_tokens: int) -> None:
        """The next `num_tokens` tokens are in the cache now; full blocks can be found by others."""
        sequence.num_computed_tokens += num_tokens
        if not self.prefix_sharing:
            return
        size = self.block_size
        for place in range(len(sequence.block_keys), sequence.num_computed_tokens // size):
            parent = sequence.block_keys[-1] if sequence.block_keys else _ROOT
            prefix = (parent, tuple(sequence.token_ids[place * size : (place + 1) * size]))
            sequence.block_keys.append(self._register(sequence.block_table[place], prefix))

    def _register(self, block: int, prefix: tuple[int, tuple[int, ...]]) -> int:
        """The name of a prefix; the first block with its content is the one others will find."""
        known = self._by_prefix.get(prefix)
        if known is not None:
            return self._blocks[known].key
        key, self._next_key = self._next_key, self._next_key + 1
        self._blocks[block].key = key
        self._by_prefix[prefix], self._prefix_of[block] = block, prefix
        return key

    def fork(self, parent: Sequence, child: Sequence) -> None:
        """Let a child read all blocks of its parent."""
        child.block_table = list(parent.block_table)
        child.block_keys = list(parent.block_keys)
        for block in child.block_table:
            self._blocks[block].readers += 1

    def free(self, sequence: Sequence) -> None:
        """Take back all blocks of a sequence; nothing of it is computed any more.

        The last ones go first: beginnings are what others share.
        """
        for block in reversed(sequence.block_table):
            self._blocks[block].readers -= 1
            if self._blocks[block].readers == 0:
                self._free[block] = None
        sequence.block_table.clear()
        sequence.block_keys.clear()
        sequence.num_computed_tokens = 0

    def _read(self, block: int) -> None:
        if self._blocks[block].readers == 0:
            del self._free[block]
        self._blocks[block].readers += 1

    def _take(self) -> int:
        """The block that has been unused for longest; what it held is forgotten."""
        block, _ = self._free.popitem(last=False)
        self._blocks[block].readers = 1
        if self._blocks[block].key is not None:
            del self._by_prefix[self._prefix_of.pop(block)]
            self._blocks[block].key = None
        return block

    def check(self, sequences: list[Sequence]) -> None:
        """Raises AssertionError unless these sequences, and nobody else, read their blocks."""
        readers = [0] * self.num_blocks
        for sequence in sequences:
            assert len(sequence.block_table) == len(set(sequence.block_table))
            assert len(sequence.block_table) >= self.blocks_for(sequence.num_computed_tokens)
            for block in sequence.block_table:
                readers[block] += 1
        assert readers == [block.readers for block in self._blocks], "blocks leak"
        assert set(self._free) == {i for i, n in enumerate(readers) if n == 0}
        assert {self._by_prefix[p] for p in self._prefix_of.values()} == set(self._prefix_of)
        assert len(self._by_prefix) == len(self._prefix_of), "prefixes leak"
