"""Grouped-query attention: which query heads share a key/value head, and what that saves.

The arithmetic is `2 · layers · KV heads · head size · 2 bytes` per token (§3.2, Table 3).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from llama3lib.model import ModelArgs, get_preset
from llama3lib.model.flops import count_parameters, kv_cache_bytes
from widgets.core.colours import SERIES
from widgets.view import Choice, Paper, Scene, Slider, View
from widgets.view.measure import text_width
from widgets.view.words import count_of, gibibytes, kibibytes, thousands

MODELS = ("8B", "70B", "405B")
CONTEXTS = tuple(2**power for power in range(10, 18))  # 1,024 to 131,072 tokens
ON_LIGHT = ("second", "fourth", "fifth", "sixth", "seventh")  # hues that dark words stand on


def kv_head_choices(n_heads: int) -> list[int]:
    """Every number of KV heads that splits the query heads evenly, the smallest (MQA) first."""
    if n_heads < 1:
        raise ValueError(f"n_heads={n_heads} is not allowed: a whole number, 1 or more")
    return [k for k in range(1, n_heads + 1) if n_heads % k == 0]


def sharing(n_heads: int, kv_heads: int) -> list[int]:
    """The KV head that each query head reads: neighbours share.

    >>> sharing(8, 2)
    [0, 0, 0, 0, 1, 1, 1, 1]
    """
    _check_divides(n_heads, kv_heads)
    group = n_heads // kv_heads
    return [head // group for head in range(n_heads)]


@dataclass(frozen=True, kw_only=True)
class CacheCost:
    """What one choice of KV heads costs one sequence, in bytes of bfloat16."""

    kv_heads: int
    group: int
    """Query heads on each KV head."""
    bytes_per_token: int
    cache_bytes: int
    """Keys and values of the whole context."""
    weight_bytes: int
    """Weights read for one token: all but the input embedding, of which one row is read."""

    @property
    def traffic_bytes(self) -> int:
        """Read from memory to decode one token of one sequence: the weights and the whole cache."""
        return self.weight_bytes + self.cache_bytes

    @property
    def saving(self) -> int:
        """How many times smaller the cache is than with one KV head per query head."""
        return self.group


def cache_cost(args: ModelArgs, kv_heads: int, context: int) -> CacheCost:
    """Cost of `args` with another number of KV heads at a context of that many tokens.

    Raises ValueError if kv_heads does not divide the query heads or context is below 1.
    """
    _check_divides(args.n_heads, kv_heads)
    changed = args.replace(n_kv_heads=kv_heads)
    return CacheCost(
        kv_heads=kv_heads,
        group=args.n_heads // kv_heads,
        bytes_per_token=kv_cache_bytes(changed),
        cache_bytes=kv_cache_bytes(changed, context),
        weight_bytes=2 * _read_parameters(changed),
    )


def compare(args: ModelArgs, kv_heads: int, context: int) -> list[tuple[str, CacheCost]]:
    """The rows of the picture and the table: MHA, the choice, the release, MQA."""
    released = args.n_kv_heads
    rows = [
        ("one each (MHA)", args.n_heads),
        ("your choice", kv_heads),
        ("released (GQA)", released),
        ("one for all (MQA)", 1),
    ]
    return [(name, cache_cost(args, heads, context)) for name, heads in rows]


def _read_parameters(args: ModelArgs) -> int:
    """Parameters that take part in one token; a tied embedding is read as the output matrix."""
    count = count_parameters(args)
    return count.total - (0 if args.tie_embeddings else count.embedding)


def _check_divides(n_heads: int, kv_heads: int) -> None:
    if kv_heads < 1 or n_heads % kv_heads:
        allowed = ", ".join(map(str, kv_head_choices(n_heads)))
        raise ValueError(f"kv_heads={kv_heads} is not allowed: one of {allowed}")


def headline(name: str, args: ModelArgs, kv_heads: int, context: int) -> str:
    """The title: what to see in this picture."""
    cost = cache_cost(args, kv_heads, context)
    if cost.group == 1:
        return f"{name}: no sharing, a cache of {gibibytes(cost.cache_bytes)} at {context:,} tokens"
    sharing = f"{cost.group} query heads share each KV head"
    return f"{name}: {sharing}, a cache {cost.group} times smaller"


def traffic_note(cost: CacheCost) -> str:
    """What one decoded token makes the memory deliver."""
    parts = f"{gibibytes(cost.cache_bytes)} of cache + {gibibytes(cost.weight_bytes)} of weights"
    return f"To decode one token of one sequence: read {parts} = {gibibytes(cost.traffic_bytes)}."


def draw_sharing(paper: Paper, args: ModelArgs, kv_heads: int) -> None:
    """All query heads, with a wire to the KV head that each of them reads."""
    n, group, inside = args.n_heads, args.n_heads // kv_heads, paper.width - 8
    queries = [4 + inside * (i + 0.5) / n for i in range(n)]
    keys = [4 + inside * (i + 0.5) / kv_heads for i in range(kv_heads)]
    readers = list(enumerate(sharing(n, kv_heads)))
    paper.text(4, 14, f"{n} query heads", "soft")
    with paper.group(key="wires", stroke_width=1.2, fill="none"):
        for head, kv in readers:
            wire = f"M{queries[head]:.1f} 45L{keys[kv]:.1f} 130"
            paper.shape("path", d=wire, stroke=_look(kv)[0])
    wide = min(inside / n * 0.72, 22)
    with paper.group(key="queries", stroke_width=1.6):
        for head, kv in readers:
            tip = f"query head {head} reads KV head {kv}"
            _head(paper, queries[head], 23, (wide, 22), kv, tip=tip)
    wide = min(inside / kv_heads * 0.72, 90)
    for kv, x in enumerate(keys):
        range_ = f"{kv * group} to {(kv + 1) * group - 1}"
        tip = f"KV head {kv}, read by query head{f's {range_}' if group > 1 else f' {kv}'}"
        _head(paper, x, 130, (wide, 32), kv, tip=tip, key=f"KV {kv}", stroke_width=1.6)
        if wide >= 44:
            hue, hollow = _look(kv)
            role = "ink" if hollow else "on_light" if hue in ON_LIGHT else "on_dark"
            paper.text(x, 151, f"KV {kv}", role, anchor="middle", pointer_events="none")
    mark = " · this is what was released" if kv_heads == args.n_kv_heads else ""
    heads = count_of(kv_heads, "KV head")
    paper.text(4, 182, f"{heads}: only these are cached{mark}", "soft")


def _head(
    paper: Paper, x: float, y: float, size: tuple[float, float], kv: int, **style: object
) -> None:
    hue, hollow = _look(kv)
    paper.rect(x - size[0] / 2, y, *size, "paper" if hollow else hue, round=2, stroke=hue, **style)


def _look(kv: int) -> tuple[str, bool]:
    """The hue of a KV head's group, and whether it is hollow: as every second eight are."""
    return SERIES[kv % len(SERIES)], kv // len(SERIES) % 2 == 1


