"""Exercise 04.7: a layout of the 405B that is predicted to be faster than the paper's.

The library's planner judges: the same batch on as many GPUs, within their memory, in less time
than the row of Table 4. A layout that wins is set beside the paper's, with what it gives up.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product

from llama3lib.model import ModelArgs, get_preset
from llama3lib.parallel.hardware import Hardware, load_hardware
from llama3lib.parallel.layout import Layout
from llama3lib.parallel.planner import Plan, layouts, predict, table_4_layout
from widgets.core.exercise import Exercise
from widgets.core.judge import Case, Mistake, run

E = Exercise(
    "04.7",
    "fast_layout",
    hints=(
        "Where does the paper's layout lose its time? planner.predict(...).cost.parts tells you. "
        "Which dimension causes the longest wait, what causes the bubble, and which other "
        "dimension could take over from both?",
        "Loop over TP, CP and PP; DP is what is left of the GPUs, and the sequences of a replica "
        "are cut into micro-batches. Put each layout to planner.predict, leave out those that need "
        "more than hardware.room, and keep the one with the least cost.seconds.",
        "for tp, cp, pp, v, recompute in product((4, 8), (1, 2, 4, 8), (8, 16), (1, 2, 4, 8, 16), "
        "('none', 'selective')): dp = gpus // (tp * cp * pp); m = batch_tokens // sequence // dp; "
        "try plan = planner.predict(args, Layout(...), sequence, hardware), and pass over a "
        "ValueError: the model cannot be cut like that. At the end min(fitting, key=lambda p: "
        "p.cost.seconds).layout.",
    ),
)


@dataclass(frozen=True)
class Question:
    """A row of Table 4 that is to be beaten, on a machine."""

    row: str
    hardware: Hardware
    machine: str

    @property
    def paper(self) -> Plan:
        """What the planner says of the paper's layout."""
        return predict(get_preset("405B"), *table_4_layout(self.row), self.hardware)

    @property
    def inputs(self) -> tuple[ModelArgs, int, int, int, Hardware]:
        """Arguments of the learner's function."""
        layout, sequence = table_4_layout(self.row)
        batch = layout.batch_sequences * sequence
        return get_preset("405B"), layout.gpus, sequence, batch, self.hardware

    @property
    def shows(self) -> str:
        """The question in words."""
        _, gpus, sequence, batch, _ = self.inputs
        return f"gpus={gpus}, sequence={sequence}, batch_tokens={batch}, {self.machine}"


@cache
def questions() -> list[Question]:
    """Rows 2 and 1 of Table 4, and row 2 on smaller GPUs."""
    h100 = load_hardware()
    first, second = ("8K sequences, 8,192 GPUs", "8K sequences, 16,384 GPUs")
    return [
        Question(second, h100, "80 GB a GPU"),
        Question(first, h100, "80 GB a GPU"),
        Question(second, replace(h100, memory_gb=64.0), "64 GB a GPU"),
    ]


@cache
def _plans(
    args: ModelArgs, gpus: int, sequence: int, batch_tokens: int, hardware: Hardware
) -> list[Plan]:
    """Layouts worth a look, whether they fit or not."""
    sizes = product((1, 2, 4, 8), (1, 2, 4, 8), (8, 16, 32))
    fixed = [dict(tp=tp, cp=cp, pp=pp, sequences=1) for tp, cp, pp in sizes]
    cut = (one for few in fixed for one in layouts(args, gpus, sequence, batch_tokens, few))
    return [predict(args, layout, sequence, hardware) for layout in cut]


@E.reference
def fast_layout(
    args: ModelArgs,
    gpus: int,
    sequence: int,
    batch_tokens: int,
    hardware: Hardware,
    *,
    least: Callable[[Plan], float] = lambda plan: plan.cost.seconds,
    allowed: Callable[[Plan], bool] = lambda plan: True,
    fits: Callable[[Plan, float], bool] = lambda plan, room: plan.memory.total <= room,
) -> Layout:
    """The layout that has least of something among those that fit."""
    plans = _plans(args, gpus, sequence, batch_tokens, hardware)
    fitting = [plan for plan in plans if allowed(plan) and fits(plan, hardware.room)]
    return min(fitting, key=least).layout


E.mistake("memory is not looked at", fits=lambda plan, room: True).why(
    "The fastest layout of all needs more memory than the GPUs have: plan.memory.total must be "
    "hardware.room at most."
)
E.mistake("the least memory is chosen", least=lambda plan: plan.memory.total).why(
    "A layout must fit; memory that stays free wins nothing. Compare the times of those that fit."
)
E.mistake("the smallest bubble is chosen", least=lambda plan: plan.layout.bubble).why(
    "The bubble is one part of the time. What makes it small has to be paid for in other parts."
)
E.mistake(
    "the fewest bytes are sent",
    least=lambda plan: sum(traffic.sent for traffic in plan.cost.traffic.values()),
).why("A byte inside a server costs a ninth of one on the network, and many hide behind computing.")
E.mistake("no context parallelism", allowed=lambda plan: plan.layout.cp == 1).why(
    "The paper cuts sequences of 8K on no row, and TP, PP and DP alone do not beat it. What can "
    "CP take over from them?"
)
E.mistake("one stage for each rank", allowed=lambda plan: plan.layout.stages == 1).why(
    "With V stages on a rank the bubble is a V-th of it."
)
E.mistake("every block is computed again", allowed=lambda p: p.layout.recompute == "full").why(
    "That saves memory which this layout does not need, and costs a third of the products."
)
E.mistake("the slowest is chosen", least=lambda plan: -plan.cost.seconds).why(
    "min or max? The least cost.seconds is asked for."
)


