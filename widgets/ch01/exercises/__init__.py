"""Chapter 01, exercises 1 and 2 (RMSNorm, counting parameters), and the table of all six.

Right answers are judged by `torch.nn.RMSNorm` and by `llama3lib.model.flops.count_parameters`.
"""

import random
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from llama3lib.model import ModelArgs, get_preset
from llama3lib.model.flops import count_parameters
from widgets.ch01.exercises.attention import check_grouped_attention, check_packing
from widgets.ch01.exercises.convert import check_conversion
from widgets.ch01.exercises.hints import HINTS
from widgets.ch01.exercises.rope import check_rope
from widgets.core.judge import Case, Known, Mistake, brief, diagnose, functions_of, run

__all__ = ["CHECKS", "HINTS"]


# 01.1 RMSNorm ---------------------------------------------------------------------------------


def _rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return functional.rms_norm(x, x.shape[-1:], weight, eps)


def _rms_cases() -> list[Case]:
    draw = torch.Generator().manual_seed(1)
    ones, square = torch.ones(2), torch.randn(3, 3, generator=draw)
    cases = [
        ((torch.tensor([3.0, 4.0]), ones, 0.0), "x=[3, 4], weight=[1, 1], eps=0"),
        ((torch.tensor([3.0, 4.0]), torch.tensor([2.0, 10.0]), 0.0), "weight=[2, 10] for x=[3, 4]"),
        ((torch.zeros(2), ones, 1e-5), "x=[0, 0], eps=1e-5"),
        ((torch.tensor([0.03, 0.04]), ones, 0.01), "x=[0.03, 0.04], eps=0.01"),
        ((square, torch.tensor([1.0, 2.0, 3.0]), 1e-5), "x of shape [3, 3], eps=1e-5"),
        ((torch.full((2,), 300.0).half(), ones.half(), 1e-5), "x=[300, 300] in float16"),
    ]
    x = torch.randn(2, 5, 16, generator=draw)
    weight = torch.randn(16, generator=draw)
    cases.append(((x, weight, 1e-5), "x of shape [2, 5, 16], eps=1e-5"))
    return [Case(inputs, shows) for inputs, shows in cases]


def _variant(power: Callable, *, dim: int | None = -1, use_weight: bool = True) -> Callable:
    """RMSNorm with its divisor replaced by power(x, eps, dim)."""

    def wrong(x: Tensor, weight: Tensor, eps: float) -> Tensor:
        wide = x.float()
        out = wide / power(wide, eps, dim)
        return (out * weight if use_weight else out).to(x.dtype)

    return wrong


def _mean_square(x: Tensor, dim: int | None) -> Tensor:
    return x.pow(2).mean() if dim is None else x.pow(2).mean(dim, keepdim=True)


def _right_divisor(x: Tensor, eps: float, dim: int | None) -> Tensor:
    return (_mean_square(x, dim) + eps).sqrt()


