"""Right answers to the exercises of chapter 01, two different ones for each, and broken ones.

A plain module, not a test: `test_ch01.py` loads it. Every wrong answer is what a learner could
well have typed.
"""

import math

import torch

from llama3lib.model import ModelArgs, RopeScaling
from llama3lib.model.flops import tensor_shapes
from llama3lib.model.rope import half_to_interleaved, interleaved_to_half
from widgets.ch01.exercises.convert import foreign_config, foreign_names

# 01.1 ----------------------------------------------------------------------------------------


def rms_plain(x, weight, eps=1e-5):
    size = (x.float().pow(2).mean(-1, keepdim=True) + eps).sqrt()
    return (x.float() / size * weight.float()).to(x.dtype)


def rms_rsqrt(x, weight, eps=1e-5):
    wide = x.double()
    lengths = torch.linalg.vector_norm(wide, dim=-1, keepdim=True) ** 2
    return (wide * torch.rsqrt(lengths / x.shape[-1] + eps) * weight.double()).to(x.dtype)


def flat_ramp(size):
    return 10_000 + torch.arange(size, dtype=torch.float64)


def flat_wave(size):
    return 500 + torch.cos(torch.arange(size) * math.pi)


RMS_WRONG = {
    "eps is outside the root": lambda x, w, eps: (
        x.float() / (x.float().pow(2).mean(-1, keepdim=True).sqrt() + eps) * w
    ).to(x.dtype),
    "the mean is subtracted": lambda x, w, eps: (
        (x.float() - x.float().mean(-1, keepdim=True))
        * torch.rsqrt(x.float().var(-1, keepdim=True, correction=0) + eps)
        * w
    ).to(x.dtype),
    "the weight is missing": lambda x, w, eps: rms_plain(x, torch.ones_like(w), eps),
    "squares are summed, not averaged": lambda x, w, eps: (
        x.float() * torch.rsqrt(x.float().pow(2).sum(-1, keepdim=True) + eps) * w
    ).to(x.dtype),
    "the root is missing": lambda x, w, eps: (
        x.float() / (x.float().pow(2).mean(-1, keepdim=True) + eps) * w
    ).to(x.dtype),
    "eps is ignored": lambda x, w, eps: rms_plain(x, w, 0.0),
    "the mean runs over all dimensions": lambda x, w, eps: (
        x.float() * torch.rsqrt(x.float().pow(2).mean() + eps) * w
    ).to(x.dtype),
    "the mean runs over the wrong dimension": lambda x, w, eps: (
        x.float() * torch.rsqrt(x.float().pow(2).mean(0, keepdim=True) + eps) * w
    ).to(x.dtype),
    "the squares are taken in half precision": lambda x, w, eps: (
        x * torch.rsqrt((x * x).mean(-1, keepdim=True) + eps) * w
    ),
    "rms_norm: nothing was returned": lambda x, w, eps: None,
    "rms_norm: wrong shape": lambda x, w, eps: rms_plain(x, w, eps)[..., :1],
}

FLAT_WRONG = {
    "flattened: all numbers are equal": lambda size: torch.full((size,), 7.0),
    "flattened: the row is not flat yet": lambda size: 1.0 + torch.arange(size),
    "flattened: LayerNorm lost the pattern too": lambda size: (
        1 + 1e-4 * torch.arange(size, dtype=torch.float64)
    ),
}

# 01.2 ----------------------------------------------------------------------------------------


def count_formula(args, *, layers=None, ffn=3, norms=2, final=1, heads=None, wo=True):
    queries = args.n_heads * args.head_dim
    keys = (heads or args.n_kv_heads) * args.head_dim
    block = args.dim * (queries * (2 if wo else 1) + 2 * keys + ffn * args.ffn_dim + norms)
    matrices = 1 if args.tie_embeddings else 2
    n_layers = args.n_layers if layers is None else layers
    return n_layers * block + args.vocab_size * args.dim * matrices + final * args.dim


def count_list(args):
    return sum(math.prod(shape.shape) * shape.copies for shape in tensor_shapes(args))


def tied_by_count(args, total):
    return count_formula(args.replace(tie_embeddings=True)) == total


def tied_by_remainder(args, total):
    rest = total - count_list(args.replace(tie_embeddings=True))
    return rest < args.vocab_size * args.dim