@E.rule
def _beats_the_paper(function: Callable) -> None:
    came = [(question, _layout(function, question)) for question in questions()]
    for question, layout in came:
        if broken := _broken(question, layout):
            raise _known(came, question) or broken
    question, layout = came[0]
    print(_compared(question, layout))


def _layout(function: Callable, question: Question) -> Layout:
    shows = question.shows
    with function.limit.longer(4):
        layout = run(function, Case(question.inputs, shows), E.what)
    if not isinstance(layout, Layout):
        why = f"{type(layout).__name__} came. Return llama3lib.parallel.layout.Layout(...)."
        raise Mistake(f"{E.what}: a Layout is needed", shows=shows, why=why)
    return layout


def _known(came: Sequence[tuple[Question, Layout]], shown: Question) -> Mistake | None:
    """The mistake that explains all layouts."""
    for known in E.mistakes:
        if all(known.function(*question.inputs) == layout for question, layout in came):
            return Mistake(known.name, shows=shown.shows, why=known.why)
    return None


def _broken(question: Question, layout: Layout) -> Mistake | None:
    """What is wrong with a layout, or None."""
    args, gpus, sequence, batch, hardware = question.inputs
    told = f"{question.shows}: {_short(layout)}"
    if layout.gpus != gpus:
        why = f"TP·CP·PP·DP is {layout.gpus}."
        return Mistake("another number of GPUs", shows=told, why=why)
    if layout.batch_sequences * sequence != batch:
        why = f"DP · M · sequences is {layout.batch_sequences}; the batch has {batch // sequence}."
        return Mistake("another batch", shows=told, why=why)
    try:
        plan = predict(args, layout, sequence, hardware)
    except ValueError as error:
        return Mistake("the model cannot be cut like this", shows=told, why=f"{error}.")
    if plan.memory.total > hardware.room:
        why = f"It needs {plan.memory.total / 1e9:.1f} GB, and {hardware.room / 1e9:.1f} are "
        return Mistake("it does not fit", shows=told, why=why + f"free: {_largest(plan)}.")
    if plan.cost.seconds >= question.paper.cost.seconds:
        why = f"{plan.cost.seconds:.3f} s a step, the paper's {question.paper.cost.seconds:.3f}. "
        _, more = _changes(plan, question.paper)
        return Mistake("not faster than the paper's layout", shows=told, why=why + f"More: {more}.")
    return None


def _short(layout: Layout) -> str:
    return (
        f"TP {layout.tp}, CP {layout.cp}, PP {layout.pp}, DP {layout.dp}, V {layout.stages}, "
        f"M {layout.micro_batches}, {layout.sequences} a micro-batch, recompute {layout.recompute}"
    )


def _largest(plan: Plan) -> str:
    """The two largest parts of the memory."""
    names = ("weights", "gradients", "optimizer", "activations", "working")
    parts = {name: getattr(plan.memory, name) for name in names}
    two = sorted(parts, key=parts.__getitem__)[:-3:-1]
    return ", ".join(f"{name} {parts[name] / 1e9:.1f}" for name in two)


def _changes(plan: Plan, other: Plan) -> tuple[str, str]:
    """Parts of the time that are shorter than the other's, and longer, the largest first."""
    changes = {name: s - other.cost.parts[name] for name, s in plan.cost.parts.items()}
    ordered = sorted(changes, key=lambda name: -abs(changes[name]))
    less, more = (
        [f"{name} {changes[name]:+.3f} s" for name in ordered if sign * changes[name] >= 0.001]
        for sign in (-1, 1)
    )
    return ", ".join(less) or "nothing", ", ".join(more) or "nothing"


def _compared(question: Question, layout: Layout) -> str:
    """Where a layout wins, what it gives up, and what is left of it on half of the network."""
    args, _, sequence, _, hardware = question.inputs
    half = replace(hardware, network_gb_per_s=hardware.network_gb_per_s / 2)
    ours, paper = predict(args, layout, sequence, hardware), question.paper
    there, paper_there = predict(args, layout, sequence, half), replace(question, hardware=half)
    less, more = _changes(ours, paper)
    pairs = {
        "a step": (ours.cost.seconds, paper.cost.seconds, "s"),
        "memory": (ours.memory.total / 1e9, paper.memory.total / 1e9, "GB"),
        "half the network": (there.cost.seconds, paper_there.paper.cost.seconds, "s a step"),
    }
    told = [f"{name}: {a:.3f} {unit}, the paper's {b:.3f}" for name, (a, b, unit) in pairs.items()]
    return "\n  ".join([_short(layout), *told, f"it wins: {less}", f"it gives up: {more}"])
