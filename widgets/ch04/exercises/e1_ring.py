"""Exercise 04.1: a ring all-reduce from messages to the next rank.

Each rank is a generator, so that all of them can be played in one process: `send` leaves a message
for the next rank, `yield` waits for one from the rank before. Sums and sent numbers are judged.
"""

from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass
from types import GeneratorType

import torch
from torch import Tensor

from widgets.core.exercise import Exercise
from widgets.core.forms import same
from widgets.core.judge import Case, Mistake, check_form, run

E = Exercise(
    "04.1",
    "ring_all_reduce",
    hints=(
        "If whole tensors went round, each rank would send n - 1 of them. Cut the tensor into n "
        "pieces instead: while one rank adds to the first piece, another can add to the second. "
        "After how many turns is each piece summed up somewhere, and where?",
        "Two rounds of n - 1 turns. In the first a rank sends a piece on, receives the piece "
        "before it, and adds its own numbers to what came; it sends that sum in the next turn. "
        "At the end it has one piece of the total. In the second round the finished pieces go "
        "round, and what comes replaces what was there.",
        "parts = list(x.tensor_split(ranks)). First round, turn t: send(parts[(rank - t) % "
        "ranks]), then came = yield, and add it to parts[(rank - t - 1) % ranks]. Now "
        "parts[(rank + 1) % ranks] is complete: the second round begins with it, and goes down "
        "in the same way.",
    ),
)
Send = Callable[[Tensor], None]
Rank = Generator[None, Tensor, Tensor]


def _pieces(x: Tensor, ranks: int) -> list[Tensor]:
    return list(x.tensor_split(ranks))


@E.reference
def ring_all_reduce(
    x: Tensor,
    rank: int,
    ranks: int,
    send: Send,
    *,
    cut: Callable[[Tensor, int], list[Tensor]] = _pieces,
    add: Callable[[Tensor, Tensor], Tensor] = torch.add,
    turns: Callable[[int], int] = lambda ranks: ranks - 1,
    second_turns: Callable[[int], int] = lambda ranks: ranks - 1,
    second_start: int = 1,
    replace: Callable[[Tensor, Tensor], Tensor] = lambda own, came: came,
    last: Callable[[Tensor, int], Tensor] = lambda total, ranks: total,
) -> Rank:
    """Reduce-scatter, then all-gather, a piece to the next rank in each turn."""
    parts = cut(x, ranks)
    for turn in range(turns(ranks)):
        send(parts[(rank - turn) % ranks])
        to = (rank - turn - 1) % ranks
        parts[to] = add(parts[to], (yield))
    for turn in range(second_turns(ranks)):
        send(parts[(rank + second_start - turn) % ranks])
        to = (rank + second_start - turn - 1) % ranks
        parts[to] = replace(parts[to], (yield))
    return last(torch.cat(parts), ranks)


def _whole_tensors(x: Tensor, rank: int, ranks: int, send: Send) -> Rank:
    total = travelling = x
    for _ in range(ranks - 1):
        send(travelling)
        travelling = yield
        total = total + travelling
    return total


def _sums_of_whole_tensors(x: Tensor, rank: int, ranks: int, send: Send) -> Rank:
    total = x
    for _ in range(ranks - 1):
        send(total)
        total = x + (yield)
    return total


def _along_the_ring(x: Tensor, rank: int, ranks: int, send: Send) -> Rank:
    """Rank 0 begins, the last rank has the sum, and it goes round once more."""
    total = x + (yield) if rank else x
    if ranks == 1:
        return total
    send(total)
    came = yield
    if rank == ranks - 1:
        return total
    if rank < ranks - 2:
        send(came)
    return came


def _receives_first(x: Tensor, rank: int, ranks: int, send: Send) -> Rank:
    parts = _pieces(x, ranks)
    for first in (0, 1):
        for turn in range(ranks - 1):
            to = (rank + first - turn - 1) % ranks
            came = yield
            send(parts[(rank + first - turn) % ranks])
            parts[to] = came if first else parts[to] + came
    return torch.cat(parts)


