"""Who talks to whom: the ranks of a training run, and the groups of one of them.

The order is the paper's, [TP, CP, PP, DP] from the inside out (§3.3.2): ranks that are neighbours
share a server and talk most.
"""

from llama3lib.paper import infrastructure
from llama3lib.parallel.dims import ParallelDims
from widgets.view import Choice, Paper, Scene, Slider, View
from widgets.view.legend import legend
from widgets.view.words import listed, thousands

SERVER = 8  # GPUs that NVLink joins (§3.3.1)
KINDS = {
    "TP": ("tp", "first", "square", "partial sums and gathered tokens of each layer"),
    "CP": ("cp", "fifth", "triangle", "keys and values of the sequence"),
    "PP": ("pp", "third", "diamond", "activations between stages"),
    "DP": ("dp_shard", "fourth", "circle", "weights and gradients"),
}
"""By the paper's name: the field, colour, mark, and what travels in the group."""
COLUMNS = 128  # ranks in a line of the large picture
TALL = 330  # pixels
SMALL, LARGE = 4.5, 7.5  # pixels: marks of the groups, and of the chosen rank


def _of_table_4(row: str) -> ParallelDims:
    cells = infrastructure.TABLE_4.row(row)
    return ParallelDims(
        tp=int(cells["TP"]), cp=int(cells["CP"]), pp=int(cells["PP"]), dp_shard=int(cells["DP"])
    )


def setups() -> dict[str, ParallelDims]:
    """Figure 5's example and the rows of Table 4."""
    small = {"Figure 5: 16 GPUs": ParallelDims(tp=2, cp=2, pp=2, dp_shard=2)}
    return small | {f"Table 4: {row}": _of_table_4(row) for row in infrastructure.TABLE_4.rows}


SETUPS = setups()


def groups(dims: ParallelDims, rank: int) -> dict[str, list[int]]:
    """By the paper's name of each dimension, the ranks that this one talks to, itself included."""
    return {name: dims.group(rank, field) for name, (field, *_) in KINDS.items()}


