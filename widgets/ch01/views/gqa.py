"""Grouped-query attention: which query heads share a key/value head, and what that saves.

The arithmetic is `2 · layers · KV heads · head size · 2 bytes` per token (§3.2, Table 3). The
browser does it again so that a saved page still works; a test holds both together.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import traitlets

from llama3lib.model import ModelArgs, get_preset
from llama3lib.model.flops import count_parameters, kv_cache_bytes
from widgets.core.drawing import BLUE, GREEN, ORANGE, PURPLE, SOFT, Drawing, giga, kibi
from widgets.core.widget import CourseWidget, css, esm

MODELS = ("8B", "70B", "405B")
CONTEXTS = tuple(2**power for power in range(10, 18))  # 1,024 to 131,072 tokens


def kv_head_choices(n_heads: int) -> list[int]:
    """Every number of KV heads that splits the query heads evenly, largest (MHA) first."""
    if n_heads < 1:
        raise ValueError(f"n_heads={n_heads} is not allowed: a whole number, 1 or more")
    return [k for k in range(n_heads, 0, -1) if n_heads % k == 0]


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


def shape_of(args: ModelArgs) -> dict[str, int]:
    """What the browser needs to repeat the arithmetic for one model."""
    per_head = 2 * args.n_layers * args.dim * args.head_dim  # wk and wv of all layers
    return {
        "layers": args.n_layers,
        "heads": args.n_heads,
        "released": args.n_kv_heads,
        "head_dim": args.head_dim,
        "parameters_per_kv_head": per_head,
        "other_parameters": _read_parameters(args) - args.n_kv_heads * per_head,
    }


def _read_parameters(args: ModelArgs) -> int:
    """Parameters that take part in one token; a tied embedding is read as the output matrix."""
    count = count_parameters(args)
    return count.total - (0 if args.tie_embeddings else count.embedding)


def _check_divides(n_heads: int, kv_heads: int) -> None:
    if kv_heads < 1 or n_heads % kv_heads:
        allowed = ", ".join(map(str, kv_head_choices(n_heads)))
        raise ValueError(f"kv_heads={kv_heads} is not allowed: one of {allowed}")


COLOURS = (BLUE, ORANGE, GREEN, PURPLE)  # neighbours differ, and every second group is hollow
BARS = {"x": 220, "y": 314, "width": 560, "step": 40}


def headline(name: str, args: ModelArgs, kv_heads: int, context: int) -> str:
    """The title: what to see in this picture."""
    cost = cache_cost(args, kv_heads, context)
    if cost.group == 1:
        return f"{name}: no sharing, a cache of {giga(cost.cache_bytes)} at {context:,} tokens"
    sharing = f"{cost.group} query heads share each KV head"
    return f"{name}: {sharing}, a cache {cost.group} times smaller"


def head_xs(n: int, width: float = 960, left: float = 20) -> list[float]:
    """Middles of n heads spread over the picture."""
    return [left + width * (i + 0.5) / n for i in range(n)]


def draw_gqa(name: str, args: ModelArgs, kv_heads: int, context: int) -> str:
    """The static picture, as SVG."""
    rows = compare(args, kv_heads, context)
    words = "; ".join(
        f"{row}: {c.kv_heads} KV heads, {kibi(c.bytes_per_token)} a token, {giga(c.cache_bytes)}"
        for row, c in rows
    )
    title = headline(name, args, kv_heads, context)
    picture = Drawing(1000, 510, title=title, description=f"Cache at {context:,} tokens. {words}.")
    picture.text(20, 34, title, size=22, font_weight=600)
    _draw_sharing(picture, args.n_heads, kv_heads)
    _draw_bars(picture, rows, context)
    picture.text(20, 492, traffic_note(rows[1][1]), fill=SOFT, size=15)
    return picture.svg()


def traffic_note(cost: CacheCost) -> str:
    """What one decoded token makes the memory deliver."""
    parts = f"{giga(cost.cache_bytes)} of cache + {giga(cost.weight_bytes)} of weights"
    return f"To decode one token of one sequence: read {parts} = {giga(cost.traffic_bytes)}"


def _draw_sharing(picture: Drawing, n_heads: int, kv_heads: int) -> None:
    queries, keys = head_xs(n_heads), head_xs(kv_heads)
    wide = min(960 / n_heads * 0.72, 22)
    picture.text(20, 72, f"{n_heads} query heads", fill=SOFT, size=15)
    for head, kv in enumerate(sharing(n_heads, kv_heads)):
        colour = COLOURS[kv % len(COLOURS)]
        picture.line(queries[head], 104, keys[kv], 200, stroke=colour, stroke_width=1.2)
        _draw_head(picture, queries[head], 82, wide, 22, colour, hollow=kv % 2 == 1)
    wide = min(960 / kv_heads * 0.72, 90)
    for kv, x in enumerate(keys):
        _draw_head(picture, x, 200, wide, 34, COLOURS[kv % len(COLOURS)], hollow=kv % 2 == 1)
    picture.text(
        20,
        256,
        f"{kv_heads} KV head{'s' * (kv_heads > 1)}: only these are cached",
        fill=SOFT,
        size=15,
    )


def _draw_head(
    picture: Drawing, x: float, y: float, wide: float, high: float, colour: str, hollow: bool
) -> None:
    fill = "#ffffff" if hollow else colour
    picture.rect(x - wide / 2, y, wide, high, rx=2, fill=fill, stroke=colour, stroke_width=1.6)


def _draw_bars(picture: Drawing, rows: list[tuple[str, CacheCost]], context: int) -> None:
    x, y, width, step = BARS["x"], BARS["y"], BARS["width"], BARS["step"]
    picture.text(20, 296, f"KV cache of one sequence of {context:,} tokens", size=17)
    largest = rows[0][1].cache_bytes
    for i, (name, cost) in enumerate(rows):
        top, length = y + i * step, width * cost.cache_bytes / largest
        chosen = i == 1
        picture.text(x - 12, top + 19, f"{name}: {cost.kv_heads}", anchor="end", size=15)
        fill = BLUE if chosen else "#d7dee6"
        picture.rect(x, top, max(length, 2), 28, fill=fill, stroke=SOFT, stroke_width=chosen)
        amount = f"{giga(cost.cache_bytes)} · {kibi(cost.bytes_per_token)} a token"
        inside = length > 400
        style = {"fill": "#ffffff"} if inside and chosen else {}
        at = x + length - 10 if inside else x + length + 10
        picture.text(at, top + 19, amount, anchor="end" if inside else "start", size=15, **style)


def table_rows(rows: list[tuple[str, CacheCost]]) -> list[dict[str, object]]:
    """The picture as a table."""
    return [
        {
            "KV heads": f"{cost.kv_heads}, {name}",
            "query heads on each": cost.group,
            "cache per token": kibi(cost.bytes_per_token),
            "cache": giga(cost.cache_bytes),
            "read to decode one token": giga(cost.traffic_bytes),
        }
        for name, cost in rows
    ]


class GQAExplorer(CourseWidget):
    """Move the number of KV heads and see who shares and what the cache costs.

    Works in a saved page: no kernel is asked. sizes: other shapes under names of your own.
    """

    _esm = esm("gqa")
    _css = css("gqa")
    model = traitlets.Unicode().tag(sync=True)
    kv_heads = traitlets.Int(8).tag(sync=True)
    context = traitlets.Int(CONTEXTS[-1]).tag(sync=True)
    models = traitlets.Dict().tag(sync=True)
    contexts = traitlets.List(list(CONTEXTS)).tag(sync=True)

    def __init__(
        self,
        model: str = "405B",
        *,
        kv_heads: int | None = None,
        context: int = CONTEXTS[-1],
        sizes: Mapping[str, ModelArgs] | None = None,
    ) -> None:
        self.sizes = dict(sizes) if sizes else {name: get_preset(name) for name in MODELS}
        super().__init__(models={name: shape_of(args) for name, args in self.sizes.items()})
        self.model = model
        self.kv_heads = self.sizes[model].n_kv_heads if kv_heads is None else kv_heads
        self.context = context

    @traitlets.validate("model")
    def _known(self, proposal: dict) -> str:
        return _one_of("model", proposal["value"], list(self.sizes))

    @traitlets.validate("kv_heads")
    def _divides(self, proposal: dict) -> int:
        if self.model not in self.sizes:
            return proposal["value"]
        heads = self.sizes[self.model].n_heads
        return _one_of("kv_heads", proposal["value"], kv_head_choices(heads))

    @traitlets.validate("context")
    def _offered(self, proposal: dict) -> int:
        return _one_of("context", proposal["value"], list(CONTEXTS))

    @traitlets.observe("model")
    def _fit(self, change: dict) -> None:
        heads = self.sizes[change["new"]].n_heads
        if heads % self.kv_heads:
            self.kv_heads = heads

    def cost(self) -> CacheCost:
        """What the picture shows for your choice."""
        return cache_cost(self.sizes[self.model], self.kv_heads, self.context)

    def summary(self) -> str:
        return headline(self.model, self.sizes[self.model], self.kv_heads, self.context)

    def table(self) -> list[dict[str, object]]:
        return table_rows(compare(self.sizes[self.model], self.kv_heads, self.context))

    def static_svg(self) -> str:
        return draw_gqa(self.model, self.sizes[self.model], self.kv_heads, self.context)


def _one_of(field: str, value: object, allowed: list) -> object:
    if value not in allowed:
        names = ", ".join(map(str, allowed))
        raise traitlets.TraitError(f"{field}={value!r} is not allowed: one of {names}")
    return value
