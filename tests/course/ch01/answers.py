"""Answers to the exercises of chapter 01: right ones in two ways, and wrong ones in a learner's."""

import math

import torch

from llama3lib.checkpoint.hf import from_hf_name, to_hf_name
from llama3lib.model import ModelArgs, RopeScaling
from llama3lib.model.flops import tensor_shapes
from llama3lib.model.rope import half_to_interleaved, interleaved_to_half
from widgets.ch01.exercises.e6_convert import foreign_config

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


def _rms_of_all(x, w, eps):
    return (x.float() * torch.rsqrt(x.float().pow(2).mean() + eps) * w).to(x.dtype)


def _layer_norm(x, w, eps):
    wide = x.float() - x.float().mean(-1, keepdim=True)
    return (wide * torch.rsqrt(wide.var(-1, keepdim=True, correction=0) + eps) * w).to(x.dtype)


def _rms_in_place(x, w, eps):
    return x.copy_(rms_plain(x, w, eps))


RMS_WRONG = {
    "the mean is subtracted": _layer_norm,
    "the mean runs over all dimensions": _rms_of_all,
    "the squares are taken in half precision": lambda x, w, eps: (
        x * torch.rsqrt((x * x).mean(-1, keepdim=True) + eps) * w
    ),
    "the input is overwritten": _rms_in_place,
    "rms_norm: wrong shape": lambda x, w, eps: rms_plain(x, w, eps)[..., :1],
}

FLAT_WRONG = {
    "flattened: a row of `size` numbers is needed": lambda size: torch.ones(size, 1),
    "flattened: all numbers are equal": lambda size: torch.full((size,), 7.0),
    "flattened: the row is not flat yet": lambda size: 1.0 + torch.arange(size),
    "flattened: LayerNorm lost the pattern too": lambda size: (
        1 + 1e-4 * torch.arange(size, dtype=torch.float64)
    ),
}

# 01.5 ----------------------------------------------------------------------------------------


def count_formula(args, *, ffn=3, norms=2, heads=None):
    queries = args.n_heads * args.head_dim
    keys = (heads or args.n_kv_heads) * args.head_dim
    block = args.dim * (2 * queries + 2 * keys + ffn * args.ffn_dim + norms)
    matrices = 1 if args.tie_embeddings else 2
    return args.n_layers * block + args.vocab_size * args.dim * matrices + args.dim


def count_list(args):
    return sum(math.prod(shape.shape) * shape.copies for shape in tensor_shapes(args))


def tied_by_count(args, total):
    return count_formula(args.replace(tie_embeddings=True)) == total


def tied_by_remainder(args, total):
    rest = total - count_list(args.replace(tie_embeddings=True))
    return rest < args.vocab_size * args.dim


COUNT_WRONG = {
    "keys and values are counted as wide as queries": lambda a: count_formula(a, heads=a.n_heads),
    "the feed-forward layer has two matrices, not three": lambda a: count_formula(a, ffn=2),
    "the norms of the blocks are forgotten": lambda a: count_formula(a, norms=0),
    "a float, not a whole number": lambda a: float(count_formula(a)),
    "count: the values differ": lambda args: 7,
}

TIED_WRONG = {
    "is_tied: the verdict is wrong": lambda args, total: args.tie_embeddings,
    "is_tied: wrong type": lambda args, total: "untied",
}

# 01.2 ----------------------------------------------------------------------------------------


def turn_neighbours(x, positions, freqs, *, sign=1):
    angles = torch.outer(positions.to(freqs.dtype), freqs) * sign
    a, b = x[:, 0::2], x[:, 1::2]
    turned = a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos()
    return torch.stack(turned, -1).flatten(-2)


def turn_complex(x, positions, freqs):
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * torch.exp(1j * torch.outer(positions, freqs))).flatten(-2)


def turn_halves(x, positions, freqs):
    angles = torch.outer(positions.to(freqs.dtype), freqs)
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


NEIGHBOURS_WRONG = {
    "the pairs turn the wrong way": lambda x, p, f: turn_neighbours(x, p, f, sign=-1),
    "a minus sign is missing": _no_minus,
    "the pairs are not put back beside each other": lambda x, p, f: turn_neighbours(x, p, f)[
        :, order_lists(x.shape[-1])
    ],
}

HALVES_WRONG = {
    "wrong pairing of channels": turn_neighbours,
    "the position is off by one": lambda x, p, f: turn_halves(x, p - 1, f),
}

ORDER_WRONG = {
    "halves_order: not a permutation": lambda n: list(range(0, n, 2)) * 2,
    "halves_order: the layouts do not meet": lambda n: [*range(1, n, 2), *range(0, n, 2)],
}

# 01.3 ----------------------------------------------------------------------------------------


def gqa_einsum(q, k, v, *, offset=None, axis=-1, tile=False):
    n_kv, t, s, h = k.shape[2], q.shape[1], k.shape[1], q.shape[3]
    split = q.unflatten(2, (-1, n_kv) if tile else (n_kv, -1))
    grouped = split.transpose(2, 3) if tile else split
    scores = torch.einsum("btkgh,bskh->bkgts", grouped, k) * h**-0.5
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
    "the mask is lined up with the first key": lambda q, k, v: gqa_einsum(q, k, v, offset=0),
    "the keys are copied": _copying,
}

