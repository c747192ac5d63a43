"""What fills the memory of each rank of a pipeline, before anything runs."""

from dataclasses import replace
from functools import lru_cache

from llama3lib.model import get_preset
from llama3lib.paper.infrastructure import TABLE_4
from llama3lib.parallel.hardware import load_hardware
from llama3lib.parallel.layout import Layout
from llama3lib.parallel.memory import Memory, rank_memory
from llama3lib.parallel.planner import table_4_layout
from widgets.view import Choice, Linear, Paper, Plot, Scene, Toggle, View
from widgets.view.legend import legend
from widgets.view.words import significant

GB = 1e9
PARTS = {
    "weights": ("first", "weights"),
    "gradients": ("second", "gradients"),
    "optimizer": ("third", "optimizer state"),
    "activations": ("fourth", "activations"),
    "working": ("fifth", "while one block is computed"),
}
"""Fields of `Memory`: colour and words."""
RECOMPUTE = {
    "none": "nothing",
    "selective": "all but products and attention",
    "full": "every block, from its input",
}
PAPER = (
    "V is not printed: eight follows from what the paper says of the two ends. What is computed "
    "again in the 128K row is ours."
)
ROWS = list(TABLE_4.rows)
LEFT, RIGHT, TOP, HIGH = 60, 96, 30, 262  # pixels


def setups() -> dict[str, tuple[str, Layout, int]]:
    """Model, layout and sequence length by name: one server for the 8B, and Table 4."""
    server = Layout(dp=8, micro_batches=1, sequences=1)
    found = {"8B on one server, FSDP 8": ("8B", server, 8192)}
    return found | {f"405B, {row}": ("405B", *table_4_layout(row)) for row in ROWS}


SETUPS = setups()


@lru_cache(maxsize=100)
def memories(setup: str, recompute: str, reshard: bool) -> tuple[Memory, ...]:
    """One for each rank of the pipeline."""
    model, layout, sequence = SETUPS[setup]
    layout = replace(layout, recompute=recompute, reshard=reshard)
    args = get_preset(model).replace(max_seq_len=max(sequence, get_preset(model).max_seq_len))
    return tuple(rank_memory(args, layout, sequence, rank) for rank in range(layout.pp))


def headline(found: tuple[Memory, ...], room: float) -> str:
    """The title: which rank needs most, and whether that fits."""
    most = max(found, key=lambda memory: memory.total)
    need = significant(most.total / GB)
    who = f"Rank {found.index(most)} needs most" if len(found) > 1 else "Every GPU needs the same"
    fits = "fits into" if most.total <= room else "does not fit into"
    share = f"{100 * most.activations / most.total:.0f}% of it activations"
    return f"{who}, {need} GB, {share}: it {fits} {significant(room / GB)} GB"


def draw(paper: Paper, plot: Plot, found: tuple[Memory, ...], room: float) -> None:
    """A column a rank, its parts on each other."""
    wide = plot.width / len(found)
    for rank, memory in enumerate(found):
        x, low = plot.left + wide * rank, 0.0
        for part, (role, words) in PARTS.items():
            amount = getattr(memory, part) / GB
            top, bottom = plot.at_y(low + amount), plot.at_y(low)
            tip = f"rank {rank}, {words}: {significant(amount)} GB"
            column = min(wide - 4, 90)
            place = (x + (wide - column) / 2, top, column, bottom - top)
            paper.rect(*place, role, key=f"{rank} {part}", tip=tip)
            low += amount
        paper.text(x + wide / 2, plot.low + 20, str(rank), "soft", size=13, anchor="middle")
    plot.line([(0, room / GB), (1, room / GB)], "ink", dash="6 4")
    y = plot.at_y(room / GB)
    paper.text(plot.right + 8, y + 5, f"{significant(room / GB)} GB")
    paper.text(plot.right + 8, y + 22, "can be used")


class RankMemory(View):
    """Choose a layout and what is computed again; see what each pipeline rank must hold.

    setup: a name of SETUPS. recompute: a key of RECOMPUTE. reshard: whether gathered weights are
    given up after use.
    """

    setup = Choice(list(SETUPS), "layout", start=f"405B, {ROWS[0]}")
    recompute = Choice(RECOMPUTE, "computed again", start="selective")
    reshard = Toggle("give up gathered weights")

    def scene(self, paper: Paper, *, setup: str, recompute: str, reshard: bool) -> Scene:
        hardware = load_hardware()
        found = memories(setup, recompute, reshard)
        most = max(memory.total for memory in found) / GB
        high = 1.12 * max(most, hardware.room / GB)
        plot = paper.plot(
            Linear(0, 1, "rank of the pipeline", ticks=()),
            Linear(0, high, "GB on one GPU"),
            left=LEFT,
            top=TOP,
            right=RIGHT,
            height=HIGH,
        )
        draw(paper, plot, found, hardware.room)
        legend(
            paper, LEFT, plot.low + 70, [("area", role, words) for role, words in PARTS.values()]
        )
        _, layout, sequence = SETUPS[setup]
        return Scene(
            title=headline(found, hardware.room),
            notes=[
                f"TP {layout.tp}, CP {layout.cp}, PP {layout.pp}, DP {layout.dp}, "
                f"V {layout.stages}, M {layout.micro_batches}, sequences of {sequence:,} tokens.",
                "BF16 weights and activations, FP32 gradients kept whole, FP32 weights and moments "
                f"of AdamW sharded; {significant(hardware.reserved_gb)} GB are kept free (ours).",
                *([PAPER] if layout.pp > 1 else []),
            ],
            table=[
                {"rank": rank}
                | {words: significant(getattr(m, part) / GB) for part, (_, words) in PARTS.items()}
                | {"all, GB": significant(m.total / GB)}
                for rank, m in enumerate(found)
            ],
            facts={"most": round(most, 3), "fits": most * GB <= hardware.room},
        )
