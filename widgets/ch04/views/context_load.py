"""How much attention each rank of a context-parallel group computes.

Attention costs one score for each pair of a query and a key that it may see. A causal mask gives
the last token of a sequence as many keys as there are tokens, so the place of a piece matters.
"""

from functools import lru_cache

import torch

from llama3lib.parallel.context import cut_sequence
from widgets.view import Choice, Linear, Paper, Plot, Scene, Slider, View
from widgets.view.words import significant

LENGTH = 131_072  # tokens of a sequence in the paper's long-context training (§3.4.2)
GROUPS = (2, 4, 8, 16)
CUTS = {"contiguous": "in order: one piece each", "paired": "2·CP chunks, first with last"}
TEXTS = {"one": "one document", "many": "many documents, packed"}
MEAN, SPREAD, SEED = 9.0, 1.2, 3  # ours: logarithm of the documents' lengths
EQUAL = 1.005  # loads that differ by less count as equal
LEFT, RIGHT, TOP, HIGH, CHUNKS = 74, 100, 82, 244, 34  # pixels


def document_starts(text: str) -> torch.Tensor:
    """For each token, where its document begins."""
    if text == "one":
        return torch.zeros(LENGTH, dtype=torch.long)
    draw = torch.Generator().manual_seed(SEED)
    lengths = torch.exp(MEAN + SPREAD * torch.randn(200, generator=draw)).long().clamp(min=1)
    starts = lengths.cumsum(0) - lengths
    starts = starts[starts < LENGTH]
    place = torch.arange(LENGTH)
    return starts[torch.searchsorted(starts, place, right=True) - 1]


@lru_cache(maxsize=20)
def loads(cp: int, cut: str, text: str) -> tuple[int, ...]:
    """Scores that each rank computes for one head of one sequence."""
    scores = torch.arange(LENGTH) - document_starts(text) + 1
    if cut == "contiguous":
        return tuple(int(part.sum()) for part in scores.chunk(cp))
    return tuple(int(cut_sequence(scores, rank, cp, dim=0).sum()) for rank in range(cp))


def holders(cp: int, cut: str) -> list[int]:
    """For each piece of the sequence in order, the rank that holds it."""
    return list(range(cp)) if cut == "contiguous" else [*range(cp), *reversed(range(cp))]


def slowest(found: tuple[int, ...]) -> int | None:
    """The rank with most scores; None if all are equal."""
    equal = max(found) < EQUAL * sum(found) / len(found)
    return None if equal else found.index(max(found))


def headline(found: tuple[int, ...]) -> str:
    """The title: how much longer the group waits than with equal loads."""
    most, least, mean = max(found), min(found), sum(found) / len(found)
    if slowest(found) is None:
        return "All ranks compute the same number of scores: nobody waits"
    return (
        f"The slowest rank computes {significant(most / least)} times as many scores as the "
        f"fastest; the group takes {significant(most / mean)} times as long as with equal loads"
    )


def draw_pieces(paper: Paper, cp: int, cut: str, chosen: int | None) -> None:
    """The sequence from its first to its last token, and who holds which piece."""
    held = holders(cp, cut)
    wide = (paper.width - LEFT - RIGHT) / len(held)
    size = 13 if wide > 18 else 11
    paper.text(LEFT - 8, 38, "sequence", "soft", size=13, anchor="end")
    for place, rank in enumerate(held):
        x, mine = LEFT + wide * place, rank == chosen
        with paper.group(key=f"piece {place}", tip=f"piece {place}: rank {rank}"):
            paper.rect(x, 16, wide - 2, CHUNKS, "chosen" if mine else "tint", stroke="quiet")
            ink = "on_light" if mine else "ink"
            paper.text(x + wide / 2, 38, str(rank), ink, size=size, anchor="middle", bold=mine)


def draw_loads(paper: Paper, plot: Plot, found: tuple[int, ...], chosen: int | None) -> None:
    """A bar a rank, and the line of equal loads."""
    wide = plot.width / len(found)
    for rank, scores in enumerate(found):
        x, y = plot.left + wide * rank, plot.at_y(scores / 1e9)
        role = "chosen" if rank == chosen else "main"
        tip = f"rank {rank}: {significant(scores / 1e9)} billion scores"
        with paper.group(key=f"rank {rank}", tip=tip):
            paper.rect(x + 3, y, wide - 6, plot.low - y, role)
        paper.text(x + wide / 2, plot.low + 20, str(rank), "soft", size=13, anchor="middle")
    mean = sum(found) / len(found) / 1e9
    plot.line([(0, mean), (1, mean)], "ink", dash="6 4")
    paper.text(plot.right + 8, plot.at_y(mean) + 5, "equal loads")


class ContextLoad(View):
    """Choose how a sequence is cut between ranks; see how much attention each one computes.

    cp: ranks. cut: in order, or in pairs of chunks. text: one document, or many with the mask
    between them.
    """

    cp = Slider(GROUPS, "ranks CP", start=4)
    cut = Choice(CUTS, "cut")
    text = Choice(TEXTS, "sequence of")

    def scene(self, paper: Paper, *, cp: int, cut: str, text: str) -> Scene:
        found = loads(cp, cut, text)
        most = slowest(found)
        draw_pieces(paper, cp, cut, most)
        high = 1.08 * max(max(found), max(loads(cp, "contiguous", text))) / 1e9
        y = Linear(0, high, "billion scores for a head")
        x = Linear(0, 1, "rank", ticks=())
        plot = paper.plot(x, y, left=LEFT, top=TOP, right=RIGHT, height=HIGH)
        draw_loads(paper, plot, found, most)
        total = sum(found) / 1e9
        worst = "" if most is None else f"Rank {most} has most. "
        return Scene(
            title=headline(found),
            notes=[
                f"{LENGTH:,} tokens, {significant(total)} billion scores in all. {worst}"
                "The numbers in the strip above say which rank holds which piece.",
                "Chunks i and 2·CP − 1 − i go together: what one has too little the other has too "
                "much (§3.3.2). With several documents in a row the sums differ again.",
            ],
            table=[
                {
                    "rank": rank,
                    "pieces": ", ".join(
                        str(p) for p, holder in enumerate(holders(cp, cut)) if holder == rank
                    ),
                    "billion scores": significant(scores / 1e9),
                    "against equal loads": significant(scores * cp / sum(found)),
                }
                for rank, scores in enumerate(found)
            ],
            facts={"most": max(found), "least": min(found)},
        )