def draw_bars(paper: Paper, rows: list[tuple[str, CacheCost]], context: int) -> None:
    """The cache of each choice as a bar; names stand above the bars where there is no room."""
    narrow = paper.narrow
    left, step, high = (4, 46, 18) if narrow else (212, 36, 27)
    room = paper.width - left - 8
    paper.text(4, 214, f"KV cache of one sequence of {context:,} tokens", size=16)
    for i, (name, cost) in enumerate(rows):
        y = 228 + i * step
        length = max(room * cost.cache_bytes / rows[0][1].cache_bytes, 2)
        amount = f"{gibibytes(cost.cache_bytes)} · {kibibytes(cost.bytes_per_token)} a token"
        name, top = f"{name}: {cost.kv_heads}", y + 20 * narrow
        look = {"fill": "main", "stroke": "ink", "stroke_width": 2} if i == 1 else {}
        look = look or {"fill": "tint", "stroke": "soft", "put": ("kv_heads", cost.kv_heads)}
        paper.rect(left, top, length, high, key=f"bar {i}", tip=f"{name} · {amount}", **look)
        if narrow:
            paper.text(left, y + 14, f"{name} · {amount}")
            continue
        paper.text(left - 12, y + 19, name, anchor="end")
        inside = length + text_width(amount, 14) + 20 > room
        at, role = (length - 10, "on_dark" if i == 1 else "ink") if inside else (length + 10, "ink")
        style = {"anchor": "end" if inside else "start", "pointer_events": "none"}
        paper.text(left + at, y + 19, amount, role, key=f"amount {i}", **style)


def table_rows(rows: list[tuple[str, CacheCost]]) -> list[dict[str, object]]:
    """The picture as a table."""
    return [
        {
            "KV heads": f"{cost.kv_heads}, {name}",
            "query heads on each": cost.group,
            "cache per token": kibibytes(cost.bytes_per_token),
            "cache": gibibytes(cost.cache_bytes),
            "read to decode one token": gibibytes(cost.traffic_bytes),
        }
        for name, cost in rows
    ]


def _named_heads(args: ModelArgs) -> dict[int, str]:
    """The stops of the slider; the released number wins where two names would fit."""
    names = {1: "1 (MQA)", args.n_heads: f"{args.n_heads} (MHA)"}
    names[args.n_kv_heads] = f"{args.n_kv_heads} (released)"
    return {k: names.get(k, str(k)) for k in kv_head_choices(args.n_heads)}


class GQAExplorer(View):
    """Move the number of KV heads and see who shares and what the cache costs.

    kv_heads: as released if left out. sizes: other shapes under names of your own.
    """

    model = Choice(lambda view, values: list(view.sizes), "model")
    kv_heads = Slider(lambda view, values: _named_heads(view.sizes[values["model"]]), "KV heads")
    context = Slider(CONTEXTS, "tokens", start=CONTEXTS[-1], text=thousands)

    def __init__(
        self,
        model: str = "405B",
        *,
        kv_heads: int | None = None,
        context: int = CONTEXTS[-1],
        sizes: Mapping[str, ModelArgs] | None = None,
    ) -> None:
        self.sizes = dict(sizes) if sizes else {name: get_preset(name) for name in MODELS}
        if kv_heads is None and model in self.sizes:
            kv_heads = self.sizes[model].n_kv_heads
        super().__init__(model=model, kv_heads=kv_heads, context=context)

    def scene(self, paper: Paper, *, model: str, kv_heads: int, context: int) -> Scene:
        args = self.sizes[model]
        rows = compare(args, kv_heads, context)
        chosen = rows[1][1]
        draw_sharing(paper, args, kv_heads)
        draw_bars(paper, rows, context)
        title = headline(model, args, kv_heads, context)
        return Scene(
            title=title,
            notes=[traffic_note(chosen)],
            table=table_rows(rows),
            say=f"{title}. {gibibytes(chosen.cache_bytes)} at {context:,} tokens.",
            facts={"cache": chosen.cache_bytes},
        )

    def cost(self) -> CacheCost:
        """What the picture shows for your choice."""
        return cache_cost(self.sizes[self.model], self.kv_heads, self.context)