def _own_pieces(x: Tensor, rank: int, ranks: int, send: Send) -> Rank:
    """What is sent on is the rank's own piece, not the sum that has come so far."""
    own, parts = _pieces(x, ranks), _pieces(x, ranks)
    for turn in range(ranks - 1):
        send(own[(rank - turn) % ranks])
        to = (rank - turn - 1) % ranks
        parts[to] = parts[to] + (yield)
    for turn in range(ranks - 1):
        send(parts[(rank + 1 - turn) % ranks])
        parts[(rank - turn) % ranks] = yield
    return torch.cat(parts)


def _equal_pieces(x: Tensor, ranks: int) -> list[Tensor]:
    """Without the rest of the division."""
    size = len(x) // ranks
    return [x[at * size : (at + 1) * size] for at in range(ranks)]


E.mistake("whole tensors go round", _whole_tensors, _sums_of_whole_tensors).why(
    "Each rank sends n - 1 tensors. Cut them into n pieces, and let each piece be summed up on "
    "its way."
)
E.mistake("one rank after the other sends the whole sum", _along_the_ring).why(
    "While one rank sends, all others wait, and each sends the tensor up to twice. With n pieces "
    "all can send at the same time."
)
E.mistake("everybody waits before sending", _receives_first).why(
    "Every rank waits for a message that nobody has sent. Send first, then receive."
)
E.mistake("the sums stay where they are", second_turns=lambda ranks: 0).why(
    "After the first round each rank has one piece of the total. The pieces have to go round."
)
E.mistake("finished pieces are added once more", replace=torch.add).why(
    "In the second round a piece is complete: it replaces the one that was there."
)
E.mistake("the second round begins with an unfinished piece", second_start=0).why(
    "Which piece did the rank add to last? That one is complete."
)
E.mistake("pieces are replaced, not added", add=lambda own, came: came).why(
    "In the first round the rank adds its own numbers to what comes."
)
E.mistake("the sums so far are not sent on", _own_pieces).why(
    "What goes on to the next rank is the sum: what came, and one's own numbers."
)
E.mistake("one turn too many", turns=lambda ranks: ranks, second_turns=lambda ranks: ranks).why(
    "With n ranks a piece has n - 1 steps to go until all have added to it."
)
E.mistake("one turn too many in the first round", turns=lambda ranks: ranks).why(
    "With n ranks a piece has n - 1 steps to go until all have added to it."
)
E.mistake(
    "one turn too few", turns=lambda ranks: ranks - 2, second_turns=lambda ranks: ranks - 2
).why("With n ranks a piece has n - 1 steps to go until all have added to it.")
E.mistake("the rest of the division is lost", cut=_equal_pieces).why(
    "7 numbers in 3 pieces are 3, 2 and 2. tensor_split knows that."
)
E.mistake("a mean, not a sum", last=lambda total, ranks: total / ranks).why(
    "What is asked for is the sum of all ranks' tensors."
)


