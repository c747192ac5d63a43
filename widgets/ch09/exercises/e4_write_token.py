"""Exercise 09.4: answers that share blocks, and copy one before they write into it.

The check plays what really happens: blocks hold letters, copies are carried out, letters are
written, and each answer's blocks must then read like a text of its own. The names of mistakes come
from comparing the tables before and after the call that went wrong.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from widgets.core.exercise import Exercise
from widgets.core.forms import like
from widgets.core.judge import Case, Mistake, run

E = Exercise(
    "09.4",
    "write_token",
    hints=(
        "Who else would see the token, if it were written where the table says now? And who has "
        "a block after the call that had none before?",
        "The place in the table is position // block_size. Three cases: the table ends before that "
        "place; the block there has one reader; it has several. After each case go through all "
        "three lists: is the table right, are the readers of each block right, is it free or not?",
        "Table too short: new = free.pop(), append it, readers[new] = 1, return None. One reader: "
        "return None. Several: new = free.pop(), readers[new] = 1, readers[old] -= 1, put new into "
        "the same place of the table, return (old, new).",
    ),
)
_EMPTY = "."


@dataclass
class Books:
    """Who has which block. The learner's function changes a copy of it in place."""

    tables: list[list[int]]
    readers: list[int]
    free: list[int]

    def copy(self) -> "Books":
        return Books([list(t) for t in self.tables], list(self.readers), list(self.free))

    def shows(self, answer: int, position: int, size: int) -> str:
        """A call as a learner would type it."""
        return (
            f"tables={self.tables}, readers={self.readers}, free={self.free}, answer={answer}, "
            f"position={position}, block_size={size}"
        )

    def trouble(self) -> str | None:
        """What does not add up, if anything."""
        try:
            held = [block for table in self.tables for block in table]
            counted = [held.count(block) for block in range(len(self.readers))]
            if any(type(b) is not int or not 0 <= b < len(counted) for b in [*held, *self.free]):
                return "a number that is no block"
            if len(set(self.free)) < len(self.free):
                return "a block is free twice"
            if counted != self.readers:
                return "the readers do not agree with the tables"
            if set(self.free) != {block for block, n in enumerate(counted) if n == 0}:
                return "a block is lost, or free and in use"
        except TypeError:
            return "a list holds something else than numbers"
        return None


