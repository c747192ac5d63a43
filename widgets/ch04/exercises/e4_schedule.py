"""Exercise 04.4: an order for a pipeline whose ranks have room for few micro-batches.

Whatever order comes is played by the library's simulator: it must be whole, must not deadlock,
must keep the limit on every rank, and must be as fast as the reference's.
"""

from collections.abc import Callable, Sequence
from functools import partial

from llama3lib.parallel.schedules import Action, Timeline, simulate
from widgets.core.exercise import Exercise
from widgets.core.forms import single
from widgets.core.judge import Case, Mistake, run

E = Exercise(
    "04.4",
    "schedule",
    hints=(
        "1F1B has a rhythm: a forward pass, a backward pass, a forward pass. Where the memory is "
        "short of what it wants, a rank waits for its turn although it could do something else. "
        "What could each rank do, at each moment?",
        "Play the pipeline by a clock. Whenever a rank is free, it takes a backward pass if one is "
        "ready, for that makes room. Else it takes a forward pass if one is ready and fewer than "
        "`limit` micro-batches are open. Write down what it takes: that is the order.",
        "Keep when each ('F', rank, i) and ('B', rank, i) ends. At time t, a free rank may do B of "
        "its oldest open i if its own F is over and rank + 1 has ended B of i (the last rank needs "
        "its F alone); it may do F of its next i if rank - 1 has ended F of i, and next - done < "
        "limit. F takes 1, B takes 2. Then t += 1.",
    ),
)
FORWARD, BACKWARD = 1, 2
"""Time of a pass."""
Order = list[list[tuple[str, int]]]
Question = tuple[int, int, int]


@E.reference
def schedule(stages: int, micro_batches: int, limit: int, *, prefer: str = "BF") -> Order:
    """Played by a clock: backward if it can, else forward if it can and there is room."""
    order: Order = [[] for _ in range(stages)]
    ends: dict[tuple[str, int, int], int] = {}
    free, done, time = [0] * stages, {"F": [0] * stages, "B": [0] * stages}, 0

    def ready(kind: str, rank: int) -> bool:
        i = done[kind][rank]
        if kind == "F":
            needed = [("F", rank - 1, i)] if rank else []
            fits = i < micro_batches and i - done["B"][rank] < limit
        else:
            needed = [("F", rank, i)] + [("B", rank + 1, i)] * (rank + 1 < stages)
            fits = i < micro_batches
        return fits and all(ends.get(one, time + 1) <= time for one in needed)

    while done["B"] != [micro_batches] * stages:
        for rank in range(stages):
            kind = next((kind for kind in prefer if ready(kind, rank)), None)
            if free[rank] > time or kind is None:
                continue
            i = done[kind][rank]
            free[rank] = ends[kind, rank, i] = time + (FORWARD if kind == "F" else BACKWARD)
            done[kind][rank] = i + 1
            order[rank].append((kind, i))
        time += 1
    return order


def _rhythm(
    stages: int, micro_batches: int, limit: int, *, warm_up: Callable[[int, int, int], int]
) -> Order:
    """So many forward passes, then backward and forward in turn, and what is left."""
    order: Order = []
    for rank in range(stages):
        first = min(micro_batches, warm_up(rank, stages, limit))
        actions = [("F", i) for i in range(first)]
        for i in range(micro_batches):
            actions += [("B", i)] + [("F", i + first)] * (i + first < micro_batches)
        order.append(actions)
    return order


def _groups(stages: int, micro_batches: int, limit: int, *, back: int = 1) -> Order:
    """The pipeline is filled with `limit` micro-batches, and emptied, before the next ones."""
    actions = []
    for start in range(0, micro_batches, limit):
        some = list(range(start, min(start + limit, micro_batches)))
        actions += [("F", i) for i in some] + [("B", i) for i in some[::back]]
    return [list(actions) for _ in range(stages)]


E.mistake("all forward passes come first", partial(_rhythm, warm_up=lambda *_: 10**9)).why(
    "Then every micro-batch is open at once. A backward pass makes room for the next one."
)
E.mistake(
    "the limit is ignored", partial(_rhythm, warm_up=lambda rank, stages, limit: stages - rank)
).why("This is plain 1F1B: rank 0 opens as many micro-batches as there are stages.")
E.mistake(
    "one micro-batch more than the limit is open",
    partial(_rhythm, warm_up=lambda rank, stages, limit: min(limit, stages - rank) + 1),
).why("A forward pass may begin only while fewer than `limit` are open.")
E.mistake(
    "1F1B with a shorter beginning",
    partial(_rhythm, warm_up=lambda rank, stages, limit: min(limit, stages - rank)),
).why(
    "It keeps the limit. But the middle ranks wait for their turn to go backward, although they "
    "could open another micro-batch meanwhile."
)
E.mistake("forward passes are preferred", prefer="FB").why(
    "If both are ready, the backward pass makes room, and the ranks before wait for it."
)
E.mistake("one micro-batch at a time", partial(_rhythm, warm_up=lambda rank, stages, limit: 1)).why(
    "While the last rank works on the first micro-batch, the others could take the next."
)
E.mistake(
    "all ranks begin with as many forward passes",
    partial(_rhythm, warm_up=lambda rank, stages, limit: limit),
).why("The last rank can go backward after its first forward pass. Others wait for it to do so.")
E.mistake(
    "the first ranks begin with the fewest forward passes",
    partial(_rhythm, warm_up=lambda rank, stages, limit: min(limit, rank + 1)),
).why("Rank 0 waits for a backward pass whose way leads over ranks that wait for more from rank 0.")
E.mistake("the pipeline is emptied after each group", _groups).why(
    "As soon as one micro-batch of the group has come back, there is room for one of the next."
)
E.mistake("the newest micro-batch goes backward first", partial(_groups, back=-1)).why(
    "The oldest has been ready for longest, and others wait for it."
)