def link_of(ranks: list[int]) -> str:
    """What joins them: nothing, the links of one server, or the network between servers."""
    if len(ranks) == 1:
        return "no messages"
    return "one server" if len({rank // SERVER for rank in ranks}) == 1 else "the network"


def some_ranks(dims: ParallelDims) -> list[int]:
    """Ranks that the slider offers: all of a few, and some of many."""
    if dims.world <= 64:
        return list(range(dims.world))
    step = dims.world // 64 + 1  # odd places too, so that all coordinates change
    return sorted({*range(0, dims.world, step), dims.world - 1})


def headline(dims: ParallelDims, rank: int) -> str:
    """The title: how many other ranks this one talks to, and how few that are."""
    others = {other for group in groups(dims, rank).values() for other in group} - {rank}
    return (
        f"Rank {thousands(rank)} talks to {len(others)} of the {thousands(dims.world - 1)} others"
    )


def draw_few(paper: Paper, dims: ParallelDims, rank: int) -> float:
    """Each rank as a box with its place, a line a server; the base line below."""
    found, wide = groups(dims, rank), (paper.width - 90) / SERVER
    for other in range(dims.world):
        server, place = divmod(other, SERVER)
        x, y = 80 + wide * place, 16 + 112 * server
        mine = [name for name, group in found.items() if other in group and other != rank]
        role = KINDS[mine[0]][1] if mine else "tint"
        here = dims.coordinates(other)
        told = ", ".join(f"{name} {here[field]}" for name, (field, *_) in KINDS.items())
        with paper.group(key=f"rank {other}", put=("rank", other), tip=f"rank {other}: {told}"):
            edge = "chosen" if other == rank else role if mine else "quiet"
            thick = 4 if other == rank or mine else 1
            paper.rect(x, y, wide - 10, 84, "paper", stroke=edge, stroke_width=thick, round=6)
            if not paper.narrow and (other == rank or mine):
                mark, size = ("square", LARGE) if other == rank else (KINDS[mine[0]][2], SMALL)
                paper.mark(mark, x + wide - 24, y + 19, edge, size=size)
            name_of = str(other) if paper.narrow else f"rank {other}"
            paper.text(x + 10, y + 24, name_of, bold=other == rank or bool(mine))
            for line, name in enumerate(() if paper.narrow else KINDS):
                at = (x + 10 + 0.5 * (wide - 20) * (line % 2), y + 48 + 20 * (line // 2))
                paper.text(*at, f"{name} {here[KINDS[name][0]]}", "soft", size=12)
    for server in range(dims.world // SERVER):
        paper.text(4, 62 + 112 * server, f"server {server}", "soft", size=13)
    return 16 + 112 * (dims.world // SERVER)


def draw_many(paper: Paper, dims: ParallelDims, rank: int) -> float:
    """All ranks as one field, a line of 128; only the groups of the chosen one are marked."""
    lines = -(-dims.world // COLUMNS)
    left, top, wide = 80, 26, paper.width - 100
    words = f"each line: {COLUMNS} ranks, {COLUMNS // SERVER} servers; its first rank at the left"
    paper.text(left, top - 10, words, "soft", size=13)
    column, row = wide / COLUMNS, (TALL - 40) / lines
    paper.rect(left, top, wide, row * lines, "tint", stroke="grid")
    for number in (0, lines // 2, lines - 1):
        words = thousands(number * COLUMNS)
        paper.text(left - 8, top + row * (number + 0.5) + 5, words, "soft", size=12, anchor="end")

    def place(other: int) -> tuple[float, float]:
        return left + column * (other % COLUMNS + 0.5), top + row * (other // COLUMNS + 0.5)

    thin = {"stroke": "paper", "stroke_width": 0.6}  # ink would fill a column whose marks touch
    for name, group in reversed(groups(dims, rank).items()):
        _, role, mark, _ = KINDS[name]
        for other in group:
            if other != rank:
                tip = f"{name}: rank {thousands(other)}"
                paper.mark(mark, *place(other), role, size=SMALL, **thin, tip=tip)
    paper.mark("square", *place(rank), "chosen", size=LARGE, tip=f"rank {thousands(rank)}, chosen")
    return top + row * lines


class RankMap(View):
    """Choose a rank; see its four groups and what joins them.

    setup: a name of SETUPS. rank: the chosen one.
    """

    setup = Choice(list(SETUPS), "GPUs")
    rank = Slider(lambda view, values: some_ranks(SETUPS[values["setup"]]), "rank", text=thousands)

    def scene(self, paper: Paper, *, setup: str, rank: int) -> Scene:
        dims = SETUPS[setup]
        low = (draw_few if dims.world <= 64 else draw_many)(paper, dims, rank)
        signs = [(mark, role, f"{name}: {what}") for name, (_, role, mark, what) in KINDS.items()]
        legend(paper, 80, low + 24, [("square", "chosen", "chosen", {"size": LARGE}), *signs])
        here = dims.coordinates(rank)
        told = [f"{name} {here[field]} of {getattr(dims, field)}"
                for name, (field, *_) in KINDS.items()]  # fmt: skip
        found = groups(dims, rank)
        far = [name for name, group in found.items() if link_of(group) == "the network"]
        return Scene(
            title=headline(dims, rank),
            notes=[
                f"Its places, counted from 0: {listed(told)}. "
                f"Across the network: {listed(far) or 'none'}.",
                f"A server has {SERVER} GPUs. Every rank is in one group of each dimension; TP is "
                "innermost, for it talks in each layer.",
            ],
            table=[
                {
                    "group": name,
                    "ranks": len(group),
                    "first ranks": ", ".join(map(str, group[:4])) + ("…" if len(group) > 4 else ""),
                    "joined by": link_of(group),
                    "what travels": KINDS[name][3],
                }
                for name, group in found.items()
            ],
            facts={"rank": rank, "world": dims.world},
        )