@dataclass
class Play:
    """K answers on the blocks of one prompt, with real letters, and the same texts kept apart."""

    size: int
    books: Books
    texts: list[list[str]]
    blocks: list[list[str]] = field(default_factory=list)

    @classmethod
    def of(cls, prompt: str, answers: int, size: int, spare: int) -> "Play":
        used = -(-len(prompt) // size)
        order = list(range(used + spare))
        books = Books(
            [order[:used] for _ in range(answers)], [answers] * used + [0] * spare, order[used:]
        )
        play = cls(size, books, [list(prompt) for _ in range(answers)])
        play.blocks = [[_EMPTY] * size for _ in order]
        for place, letter in enumerate(prompt):
            play.blocks[place // size][place % size] = letter
        return play

    def write(self, function: Callable, answer: int, position: int, letter: str) -> None:
        """Ask the learner's function for room, copy if it says so, write. Raises Mistake."""
        before, after = self.books.copy(), self.books.copy()
        shows = before.shows(answer, position, self.size)

        inputs = (after.tables, after.readers, after.free, answer, position, self.size)
        pair = _pair(run(lambda: function(*inputs), Case((), shows), E.what, none=True), shows)
        wrong = after.trouble() or self._spoiled(after, pair, before, answer, position, letter)
        if wrong:
            name, why = _named(before, after, pair, answer, position // self.size) or (wrong, "")
            raise Mistake(name, shows=shows, why=why)
        self.books = after

    def _spoiled(
        self,
        after: Books,
        pair: tuple[int, int] | None,
        before: Books,
        answer: int,
        position: int,
        letter: str,
    ) -> str | None:
        """Write for real; what is wrong with the texts then, if anything."""
        place = position // self.size
        if pair is not None:
            old, new = pair
            if not all(0 <= block < len(self.blocks) for block in pair):
                return "a number that is no block"
            self.blocks[new] = list(self.blocks[old])
            if place >= len(before.tables[answer]) or before.readers[old] == 1:
                return "copied without need"
        if place >= len(after.tables[answer]):
            return "there is no room for the position"
        self.blocks[after.tables[answer][place]][position % self.size] = letter
        text = self.texts[answer]
        text[position : position + 1] = [letter]
        for number, text in enumerate(self.texts):
            held = [letter for block in after.tables[number] for letter in self.blocks[block]]
            if held[: len(text)] != text:
                return f"the text of answer {number} has changed"
            if len(held) - len(text) >= self.size:
                return "more blocks than the texts need"
        return None

    def fork(self, answer: int) -> None:
        """One answer more that begins like this one. Ours, not the learner's to do."""
        for block in self.books.tables[answer]:
            self.books.readers[block] += 1
        self.books.tables.append(list(self.books.tables[answer]))
        self.texts.append(list(self.texts[answer]))

    def end(self, answer: int) -> None:
        """An answer is finished: its blocks go back."""
        for block in self.books.tables[answer]:
            self.books.readers[block] -= 1
            if self.books.readers[block] == 0:
                self.books.free.append(block)
        self.books.tables[answer], self.texts[answer] = [], []


def _pair(result: object, shows: str) -> tuple[int, int] | None:
    """What was returned, as two numbers or None."""
    if result is None:
        return None
    pair = like(result, (0, 0))
    if isinstance(pair, tuple) and all(type(block) is int for block in pair):
        return pair
    why = f"{result!r:.60} came."
    raise Mistake(f"{E.what}: a pair of block numbers or None is needed", shows=shows, why=why)


def _named(
    before: Books, after: Books, pair: tuple[int, int] | None, answer: int, place: int
) -> tuple[str, str] | None:
    """Name and explanation of a mistake, from the books before and after the call."""
    try:
        others = [number for number in range(len(before.tables)) if number != answer]
        if len(after.tables) != len(before.tables) or any(
            after.tables[n] != before.tables[n] for n in others
        ):
            return "another answer's table is changed", f"Only tables[{answer}] is to change."
        old, new = before.tables[answer], after.tables[answer]
        if place == len(old):
            return _named_append(before, after, pair, answer)
        if before.readers[old[place]] == 1:
            if pair is not None or new != old:
                return (
                    "copied although nobody else reads it",
                    f"Block {old[place]} has one reader: it may be written as it is.",
                )
            return None
        return _named_copy(before, after, pair, answer, place)
    except (TypeError, IndexError):
        return None


def _named_append(
    before: Books, after: Books, pair: tuple[int, int] | None, answer: int
) -> tuple[str, str] | None:
    old, new = before.tables[answer], after.tables[answer]
    if pair is not None and new[: len(old)] == old:
        return "a copy of nothing", "The block is new: no content is to be copied. Return None."
    if new == old:
        why = f"tables[{answer}] has {len(old)} blocks, and all are full."
        return "no room for the position", why
    if len(new) != len(old) + 1 or new[:-1] != old:
        return "more than one block is appended", "One token needs one block at most."
    return _named_taken(before, after, new[-1])


def _named_taken(before: Books, after: Books, taken: int) -> tuple[str, str] | None:
    if taken not in before.free:
        return "a block that is not free is taken", f"Block {taken} is not in the list free."
    if taken in after.free:
        why = f"Block {taken} is still in the list free: it would be handed out again."
        return "a block is taken without removing it from free", why
    if after.readers[taken] != 1:
        why = f"readers[{taken}] is {after.readers[taken]} after the call. Who reads it now?"
        return "the reader of the new block is not noted", why
    return None


def _named_copy(
    before: Books, after: Books, pair: tuple[int, int] | None, answer: int, place: int
) -> tuple[str, str] | None:
    shared, now = before.tables[answer][place], after.tables[answer]
    readers = before.readers[shared]
    if now == before.tables[answer]:
        if pair is None:
            why = f"{readers} answers read block {shared}. A token in it would appear in each."
            return "writes into the shared block", why
        return "the table still has the shared block", f"tables[{answer}] is as it was."
    if len(now) != len(before.tables[answer]):
        return "a block is appended for a place that exists", f"Its place in the table is {place}."
    if now[place] == shared:
        why = f"The position lies in place {place} of the table."
        return "the wrong block for the position", why
    if now[:place] + now[place + 1 :] != (old := before.tables[answer])[:place] + old[place + 1 :]:
        return "more than one block is replaced", f"Only place {place} of the table is written to."
    if pair is None:
        return (
            "the copy is not told",
            "Without its content the new block is empty. Return the pair.",
        )
    if pair == (now[place], shared):
        return "the pair is the wrong way round", "First the block to copy from, then the new one."
    if pair != (shared, now[place]):
        why = f"Returned was {pair}; the table had {shared} and has {now[place]} now."
        return "the pair names other blocks", why
    if after.readers[shared] == readers:
        why = f"readers[{shared}] is still {readers}, but one of them reads its own copy now."
        return "the reader of the old block is not taken away", why
    if after.readers[shared] == readers - 1 and shared in after.free:
        why = f"Block {shared} is in the list free, but others read it."
        return "the old block is set free", why
    return _named_taken(before, after, now[place])


@E.rule
def _texts_stay_apart(answer: Callable) -> None:
    shared = Play.of("a", 2, 2, 3)
    for who, position, letter in ((0, 1, "b"), (1, 1, "c"), (0, 2, "d"), (0, 1, "e")):
        shared.write(answer, who, position, letter)
    full = Play.of("abcd", 2, 2, 4)
    for who, position, letter in ((1, 4, "e"), (0, 4, "f"), (0, 0, "x"), (1, 1, "y"), (1, 2, "z")):
        full.write(answer, who, position, letter)
    for seed in range(12):
        _random_play(answer, random.Random(seed))


def _random_play(function: Callable, rng: random.Random) -> None:
    """Writes, forks and ends in random order."""
    size, answers = rng.randint(1, 4), rng.randint(2, 5)
    prompt = "".join(rng.choices("abcdef", k=rng.randint(1, 3 * size)))
    play = Play.of(prompt, answers, size, spare=90)
    rng.shuffle(play.books.free)
    for _ in range(60):
        living = [number for number, text in enumerate(play.texts) if text]
        who = rng.choice(living)
        event = rng.random()
        if event < 0.05 and len(living) < 7:
            play.fork(who)
        elif event < 0.08 and len(living) > 1:
            play.end(who)
        else:
            length = len(play.texts[who])
            position = length if rng.random() < 0.7 else rng.randrange(length)
            play.write(function, who, position, rng.choice("uvwxyz"))
