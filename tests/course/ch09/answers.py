"""Answers to exercises 1, 2, 3 and 5 of chapter 09: right ones, and planted mistakes."""

import math

import torch
import torch.nn.functional as F

FP8 = torch.float8_e4m3fn


# 09.1
def bytes_formula(args, num_tokens, block_size=16, bytes_per_value=2):
    blocks = -(-num_tokens // block_size)
    per_token = 2 * args.n_layers * args.n_kv_heads * args.head_dim * bytes_per_value
    return per_token * blocks * block_size


def bytes_counted(args, num_tokens, block_size=16, bytes_per_value=2):
    """Block after block, layer after layer, as long as tokens are left."""
    total = 0
    while num_tokens > 0:
        for _layer in range(args.n_layers):
            keys = block_size * args.n_kv_heads * args.head_dim * bytes_per_value
            total += keys + keys
        num_tokens -= block_size
    return total


def _with_float(args, n, size=16, value=2):
    return bytes_formula(args, n, size, value) / 1


def _rounded_up_once_more(args, n, size=16, value=2):
    return bytes_formula(args, (n // size + 1) * size, size, value)


BYTES_WRONG = {
    "not rounded up to whole blocks": lambda args, n, size=16, value=2: bytes_formula(
        args, n, 1, value
    ),
    "one block too many": _rounded_up_once_more,
    "block_size is not used": lambda args, n, size=16, value=2: bytes_formula(
        args, n, bytes_per_value=value
    ),
    "a float, not a whole number": _with_float,
}


# 09.2
def cached_sdpa(q, k, v, keys, values, start):
    end = start + q.shape[1]
    keys[:, :, start:end] = k.transpose(1, 2)
    values[:, :, start:end] = v.transpose(1, 2)
    mask = torch.ones(q.shape[1], end, dtype=torch.bool).tril(start)
    mixed = F.scaled_dot_product_attention(
        q.transpose(1, 2), keys[:, :, :end], values[:, :, :end], attn_mask=mask, enable_gqa=True
    )
    return mixed.transpose(1, 2)


def cached_loops(q, k, v, keys, values, start):
    """One query head of one token at a time, over exactly what it may see."""
    out, group = torch.empty_like(q), q.shape[2] // k.shape[2]
    for t in range(q.shape[1]):
        keys[:, :, start + t] = k[:, t]
        values[:, :, start + t] = v[:, t]
        for n in range(q.shape[2]):
            seen = keys[:, n // group, : start + t + 1]
            scores = (seen @ q[:, t, n].unsqueeze(-1)).squeeze(-1) / math.sqrt(q.shape[-1])
            weights = scores.softmax(-1).unsqueeze(1)
            out[:, t, n] = (weights @ values[:, n // group, : start + t + 1]).squeeze(1)
    return out


def _cached(store=None, mask=None, read=None, tile=False, scale=None):
    def attention(q, k, v, keys, values, start):
        end = start + q.shape[1]
        if store:
            store(k, v, keys, values, start, end)
        else:
            keys[:, :, start:end] = k.transpose(1, 2)
            values[:, :, start:end] = v.transpose(1, 2)
        ks, vs = read(keys, values, start, end) if read else (keys[:, :, :end], values[:, :, :end])
        if tile:
            ks, vs = (x.repeat(1, q.shape[2] // k.shape[2], 1, 1) for x in (ks, vs))
        shape = q.shape[1], ks.shape[2]
        seen = torch.ones(shape, dtype=torch.bool).tril(start)
        seen = mask(seen, start) if mask else seen
        mixed = F.scaled_dot_product_attention(
            q.transpose(1, 2), ks, vs, attn_mask=seen, enable_gqa=True, scale=scale
        )
        return mixed.transpose(1, 2)

    return attention


def _store_at_0(k, v, keys, values, start, end):
    keys[:, :, : end - start] = k.transpose(1, 2)
    values[:, :, : end - start] = v.transpose(1, 2)


def _store_keys(k, v, keys, values, start, end):
    keys[:, :, start:end] = k.transpose(1, 2)


def _store_swapped(k, v, keys, values, start, end):
    keys[:, :, start:end] = v.transpose(1, 2)
    values[:, :, start:end] = k.transpose(1, 2)


def _store_behind(k, v, keys, values, start, end):
    for cache, new in ((keys, k), (values, v)):
        cache[:, :, start:end] = new.transpose(1, 2)
        cache[:, :, end:] = 0


def _store_last(k, v, keys, values, start, end):
    keys[:, :, start] = k[:, -1]
    values[:, :, start] = v[:, -1]


def _only_returned(q, k, v, keys, values, start):
    keys = torch.cat([keys[:, :, :start], k.transpose(1, 2)], 2)
    values = torch.cat([values[:, :, :start], v.transpose(1, 2)], 2)
    return cached_sdpa(q, k, v, keys, values, start)


def _softmax_over_queries(q, k, v, keys, values, start):
    cached_sdpa(q, k, v, keys, values, start)
    end, group = start + q.shape[1], q.shape[2] // k.shape[2]
    ks, vs = (x[:, :, :end].repeat_interleave(group, 1) for x in (keys, values))
    scores = q.transpose(1, 2) @ ks.transpose(2, 3) / math.sqrt(q.shape[-1])
    seen = torch.ones(q.shape[1], end, dtype=torch.bool).tril(start)
    return (scores.masked_fill(~seen, -math.inf).softmax(2) @ vs).transpose(1, 2)


CACHED_WRONG = {
    "keys: nothing is stored": _only_returned,
    "values: nothing is stored": _cached(_store_keys),
    "keys: stored at 0, not at start": _cached(_store_at_0),
    "keys and values are mixed up": _cached(_store_swapped),
    "keys: slots of other tokens are overwritten": _cached(_store_behind),
    "keys: something else is stored": _cached(_store_last),
    "the mask is not shifted by start": _cached(mask=lambda seen, start: seen.tril(0)),
    "a query sees later tokens of its piece": _cached(mask=lambda seen, s: torch.ones_like(seen)),
    "later pieces have no mask": _cached(mask=lambda seen, s: torch.ones_like(seen) if s else seen),
    "the first piece has no mask": _cached(
        mask=lambda seen, s: seen if s else torch.ones_like(seen)
    ),
    "a query sees one token too many": _cached(
        mask=lambda seen, s: torch.ones_like(seen).tril(s + 1)
    ),
    "a query does not see itself": _cached(mask=lambda seen, s: seen.tril(s - 1)),
    "slots that nobody has written are read": _cached(
        mask=lambda seen, s: torch.ones_like(seen), read=lambda k, v, s, e: (k, v)
    ),
    "the tokens before the piece are not read": _cached(
        mask=lambda seen, s: seen.tril(0), read=lambda k, v, s, e: (k[:, :, s:e], v[:, :, s:e])
    ),
    "query heads read the wrong key/value head": _cached(tile=True),
    "the scores are not scaled": _cached(scale=1.0),
    "the scores are divided by the head size, not its root": lambda q, *rest: cached_sdpa(
        q / math.sqrt(q.shape[-1]), *rest
    ),
    "softmax runs over the wrong axis": _softmax_over_queries,
    "cached_attention: wrong shape": lambda *given: cached_sdpa(*given).transpose(1, 2),
    "cached_attention: wrong type": lambda *given: cached_sdpa(*given).tolist(),
    "cached_attention: nothing was returned": lambda *given: None,
}


# 09.3
def top_p_sorted(logits, p, min_p=0.0):
    probs = logits.softmax(-1)
    ordered, order = probs.sort(descending=True, stable=True)
    ordered[ordered.cumsum(0) - ordered > p] = 0
    probs = torch.zeros_like(probs).scatter(0, order, ordered)
    probs /= probs.sum()
    probs[probs < min_p * probs.max()] = 0
    return probs / probs.sum()


def top_p_loop(logits, p, min_p=0.0):
    """With lists and whole sums, one token after the other."""
    weights = [math.exp(x - max(logits.tolist())) for x in logits.tolist()]
    probs = [w / math.fsum(weights) for w in weights]
    kept, passed = [], 0.0
    for token in sorted(range(len(probs)), key=lambda i: (-probs[i], i)):
        kept.append(token)
        passed += probs[token]
        if passed > p:
            break
    floor = min_p * max(probs)
    kept = [token for token in kept if probs[token] >= floor]
    total = sum(probs[token] for token in kept)
    return torch.tensor([probs[i] / total if i in kept else 0.0 for i in range(len(probs))])


def _top_p(keep=None, again=True, back=True, floor=None, last=True):
    def top_p_probs(logits, p, min_p=0.0):
        probs = logits.softmax(-1)
        ordered, order = probs.sort(descending=True, stable=True)
        kept = keep(ordered, p) if keep else ordered.cumsum(0) - ordered <= p
        ordered = ordered * kept
        probs = torch.zeros_like(probs).scatter(0, order, ordered) if back else ordered
        probs = probs / probs.sum() if again else probs
        if min_p:
            probs = probs * (probs >= (floor(probs, min_p) if floor else min_p * probs.max()))
            probs = probs / probs.sum() if last else probs
        return probs

    return top_p_probs


def _or_first(kept):
    kept[0] = True
    return kept


def _hidden(logits, p, min_p=0.0):
    return (logits * (top_p_sorted(logits, p) > 0)).softmax(-1)


def _by(logits, p, order, min_p):
    probs = logits.softmax(-1)
    sums = probs[order].cumsum(0)
    kept = torch.zeros(len(probs), dtype=torch.bool)
    kept[order] = sums - probs[order] <= p
    probs = probs * kept / (probs * kept).sum()
    probs = probs * (probs >= min_p * probs.max())
    return probs / probs.sum()


def _floor_first(logits, p, min_p=0.0):
    probs = logits.softmax(-1)
    kept = probs >= min_p * probs.max()
    return top_p_sorted(logits.masked_fill(~kept, -math.inf), p)


TOP_P_WRONG = {
    "no token may be left": _top_p(lambda o, p: o.cumsum(0) <= p),
    "the token that passes p is dropped": _top_p(lambda o, p: _or_first(o.cumsum(0) <= p)),
    "one token too many is kept": _top_p(
        lambda o, p: _or_first((o.cumsum(0) - o).roll(1) <= p),
    ),
    "all equal tokens are kept": _top_p(lambda o, p: o >= o[o.cumsum(0) - o <= p][-1]),
    "equal tokens are not taken in index order": lambda logits, *rest: top_p_sorted(
        logits.flip(0), *rest
    ).flip(0),
    "p is taken as a floor for each token": _top_p(lambda o, p: _or_first(o >= p)),
    "the least likely tokens are kept": lambda logits, p, min_p=0.0: _by(
        logits, p, logits.argsort(stable=True), min_p
    ),
    "the tokens are not sorted": lambda logits, p, min_p=0.0: _by(
        logits, p, torch.arange(len(logits)), min_p
    ),
    "p is not used": _top_p(lambda o, p: o > 0),
    "the result is in sorted order": _top_p(back=False),
    "not renormalised": _top_p(again=False, last=False),
    "dropped tokens get the logit 0": _hidden,
    "min_p is compared with 1": _top_p(floor=lambda probs, min_p: min_p),
    "min_p is not used": lambda logits, p, min_p=0.0: top_p_sorted(logits, p),
    "the floor comes before top-p": _floor_first,
    "top_p_probs: wrong type": lambda *given: top_p_sorted(*given).tolist(),
    "top_p_probs: wrong dtype": lambda *given: top_p_sorted(*given) > 0,
    "top_p_probs: wrong shape": lambda *given: top_p_sorted(*given)[None],
}


# 09.5
def fp8_library(x, bound=1200.0):
    from llama3lib.quant import quantize_rows

    return *quantize_rows(x, bound), x.abs() > bound


def fp8_cut_first(x, bound=1200.0):
    """Cuts x itself, and then needs neither a bound nor a clamp."""
    cut = x.clamp(-bound, bound)
    largest = cut.abs().max(1, keepdim=True).values
    scale = torch.where(largest > 0, largest / 448, 1.0)
    return (cut / scale).to(FP8), scale, cut != x


def _fp8(size=None, scale=None, clamp=True, cut=None, tiny=1e-12, dtype=FP8):
    def fp8_rows(x, bound=1200.0):
        largest = size(x, bound) if size else x.abs().amax(-1, keepdim=True).clamp(max=bound)
        factor = scale(largest, bound) if scale else largest / 448
        factor = factor.clamp(min=tiny)
        wide = x / factor
        q = (wide.clamp(-448, 448) if clamp else wide).to(dtype)
        return q, factor, cut(x, bound, q, factor) if cut else x.abs() > bound

    return fp8_rows


def _rows(x):
    return x.abs().amax(-1, keepdim=True)


FP8_WRONG = {
    "the bound is put on the scale": _fp8(
        lambda x, b: _rows(x), lambda largest, b: (largest / 448).clamp(max=b)
    ),
    "there is no bound": _fp8(lambda x, b: _rows(x)),
    "one scale for the whole tensor": _fp8(lambda x, b: x.abs().max().clamp(max=b)),
    "a scale for each column, not for each row": _fp8(
        lambda x, b: x.abs().amax(0, keepdim=True).clamp(max=b)
    ),
    "numbers that do not fit go into the cast": _fp8(clamp=False),
    "a row of zeros is divided by zero": _fp8(tiny=0.0),
    "negative numbers are not seen": _fp8(lambda x, b: x.amax(-1, keepdim=True).clamp(max=b)),
    "the largest number becomes 127, not 448": _fp8(scale=lambda largest, b: largest / 127),
    "the largest number becomes 1, not 448": _fp8(scale=lambda largest, b: largest),
    "the bound takes the place of 448": _fp8(scale=lambda largest, b: largest / b),
    "the scale is upside down": lambda x, b=1200.0: (
        fp8_library(x, b)[0],
        1 / fp8_library(x, b)[1],
        x.abs() > b,
    ),
    "every row has the scale of the bound": _fp8(lambda x, b: torch.full_like(x[:, :1], b)),
    "q is not in FP8": _fp8(dtype=torch.float32),
    "saturated: a number exactly at the bound counts": _fp8(cut=lambda x, b, q, s: x.abs() >= b),
    "saturated: only the largest of a row counts": _fp8(
        cut=lambda x, b, q, s: (x.abs() > b) & (x.abs() == _rows(x))
    ),
    "saturated: whole rows count": _fp8(
        cut=lambda x, b, q, s: (x.abs() > b).any(-1, keepdim=True).expand_as(x)
    ),
    "saturated: negative numbers are not seen": _fp8(cut=lambda x, b, q, s: x > b),
    "saturated: numbers that are only rounded count": _fp8(
        cut=lambda x, b, q, s: (q.float() * s).abs() < x.abs()
    ),
    "saturated: compared with 448, not with the bound": _fp8(cut=lambda x, b, q, s: x.abs() > 448),
    "saturated: the largest number of every row counts": _fp8(
        cut=lambda x, b, q, s: q.float().abs() >= 448
    ),
    "saturated: the wrong way round": _fp8(cut=lambda x, b, q, s: x.abs() <= b),
    "saturated: nothing is found": _fp8(cut=lambda x, b, q, s: x != x),
    "saturated: what rounds above 448 counts": _fp8(cut=lambda x, b, q, s: (x / s).abs() > 448),
    "fp8_rows: three tensors are needed": lambda x, b=1200.0: fp8_library(x, b)[:2],
    "fp8_rows, scale: wrong shape": lambda x, b=1200.0: (
        fp8_library(x, b)[0],
        fp8_library(x, b)[1].squeeze(1),
        x > b,
    ),
    "fp8_rows, saturated: wrong dtype": lambda x, b=1200.0: (*fp8_library(x, b)[:2], x),
}

RIGHT = {"09.1": [bytes_formula, bytes_counted]}
WRONG = {"09.1": BYTES_WRONG}