@dataclass(frozen=True)
class Ring:
    """What the ranks have, and how it went when they were played."""

    tensors: tuple[Tensor, ...]

    @property
    def shows(self) -> str:
        """The case in words."""
        size, ranks = len(self.tensors[0]), len(self.tensors)
        return f"{ranks} rank{'s' * (ranks > 1)}, tensors of {size} number{'s' * (size != 1)}"

    @property
    def most(self) -> int:
        """Numbers that a rank may send: 2 · (n - 1) pieces, the larger ones if they differ."""
        ranks = len(self.tensors)
        return 2 * (ranks - 1) * -(-len(self.tensors[0]) // ranks)


@dataclass(frozen=True)
class Played:
    """How a ring ended: results of the ranks that returned, numbers sent, messages left over."""

    results: tuple[object, ...]
    waits: tuple[int, ...]
    """Ranks that wait for ever, without a result."""
    sent: tuple[int, ...]
    left: tuple[int, ...]


def _rings() -> list[Ring]:
    draw = torch.Generator().manual_seed(4)
    sizes = ((1, 2), (2, 2), (2, 4), (2, 3), (3, 3), (3, 7), (4, 2), (4, 8), (8, 100), (5, 1003))
    return [Ring(tuple(torch.randn(n, generator=draw) for _ in range(r))) for r, n in sizes]


def _play(function: Callable, ring: Ring) -> Played:
    """Let the ranks go on in turn until all have returned or all wait."""
    ranks = len(ring.tensors)
    inboxes = [deque() for _ in range(ranks)]
    sent, results, waiting = [0] * ranks, [None] * ranks, {}

    def sender(rank: int) -> Send:
        def send(message: Tensor) -> None:
            if not isinstance(message, Tensor):
                why = f"{type(message).__name__} came on rank {rank}. Send a piece of the tensor."
                raise Mistake("send takes a tensor", shows=ring.shows, why=why)
            sent[rank] += message.numel()
            inboxes[(rank + 1) % ranks].append(message.detach().clone())

        return send

    def go_on(rank: int, message: Tensor | None) -> None:
        try:
            said = waiting[rank].send(message)
        except StopIteration as end:
            results[rank] = end.value
            del waiting[rank]
            return
        if said is not None:
            why = "`yield piece` hands nothing on: write send(piece), and then came = yield."
            raise Mistake("yield only receives", shows=ring.shows, why=why)

    for rank, x in enumerate(ring.tensors):
        made = function(x.clone(), rank, ranks, sender(rank))
        if not isinstance(made, GeneratorType):
            why = f"{type(made).__name__} came. `came = yield` waits for a message; without it "
            why += "the function ends before any has arrived."
            raise Mistake("nothing is received", shows=ring.shows, why=why)
        waiting[rank] = made
    for rank in range(ranks):
        go_on(rank, None)
    while ready := [rank for rank in waiting if inboxes[rank]]:
        for rank in ready:
            go_on(rank, inboxes[rank].popleft())
    for rank in waiting:
        waiting[rank].close()
    return Played(tuple(results), tuple(waiting), tuple(sent), tuple(map(len, inboxes)))


@E.rule
def _sums_with_few_messages(function: Callable) -> None:
    rings = _rings()
    played = [_watched(function, ring) for ring in rings]
    for ring, came in zip(rings, played, strict=True):
        broken = _broken(ring, came)
        if broken is None:
            continue
        for known in E.mistakes:
            pairs = zip(rings, played, strict=True)
            if all(_alike(_play(known.function, one), other) for one, other in pairs):
                raise Mistake(known.name, shows=ring.shows, why=known.why)
        raise broken


def _watched(function: Callable, ring: Ring) -> Played:
    """Played under the time limit, with errors told as any function's are."""
    return run(lambda: function.limit.call(_play, (function, ring)), Case((), ring.shows), E.what)


def _broken(ring: Ring, came: Played) -> Mistake | None:
    """What is wrong with one ring, or None."""
    shows = ring.shows
    if came.waits:
        told = ", ".join(map(str, came.waits))
        why = f"When nothing more was sent, these ranks still waited: {told}."
        return Mistake("ranks wait for ever", shows=shows, why=why)
    want = torch.stack(ring.tensors).sum(0)
    for rank, result in enumerate(came.results):
        result = run(lambda result=result: result, Case((), shows), E.what)
        try:
            result = check_form(result, want, E.what, shows)
        except Mistake as form:
            return form
        if not same(result, want, 1e-4):
            why = f"Rank {rank} has another tensor than the sum of all ranks'."
            return Mistake("not the sum", shows=shows, why=why)
    most = max(came.sent)
    if most > ring.most:
        why = f"Rank {came.sent.index(most)} sends {most} numbers; {ring.most} are enough, "
        why += "2·(n - 1) pieces."
        return Mistake("more is sent than needed", shows=shows, why=why)
    if any(came.left):
        rank = next(rank for rank, left in enumerate(came.left) if left)
        why = f"Rank {rank} has returned and not received all."
        return Mistake("a message is left over", shows=shows, why=why)
    return None


def _alike(one: Played, other: Played) -> bool:
    if (one.waits, one.sent, one.left) != (other.waits, other.sent, other.left):
        return False
    return same(one.results, other.results, 1e-4)
