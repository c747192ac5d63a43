"""Exercise 01.5: all parameters of a model, counted, and whether its output matrix is tied."""

import random

from llama3lib.model import ModelArgs, get_preset
from llama3lib.model.flops import count_parameters
from widgets.core.exercise import Exercise
from widgets.core.judge import Case

E = Exercise(
    "01.5",
    hints=(
        "A model is a list of matrices. Write the list first, with two numbers for each shape.",
        "One block has wq, wk, wv, wo, then w1, w2, w3, then two norms. Outside the blocks: the "
        "embedding, the last norm, and the output matrix unless it is tied.",
        "queries = n_heads * head_dim and keys = n_kv_heads * head_dim. A block is "
        "2 * dim * queries + 2 * dim * keys + 3 * dim * ffn_dim + 2 * dim. "
        "For is_tied, count args.replace(tie_embeddings=True) and compare.",
    ),
)
count = E.part("count")
is_tied = E.part(
    "is_tied",
    otherwise=(
        "is_tied: the verdict is wrong",
        "Compare the total with both possible counts; do not trust the flag.",
    ),
)


@count.reference
def total(args: ModelArgs) -> int:
    """As the library counts."""
    return count_parameters(args).total


def _norm_block(args: ModelArgs) -> int:
    return args.n_layers * args.dim


def _biases(args: ModelArgs) -> int:
    rows = args.head_dim * (args.n_heads + 2 * args.n_kv_heads) + args.dim
    return args.n_layers * (rows + 2 * args.ffn_dim + args.dim)


count.mistake(
    "the output matrix is forgotten", lambda a: total(a.replace(tie_embeddings=True))
).why("It is a matrix of its own unless the config ties it to the embedding.")
count.mistake(
    "a tied output matrix is counted twice", lambda a: total(a.replace(tie_embeddings=False))
).why("Tied means one matrix used in two places.")
count.mistake(
    "tied and untied are swapped", lambda a: total(a.replace(tie_embeddings=not a.tie_embeddings))
)
count.mistake(
    "keys and values are counted as wide as queries",
    lambda a: total(a.replace(n_kv_heads=a.n_heads)),
).why("There are n_kv_heads of them, not n_heads.")
count.mistake(
    "head_dim is taken to be dim / n_heads", lambda a: total(a.replace(head_dim=a.dim // a.n_heads))
).why("Read args.head_dim: it may be set to something else.")
count.mistake(
    "the feed-forward layer has two matrices, not three",
    lambda a: total(a) - a.n_layers * a.dim * a.ffn_dim,
).why("SwiGLU has a gate, an up and a down matrix.")
count.mistake("all norms are forgotten", lambda a: total(a) - 2 * _norm_block(a) - a.dim)
count.mistake("the final norm is forgotten", lambda a: total(a) - a.dim)
count.mistake("one norm per block is counted, not two", lambda a: total(a) - _norm_block(a)).why(
    "One stands before attention, one before the feed-forward layer."
)
count.mistake("the norms of the blocks are forgotten", lambda a: total(a) - 2 * _norm_block(a))
count.mistake(
    "wo is forgotten", lambda a: total(a) - a.n_layers * a.dim * a.n_heads * a.head_dim
).why("After the heads there is one more matrix, back to the width of the model.")
count.mistake("biases are counted", lambda a: total(a) + _biases(a)).why("Llama 3 has none.")
count.mistake("only one layer is counted", lambda a: total(a.replace(n_layers=1)))
count.mistake(
    "keys or values are forgotten",
    lambda a: total(a) - a.n_layers * a.dim * a.n_kv_heads * a.head_dim,
).why("wk and wv are two matrices.")


def _drawn(draw: random.Random) -> ModelArgs:
    kv, group = draw.randint(1, 4), draw.randint(1, 4)
    return ModelArgs(
        dim=kv * group * 2 * draw.randint(2, 5),
        n_layers=draw.randint(1, 9),
        n_heads=kv * group,
        n_kv_heads=kv,
        head_dim=2 * draw.randint(1, 8),
        ffn_dim=draw.randint(5, 99),
        vocab_size=draw.randint(20, 500),
        tie_embeddings=draw.random() < 0.5,
    )


@count.cases
def _count_cases() -> list[tuple | Case]:
    shape = ModelArgs(dim=4, n_layers=1, n_heads=2, n_kv_heads=2, ffn_dim=6, vocab_size=10)
    changes = [{}, {"tie_embeddings": True}, {"n_kv_heads": 1}, {"head_dim": 6}, {"n_layers": 3}]
    shapes = [shape.replace(**change) for change in changes]
    draw = random.Random(1)
    shapes += [_drawn(draw) for _ in range(6)]
    named = [
        Case((get_preset(n),), f'get_preset("{n}")') for n in ("8B", "70B", "405B", "1B", "3B")
    ]
    return [*((one,) for one in shapes), *named]


is_tied.reference(lambda args, published: total(args.replace(tie_embeddings=True)) == published)


@is_tied.cases
def _tied_cases() -> list[Case]:
    cases = []
    for name in ("tiny", "8B", "1B", "405B"):
        shape = get_preset(name)
        for tied in (True, False):
            published = total(shape.replace(tie_embeddings=tied))
            shows = f'is_tied(get_preset("{name}"), {published:,})'
            cases.append(Case((shape, published), shows))
    return cases