def _in_half(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


_RMS_KNOWN = [
    Known(
        "eps is outside the root",
        _variant(lambda x, eps, dim: _mean_square(x, dim).sqrt() + eps),
        "It belongs with the mean of squares, before the root.",
    ),
    Known(
        "the mean is subtracted",
        lambda x, w, eps: functional.layer_norm(x.float(), x.shape[-1:], w.float(), None, eps).to(
            x.dtype
        ),
        "That is LayerNorm; RMSNorm leaves the mean alone.",
    ),
    Known(
        "the weight is missing",
        _variant(_right_divisor, use_weight=False),
        "Each channel has a learned factor of its own.",
    ),
    Known(
        "squares are summed, not averaged",
        _variant(lambda x, eps, dim: (x.pow(2).sum(-1, keepdim=True) + eps).sqrt()),
        "A wider row must not come out smaller.",
    ),
    Known(
        "the root is missing",
        _variant(lambda x, eps, dim: _mean_square(x, dim) + eps),
        "Twice the input must give the same output.",
    ),
    Known(
        "eps is ignored",
        _variant(lambda x, eps, dim: _mean_square(x, dim).sqrt()),
        "A row of zeros must not give nan.",
    ),
    Known(
        "the mean runs over the wrong dimension",
        _variant(_right_divisor, dim=0),
        "Each token is normalised by itself, over its channels.",
    ),
    Known(
        "the mean runs over all dimensions",
        _variant(_right_divisor, dim=None),
        "Each token is normalised by itself, over its channels.",
    ),
    Known(
        "the squares are taken in half precision",
        _in_half,
        "300 squared is above the largest float16 number. Compute in float32, then go back.",
    ),
]


def check_rms_norm(answer: object) -> None:
    """01.1: dict(rms_norm=..., flattened=...)."""
    rms_norm, flattened = functions_of(answer, ("rms_norm", "flattened"))
    cases = _rms_cases()
    diagnose(rms_norm, _rms_norm, cases, _RMS_KNOWN, what="rms_norm", tolerance=2e-5)
    x = torch.tensor([3.0, 4.0])
    rms_norm(x, torch.ones(2), 1e-5)
    if x.tolist() != [3.0, 4.0]:
        raise Mistake("the input is overwritten", shows="x=[3, 4]", why="Return a new tensor.")
    _check_flattened(flattened)


def _check_flattened(flattened: Callable) -> None:
    for size in (8, 64):
        shows = f"flattened({size})"
        x = run(flattened, Case((size,), shows), "flattened")
        if not isinstance(x, Tensor) or x.shape != (size,):
            raise Mistake("flattened: a row of `size` numbers is needed", shows=shows)
        x = x.double()
        if bool((x == x[0]).all()):
            raise Mistake("flattened: all numbers are equal", shows=shows, why="LayerNorm gives 0.")
        rms, spread = _rms_norm(x, torch.ones_like(x), 1e-5), _layer_spread(x)
        if float((rms - 1).abs().max()) > 0.01:
            why = "Some RMSNorm output is more than 1 % away from 1: the mean is still too small."
            raise Mistake("flattened: the row is not flat yet", shows=shows, why=why)
        if abs(spread - 1) > 0.02:
            why = (
                f"LayerNorm leaves a spread of {spread:.3f}: next to eps the row varies too little."
            )
            raise Mistake("flattened: LayerNorm lost the pattern too", shows=shows, why=why)


def _layer_spread(x: Tensor) -> float:
    return float(functional.layer_norm(x, x.shape, eps=1e-5).std(correction=0))


# 01.2 counting parameters ---------------------------------------------------------------------


def _total(args: ModelArgs) -> int:
    return count_parameters(args).total


def _norm_block(args: ModelArgs) -> int:
    return args.n_layers * args.dim


def _split_heads(args: ModelArgs) -> int:
    """The total if head_dim is taken to be dim / n_heads whatever the config says."""
    return _total(args.replace(head_dim=args.dim // args.n_heads))


def _biases(args: ModelArgs) -> int:
    rows = args.head_dim * (args.n_heads + 2 * args.n_kv_heads) + args.dim
    return _total(args) + args.n_layers * (rows + 2 * args.ffn_dim + args.dim)


_COUNT_KNOWN = [
    Known(
        "the output matrix is forgotten",
        lambda a: _total(a.replace(tie_embeddings=True)),
        "It is a matrix of its own unless the config ties it to the embedding.",
    ),
    Known(
        "a tied output matrix is counted twice",
        lambda a: _total(a.replace(tie_embeddings=False)),
        "Tied means one matrix used in two places.",
    ),
    Known(
        "tied and untied are swapped",
        lambda a: _total(a.replace(tie_embeddings=not a.tie_embeddings)),
    ),
    Known(
        "keys and values are counted as wide as queries",
        lambda a: _total(a.replace(n_kv_heads=a.n_heads)),
        "There are n_kv_heads of them, not n_heads.",
    ),
    Known(
        "head_dim is taken to be dim / n_heads",
        _split_heads,
        "Read args.head_dim: it may be set to something else.",
    ),
    Known(
        "the feed-forward layer has two matrices, not three",
        lambda a: _total(a) - a.n_layers * a.dim * a.ffn_dim,
        "SwiGLU has a gate, an up and a down matrix.",
    ),
    Known("all norms are forgotten", lambda a: _total(a) - 2 * _norm_block(a) - a.dim),
    Known("the final norm is forgotten", lambda a: _total(a) - a.dim),
    Known(
        "one norm per block is counted, not two",
        lambda a: _total(a) - _norm_block(a),
        "One stands before attention, one before the feed-forward layer.",
    ),
    Known(
        "the norms of the blocks are forgotten",
        lambda a: _total(a) - 2 * _norm_block(a),
    ),
    Known(
        "wo is forgotten",
        lambda a: _total(a) - a.n_layers * a.dim * a.n_heads * a.head_dim,
        "After the heads there is one more matrix, back to the width of the model.",
    ),
    Known("biases are counted", _biases, "Llama 3 has none."),
    Known(
        "only one layer is counted",
        lambda a: _total(a.replace(n_layers=1)),
    ),
    Known(
        "keys or values are forgotten",
        lambda a: _total(a) - a.n_layers * a.dim * a.n_kv_heads * a.head_dim,
        "wk and wv are two matrices.",
    ),
]


def _as_typed(args: ModelArgs) -> str:
    """The config as a learner would type it, without what does not change the count."""
    names = ("dim", "n_layers", "n_heads", "n_kv_heads", "head_dim", "ffn_dim", "vocab_size")
    fields = [f"{name}={getattr(args, name)}" for name in names]
    return f"ModelArgs({', '.join(fields)}, tie_embeddings={args.tie_embeddings})"


def _count_cases() -> list[Case]:
    shape = ModelArgs(dim=4, n_layers=1, n_heads=2, n_kv_heads=2, ffn_dim=6, vocab_size=10)
    changes = [{}, {"tie_embeddings": True}, {"n_kv_heads": 1}, {"head_dim": 6}, {"n_layers": 3}]
    shapes = [shape.replace(**change) for change in changes]
    draw = random.Random(1)
    for _ in range(6):
        kv, group = draw.randint(1, 4), draw.randint(1, 4)
        shape = ModelArgs(
            dim=kv * group * 2 * draw.randint(2, 5),
            n_layers=draw.randint(1, 9),
            n_heads=kv * group,
            n_kv_heads=kv,
            head_dim=2 * draw.randint(1, 8),
            ffn_dim=draw.randint(5, 99),
            vocab_size=draw.randint(20, 500),
            tie_embeddings=draw.random() < 0.5,
        )
        shapes.append(shape)
    cases = [Case((shape,), _as_typed(shape)) for shape in shapes]
    for name in ("8B", "70B", "405B", "1B", "3B"):
        cases.append(Case((get_preset(name),), f'get_preset("{name}")'))
    return cases


def check_count(answer: object) -> None:
    """01.2: dict(count=..., is_tied=...)."""
    count, is_tied = functions_of(answer, ("count", "is_tied"))
    diagnose(count, _total, _count_cases(), _COUNT_KNOWN, what="count")
    for name in ("tiny", "8B", "1B", "405B"):
        shape = get_preset(name)
        for tied in (True, False):
            total = _total(shape.replace(tie_embeddings=tied))
            shows = f'is_tied(get_preset("{name}"), {total:,})'
            verdict = run(is_tied, Case((shape, total), shows), "is_tied")
            if not isinstance(verdict, bool):
                why = f"True or False is needed, {brief(verdict)} came."
                raise Mistake("is_tied: wrong type", shows=shows, why=why)
            if verdict != tied:
                why = "Compare the total with both possible counts; do not trust the flag."
                raise Mistake("is_tied: the verdict is wrong", shows=shows, why=why)


CHECKS: dict[str, Callable[[object], None]] = {
    "01.1": check_rms_norm,
    "01.2": check_count,
    "01.3": check_rope,
    "01.4": check_grouped_attention,
    "01.5": check_packing,
    "01.6": check_conversion,
}