COUNT_WRONG = {
    "the output matrix is forgotten": lambda a: count_formula(a.replace(tie_embeddings=True)),
    "a tied output matrix is counted twice": lambda a: count_formula(
        a.replace(tie_embeddings=False)
    ),
    "keys and values are counted as wide as queries": lambda a: count_formula(a, heads=a.n_heads),
    "head_dim is taken to be dim / n_heads": lambda a: count_formula(
        a.replace(head_dim=a.dim // a.n_heads)
    ),
    "the feed-forward layer has two matrices, not three": lambda a: count_formula(a, ffn=2),
    "all norms are forgotten": lambda a: count_formula(a, norms=0, final=0),
    "the final norm is forgotten": lambda a: count_formula(a, final=0),
    "one norm per block is counted, not two": lambda a: count_formula(a, norms=1),
    "the norms of the blocks are forgotten": lambda a: count_formula(a, norms=0),
    "wo is forgotten": lambda a: count_formula(a, wo=False),
    "only one layer is counted": lambda a: count_formula(a, layers=1),
    "count: wrong type": lambda a: float(count_formula(a)),
}

TIED_WRONG = {
    "is_tied: the verdict is wrong": lambda args, total: args.tie_embeddings,
    "is_tied: wrong type": lambda args, total: "untied",
}

# 01.3 ----------------------------------------------------------------------------------------


def turn_neighbours(x, positions, freqs, *, sign=1):
    angles = torch.outer(positions.to(freqs.dtype), freqs) * sign
    a, b = x[:, 0::2], x[:, 1::2]
    turned = a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos()
    return torch.stack(turned, -1).flatten(-2)


def turn_complex(x, positions, freqs):
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * torch.exp(1j * torch.outer(positions, freqs))).flatten(-2)