GQA_COPIES = {"repeat_interleave": _copying, "a broadcast product": _broadcast}

# 01.4 ----------------------------------------------------------------------------------------


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


def _next_but_one(tokens, ids):
    out = torch.full_like(tokens, -100)
    out[:-2] = torch.where(ids[2:] == ids[:-2], tokens[2:], -100)
    return out


def _changed(change):
    """pack_lists with one of its three results changed."""

    def wrong(documents, length):
        return change(*pack_lists(documents, length), len(documents))

    return wrong


MASK_WRONG = {
    "the mask blocks the diagonal": lambda ids: mask_and(ids).tril(-1),
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
    "pack: the positions are wrong": _changed(lambda t, i, p, n: (t, i, p.flip(0))),
    "pack: the ids do not follow the documents": _changed(
        lambda t, i, p, n: (t, torch.arange(len(t)), p)
    ),
    "pack: wrong shape": _changed(lambda t, i, p, n: (t, i, p.float())),
    "pack: three tensors are needed": lambda documents, length: pack_lists(documents, length)[:2],
}

TARGETS_WRONG = {
    "targets: a label crosses the border": lambda t, i: torch.cat((t[1:], torch.tensor([-100]))),
    "targets: the last token has a target": lambda t, i: t.roll(-1),
    "targets: each token predicts itself": lambda t, i: t,
    "targets: not the next token": _next_but_one,
    "targets: one target for each token is needed": lambda t, i: t[1:],
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
    for theirs, tensor in tensors.items():
        ours = from_hf_name(theirs)
        heads = {"wq": args.n_heads, "wk": args.n_kv_heads}.get(ours.split(".")[-2])
        state[ours] = half_to_interleaved(tensor, heads) if heads else tensor
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
    for ours, tensor in state.items():
        heads = {"wq": args.n_heads, "wk": args.n_kv_heads}.get(ours.split(".")[-2])
        tensors[to_hf_name(ours)] = interleaved_to_half(tensor, heads) if heads else tensor
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
    "from_foreign: (ModelArgs, dict of tensors) is needed": lambda *given: from_table(*given)[1],
    "a matrix has the wrong shape": _broken(_rows("w2", lambda t, a: t[:, 1:])),
    "a tensor is wrong": _broken(_rows("w2", lambda t, a: 2 * t)),
    "the names do not match": lambda config, tensors: (from_table(config, tensors)[0], tensors),
}

TO_WRONG = {
    "to_foreign: the rows are not permuted back": lambda args, state: (
        foreign_config(args),
        {to_hf_name(ours): tensor for ours, tensor in state.items()},
    ),
    "to_foreign: the names do not match": lambda args, state: (foreign_config(args), state),
    "to_foreign: (config, dict of tensors) is needed": lambda *given: to_table(*given)[1],
    "to_foreign: a tensor is wrong": lambda args, state: (
        foreign_config(args),
        {name: x if "self_attn" in name else 2 * x for name, x in to_table(args, state)[1].items()},
    ),
    "to_foreign: rope_theta is wrong": lambda args, state: (
        foreign_config(args) | {"rope_theta": 500_000.0},
        to_table(args, state)[1],
    ),
}

RIGHT = {
    "01.1": [
        {"rms_norm": rms_plain, "flattened": flat_ramp},
        {"rms_norm": rms_rsqrt, "flattened": flat_wave},
    ],
    "01.5": [
        {"count": count_formula, "is_tied": tied_by_count},
        {"count": count_list, "is_tied": tied_by_remainder},
    ],
    "01.2": [
        {
            "rotate_neighbours": turn_neighbours,
            "rotate_halves": turn_halves,
            "halves_order": order_lists,
        },
        {
            "rotate_neighbours": turn_complex,
            "rotate_halves": turn_halves_half,
            "halves_order": order_tensor,
        },
    ],
    "01.3": [gqa_einsum, gqa_loop],
    "01.4": [
        {"document_mask": mask_and, "pack": pack_lists, "targets": targets_where},
        {"document_mask": mask_loops, "pack": pack_fill, "targets": targets_loop},
    ],
    "01.6": [
        {"from_foreign": from_table, "to_foreign": to_table},
        {"from_foreign": from_rename, "to_foreign": to_with_copy},
    ],
}


def _in(part, answers):
    """Each of them in the place of one function of the answer."""
    return {name: {part: wrong} for name, wrong in answers.items()}


WRONG = {
    "01.1": _in("rms_norm", RMS_WRONG) | _in("flattened", FLAT_WRONG),
    "01.5": _in("count", COUNT_WRONG) | _in("is_tied", TIED_WRONG),
    "01.2": _in("rotate_neighbours", NEIGHBOURS_WRONG)
    | _in("rotate_halves", HALVES_WRONG)
    | _in("halves_order", ORDER_WRONG),
    "01.3": GQA_WRONG,
    "01.4": _in("document_mask", MASK_WRONG)
    | _in("pack", PACK_WRONG)
    | _in("targets", TARGETS_WRONG),
    "01.6": _in("from_foreign", FROM_WRONG) | _in("to_foreign", TO_WRONG),
}