QUESTIONS = [
    *((1, 1, 1), (1, 2, 1), (1, 3, 2), (2, 1, 1), (2, 2, 1), (2, 2, 2), (2, 3, 2), (3, 3, 2)),
    *((3, 4, 2), (4, 8, 4), (4, 8, 3), (4, 8, 2), (4, 8, 1), (4, 8, 8)),
]


@E.rule
def _plays(function: Callable) -> None:
    played = [(question, _order(function, question)) for question in QUESTIONS]
    for question, order in played:
        if broken := _broken(question, order):
            for known in E.mistakes:
                if all(known.function(*asked) == came for asked, came in played):
                    broken = known.name, known.why
                    break
            name, why = broken
            raise Mistake(name, shows=_shows(question), why=why)


def _shows(question: Question) -> str:
    return "stages={}, micro_batches={}, limit={}".format(*question)


def _order(function: Callable, question: Question) -> Order:
    """What the learner's function returns, as lists of pairs. Raises Mistake for another form."""
    stages, micro_batches, _ = question
    shows = _shows(question)
    came = run(function, Case(question, shows), E.what)
    if not isinstance(came, list | tuple) or len(came) != stages:
        why = "An order is a list with one list of actions for each rank."
        raise Mistake(f"{E.what}: one list for each rank is needed", shows=shows, why=why)
    return [[_action(one, micro_batches, shows) for one in _listed(row, shows)] for row in came]


def _listed(row: object, shows: str) -> Sequence:
    if not isinstance(row, list | tuple):
        why = f"{row!r:.60} came for a rank."
        raise Mistake(f"{E.what}: one list for each rank is needed", shows=shows, why=why)
    return row


def _action(one: object, micro_batches: int, shows: str) -> tuple[str, int]:
    kind, i = one if isinstance(one, list | tuple) and len(one) == 2 else (None, None)
    i = single(i)
    if not (isinstance(kind, str) and kind in ("F", "B") and type(i) is int):
        why = f"{one!r:.60} came. Forward of micro-batch 0 is ('F', 0), and backward ('B', 0)."
        raise Mistake(f"{E.what}: something is no action", shows=shows, why=why)
    if not 0 <= i < micro_batches:
        why = f"{(kind, i)} came; micro-batches are numbered from 0 to {micro_batches - 1}."
        raise Mistake("a micro-batch that is not there", shows=shows, why=why)
    return kind, i


def _broken(question: Question, order: Order) -> tuple[str, str] | None:
    """Name and explanation of what is wrong with an order, or None."""
    stages, micro_batches, limit = question
    for rank, actions in enumerate(order):
        if wrong := _incomplete(rank, actions, micro_batches):
            return wrong
    try:
        line = _timeline(order)
    except ValueError:
        return "deadlock", _stuck(order)
    for rank in range(stages):
        if (most := line.peak_in_flight(rank)) > limit:
            why = f"Rank {rank} has {most} micro-batches open at one time, and room for {limit}."
            return f"over the memory limit on rank {rank}", why
    best = _timeline(schedule(*question))
    if line.wall > best.wall:
        idle, least = line.idle_share, best.idle_share
        why = f"It takes {line.wall:g}, and {best.wall:g} is possible: the ranks wait {idle:.0%} "
        return "too slow", why + f"of the time, where {least:.0%} would do."
    return None


def _timeline(order: Order) -> Timeline:
    actions = [[Action(kind, rank, i) for kind, i in row] for rank, row in enumerate(order)]
    return simulate(actions, forward=float(FORWARD), backward=float(BACKWARD))


def _incomplete(rank: int, actions: list[tuple[str, int]], micro_batches: int) -> tuple | None:
    for i in range(micro_batches):
        for kind in "FB":
            count = actions.count((kind, i))
            if count != 1:
                name = "an action is missing" if count == 0 else "an action comes twice"
                return name, f"Rank {rank} has {(kind, i)} {count} times; each is done once."
        if actions.index(("B", i)) < actions.index(("F", i)):
            why = f"On rank {rank} {('B', i)} stands before {('F', i)}, whose results it needs."
            return "backward comes before forward", why
    return None


def _stuck(order: Order) -> str:
    """Which rank waits first, and what for."""
    places, moved = [0] * len(order), True
    done: set[tuple[str, int, int]] = set()

    def lacks(rank: int) -> tuple[str, int, int] | None:
        kind, i = order[rank][places[rank]]
        other = rank - 1 if kind == "F" else rank + 1
        needed = (kind, other, i)
        return needed if 0 <= other < len(order) and needed not in done else None

    while moved:
        moved = False
        for rank, actions in enumerate(order):
            while places[rank] < len(actions) and not lacks(rank):
                kind, i = actions[places[rank]]
                done.add((kind, rank, i))
                places[rank], moved = places[rank] + 1, True
    told = []
    for rank, actions in enumerate(order):
        if places[rank] < len(actions):
            kind, other, i = lacks(rank)
            told.append(f"rank {rank} for {(kind, i)} of rank {other}")
    return f"All wait for each other: {', '.join(told)}."