def turn_halves(x, positions, freqs, *, sign=1):
    angles = torch.outer(positions.to(freqs.dtype), freqs) * sign
    a, b = x.chunk(2, -1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((a * cos - b * sin, a * sin + b * cos), -1)


def turn_halves_half(x, positions, freqs):
    angles = torch.outer(positions.to(freqs.dtype), freqs).repeat(1, 2)
    a, b = x.chunk(2, -1)
    return x * angles.cos() + torch.cat((-b, a), -1) * angles.sin()


def order_lists(head_dim):
    return [*range(0, head_dim, 2), *range(1, head_dim, 2)]


def order_tensor(head_dim):
    return torch.arange(head_dim).view(-1, 2).T.flatten()


def _no_minus(x, p, f):
    angles = torch.outer(p.to(f.dtype), f)
    a, b = x[:, 0::2], x[:, 1::2]
    turned = a * angles.cos() + b * angles.sin(), a * angles.sin() + b * angles.cos()
    return torch.stack(turned, -1).flatten(-2)


def _ten_thousand(x, p, f):
    own = 10_000.0 ** (-torch.arange(0, x.shape[-1], 2, dtype=torch.float64) / x.shape[-1])
    return turn_neighbours(x, p, own)


NEIGHBOURS_WRONG = {
    "wrong pairing of channels": turn_halves,
    "the pairs turn the wrong way": lambda x, p, f: turn_neighbours(x, p, f, sign=-1),
    "the position is off by one": lambda x, p, f: turn_neighbours(x, p + 1, f),
    "the row number is used as the position": lambda x, p, f: turn_neighbours(
        x, torch.arange(len(x)), f
    ),
    "the frequencies are ignored": _ten_thousand,
    "the frequencies stand in reverse order": lambda x, p, f: turn_neighbours(x, p, f.flip(0)),
    "a minus sign is missing": _no_minus,
    "the pairs are not put back beside each other": lambda x, p, f: turn_neighbours(x, p, f)[
        :, order_lists(x.shape[-1])
    ],
}

HALVES_WRONG = {
    "wrong pairing of channels": turn_neighbours,
    "the pairs turn the wrong way": lambda x, p, f: turn_halves(x, p, f, sign=-1),
    "the position is off by one": lambda x, p, f: turn_halves(x, p - 1, f),
}

ORDER_WRONG = {
    "halves_order: this is the inverse": lambda n: torch.tensor(order_lists(n)).argsort().tolist(),
    "halves_order: nothing moves": lambda n: list(range(n)),
    "halves_order: not a permutation": lambda n: list(range(0, n, 2)) * 2,
    "halves_order: the layouts do not meet": lambda n: [*range(1, n, 2), *range(0, n, 2)],
}

# 01.4 ----------------------------------------------------------------------------------------


def gqa_einsum(q, k, v, *, scale=None, offset=None, axis=-1, tile=False):
    n_kv, t, s, h = k.shape[2], q.shape[1], k.shape[1], q.shape[3]
    split = q.unflatten(2, (-1, n_kv) if tile else (n_kv, -1))
    grouped = split.transpose(2, 3) if tile else split
    scores = torch.einsum("btkgh,bskh->bkgts", grouped, k) * (h**-0.5 if scale is None else scale)
    allowed = torch.ones(t, s, dtype=torch.bool).tril(s - t if offset is None else offset)
    weights = scores.masked_fill(~allowed, -math.inf).softmax(axis)
    mixed = torch.einsum("bkgts,bskh->btkgh", weights, v)
    return (mixed.transpose(2, 3) if tile else mixed).flatten(2, 3)


def gqa_loop(q, k, v):
    """Another right way: one key/value head at a time, its queries stacked as rows."""
    t, s, groups = q.shape[1], k.shape[1], q.shape[2] // k.shape[2]
    allowed = torch.ones(t, s, dtype=torch.bool).tril(s - t).repeat(groups, 1)
    heads = []
    for i in range(k.shape[2]):
        rows = q[:, :, i * groups : (i + 1) * groups].transpose(1, 2).flatten(1, 2)
        scores = rows @ k[:, :, i].transpose(1, 2) / math.sqrt(q.shape[-1])
        weights = scores.masked_fill(~allowed, -math.inf).softmax(-1)
        heads.append((weights @ v[:, :, i]).unflatten(1, (groups, t)).transpose(1, 2))
    return torch.cat(heads, 2)


def _copying(q, k, v):
    groups = q.shape[2] // k.shape[2]
    return gqa_einsum(q, k.repeat_interleave(groups, 2), v.repeat_interleave(groups, 2))


def _broadcast(q, k, v):
    n_kv, t, s = k.shape[2], q.shape[1], k.shape[1]
    grouped = q.unflatten(2, (n_kv, -1)).permute(0, 2, 3, 1, 4)
    keys, values = (x.transpose(1, 2).unsqueeze(2) for x in (k, v))
    allowed = torch.ones(t, s, dtype=torch.bool).tril(s - t)
    scores = (grouped @ keys.transpose(-1, -2) / math.sqrt(q.shape[-1])).masked_fill(
        ~allowed, -math.inf
    )
    return (scores.softmax(-1) @ values).permute(0, 3, 1, 2, 4).flatten(2, 3)


GQA_WRONG = {
    "the heads are shared in tile order": lambda q, k, v: gqa_einsum(q, k, v, tile=True),
    "softmax runs over the wrong axis": lambda q, k, v: gqa_einsum(q, k, v, axis=-2),
    "the scores are not scaled": lambda q, k, v: gqa_einsum(q, k, v, scale=1.0),
    "the scores are divided by the head size, not its root": lambda q, k, v: gqa_einsum(
        q, k, v, scale=1 / q.shape[-1]
    ),
    "the mask is not causal": lambda q, k, v: gqa_einsum(q, k, v, offset=99),
    "the mask blocks the diagonal": lambda q, k, v: gqa_einsum(
        q, k, v, offset=k.shape[1] - q.shape[1] - 1
    ),
    "the mask is lined up with the first key": lambda q, k, v: gqa_einsum(q, k, v, offset=0),
    "the keys are copied": _copying,
}

GQA_COPIES = {"repeat_interleave": _copying, "a broadcast product": _broadcast}

# 01.5 ----------------------------------------------------------------------------------------


def mask_and(ids):
    return (ids[:, None] == ids[None, :]).tril()


def mask_loops(ids):
    rows = [[s <= t and int(a) == int(b) for s, b in enumerate(ids)] for t, a in enumerate(ids)]
    return torch.tensor(rows)


def pack_lists(documents, length):
    tokens, ids, positions = [], [], []
    for number, document in enumerate([*documents, [0] * length]):
        tokens += document
        ids += [number] * len(document)
        positions += range(len(document))
    return tuple(torch.tensor(row[:length]) for row in (tokens, ids, positions))


def pack_fill(documents, length):
    """Another right way: ids start at 1, each padding token is a document of its own."""
    tokens, positions = torch.zeros(length, dtype=torch.long), torch.zeros(length, dtype=torch.long)
    ids = -1 - torch.arange(length)
    start = 0
    for number, document in enumerate(documents, 1):
        part = torch.tensor(document)[: length - start]
        end = start + len(part)
        tokens[start:end], ids[start:end] = part, number
        positions[start:end] = torch.arange(len(part))
        start = end
    return tokens, ids, positions


def targets_where(tokens, ids):
    out = torch.full_like(tokens, -100)
    out[:-1] = torch.where(ids[1:] == ids[:-1], tokens[1:], -100)
    return out


def targets_loop(tokens, ids):
    last = len(tokens) - 1
    return torch.tensor(
        [int(tokens[i + 1]) if i < last and ids[i] == ids[i + 1] else -100 for i in range(last + 1)]
    )


def _changed(change):
    """pack_lists with one of its three results changed."""

    def wrong(documents, length):
        return change(*pack_lists(documents, length), len(documents))

    return wrong


MASK_WRONG = {
    "the mask leaks across the document border": lambda ids: torch.ones(
        len(ids), len(ids), dtype=torch.bool
    ).tril(),
    "the mask is not causal": lambda ids: ids[:, None] == ids[None, :],
    "the mask blocks the diagonal": lambda ids: mask_and(ids).tril(-1),
    "tokens look forward": lambda ids: (ids[:, None] == ids[None, :]).triu(),
    "allowed and forbidden are swapped": lambda ids: ~mask_and(ids),
    "earlier documents are visible": lambda ids: (ids[:, None] >= ids[None, :]).tril(),
    "gradient crosses the border": lambda ids: (
        mask_and(ids) if len(ids) < 10 else torch.ones(len(ids), len(ids), dtype=torch.bool).tril()
    ),
    "document_mask: wrong dtype": lambda ids: mask_and(ids).float(),
}

PACK_WRONG = {
    "pack: positions run on across the border": _changed(
        lambda t, i, p, n: (t, i, torch.arange(len(t)))
    ),
    "pack: the padding belongs to a document": _changed(
        lambda t, i, p, n: (t, i.clamp(max=n - 1), p)
    ),
    "pack: the documents share one id": _changed(lambda t, i, p, n: (t, (i >= n).long(), p)),
    "pack: the tokens are not laid end to end": _changed(lambda t, i, p, n: (t.flip(0), i, p)),
    "pack: positions start at 1": _changed(lambda t, i, p, n: (t, i, p + 1)),
}

TARGETS_WRONG = {
    "targets: a label crosses the border": lambda t, i: torch.cat((t[1:], torch.tensor([-100]))),
    "targets: the last token has a target": lambda t, i: t.roll(-1),
    "targets: each token predicts itself": lambda t, i: t,
}

# 01.6 ----------------------------------------------------------------------------------------

_FIELDS = {
    "dim": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "n_kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "ffn_dim": "intermediate_size",
    "vocab_size": "vocab_size",
    "norm_eps": "rms_norm_eps",
    "rope_theta": "rope_theta",
    "max_seq_len": "max_position_embeddings",
    "tie_embeddings": "tie_word_embeddings",
}


def from_table(config, tensors, *, skip=(), change=None):
    fields = {ours: config[theirs] for ours, theirs in _FIELDS.items() if ours not in skip}
    scaling = config["rope_scaling"]
    if scaling and "rope_scaling" not in skip:
        fields["rope_scaling"] = RopeScaling(
            factor=scaling["factor"],
            low_freq_factor=scaling["low_freq_factor"],
            high_freq_factor=scaling["high_freq_factor"],
            original_max_seq_len=scaling["original_max_position_embeddings"],
        )
    args = ModelArgs(**fields)
    tensors = {"lm_head.weight": tensors["model.embed_tokens.weight"]} | tensors
    state = {}
    for ours, theirs in foreign_names(args.n_layers).items():
        heads = {"wq": args.n_heads, "wk": args.n_kv_heads}.get(ours.split(".")[-2])
        state[ours] = half_to_interleaved(tensors[theirs], heads) if heads else tensors[theirs]
    if change:
        change(args, state)
    return args, state


def from_rename(config, tensors):
    """Another right way: rename by replacing words, permute by an index."""
    words = {"model.": "", "embed_tokens": "tok_embeddings", "lm_head": "output"}
    words |= {f"self_attn.{x}_proj": f"attention.w{x}" for x in "qkvo"}
    words |= {"mlp.gate_proj": "feed_forward.w1", "mlp.down_proj": "feed_forward.w2"}
    words |= {"mlp.up_proj": "feed_forward.w3", "input_layernorm": "attention_norm"}
    words |= {"post_attention_layernorm": "ffn_norm"}
    args, _ = from_table(config, tensors)
    half = args.head_dim // 2
    order = torch.tensor([i // 2 + half * (i % 2) for i in range(args.head_dim)])
    state = {}
    for name, tensor in tensors.items():
        for theirs, ours in words.items():
            name = name.replace(theirs, ours)
        if ".wq." in name or ".wk." in name:
            tensor = tensor.unflatten(0, (-1, args.head_dim))[:, order].flatten(0, 1)
        state[name] = tensor
    state.setdefault("output.weight", state["tok_embeddings.weight"])
    return args, state


def to_table(args, state):
    tensors = {}
    for ours, theirs in foreign_names(args.n_layers).items():
        heads = {"wq": args.n_heads, "wk": args.n_kv_heads}.get(ours.split(".")[-2])
        tensors[theirs] = interleaved_to_half(state[ours], heads) if heads else state[ours]
    if args.tie_embeddings:
        del tensors["lm_head.weight"]
    return foreign_config(args), tensors


def to_with_copy(args, state):
    """Another right way: a second copy of the tied matrix is wasteful, not wrong."""
    config, tensors = to_table(args, state)
    return config, tensors | {"lm_head.weight": state["output.weight"].clone()}


def _rows(part, function):
    """A change that applies `function(tensor, args)` to every tensor of that part."""

    def change(args, state):
        for name in state:
            if f".{part}." in name:
                state[name] = function(state[name], args)

    return change


def _swap(one, other):
    def change(args, state):
        for name in [name for name in state if f".{one}." in name]:
            twin = name.replace(one, other)
            state[name], state[twin] = state[twin], state[name]

    return change


def _back(tensor, args):
    return interleaved_to_half(tensor, args.n_heads)


def _twice_back(tensor, args):
    return interleaved_to_half(interleaved_to_half(tensor, args.n_heads), args.n_heads)


def _other_heads(tensor, args):
    return half_to_interleaved(interleaved_to_half(tensor, args.n_kv_heads), args.n_heads)


def _broken(change):
    return lambda config, tensors: from_table(config, tensors, change=change)


def _without(field):
    return lambda config, tensors: from_table(config, tensors, skip=(field,))


FROM_WRONG = {
    "the rows of wq are not permuted": _broken(_rows("wq", _back)),
    "the rows of wq are permuted the wrong way": _broken(_rows("wq", _twice_back)),
    "the rows of wk are permuted with the wrong number of heads": _broken(
        _rows("wk", _other_heads)
    ),
    "wv is permuted": _broken(_rows("wv", lambda t, a: half_to_interleaved(t, a.n_kv_heads))),
    "two tensors are swapped": _broken(_swap("w1", "w3")),
    "a matrix is transposed": _broken(_rows("w2", lambda t, a: t.T)),
    "rope_theta is not taken from the config": _without("rope_theta"),
    "norm_eps is not taken from the config": _without("norm_eps"),
    "rope_scaling is not taken from the config": _without("rope_scaling"),
    "the tied output matrix is missing": _broken(
        lambda args, state: state.pop("output.weight") if args.tie_embeddings else None
    ),
    "the names do not match": lambda config, tensors: (from_table(config, tensors)[0], tensors),
}

TO_WRONG = {
    "to_foreign: the rows are not permuted back": lambda args, state: (
        foreign_config(args),
        {theirs: state[ours] for ours, theirs in foreign_names(args.n_layers).items()},
    ),
    "to_foreign: the names do not match": lambda args, state: (foreign_config(args), state),
    "to_foreign: rope_theta is wrong": lambda args, state: (
        foreign_config(args) | {"rope_theta": 500_000.0},
        to_table(args, state)[1],
    ),
}
