"""Answers to the exercises of chapter 09: right ones in two ways, and wrong ones in a learner's."""

import math
import random

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


def _with_store(store):
    """`cached_sdpa` whose last words in the cache are these."""

    def attention(q, k, v, keys, values, start):
        before = keys.clone(), values.clone()
        mixed = cached_sdpa(q, k, v, keys, values, start)
        keys.copy_(before[0]), values.copy_(before[1])
        store(k.transpose(1, 2), v.transpose(1, 2), keys, values, start, start + q.shape[1])
        return mixed

    return attention


def _store_at_0(k, v, keys, values, start, end):
    keys[:, :, : end - start], values[:, :, : end - start] = k, v


def _store_keys(k, v, keys, values, start, end):
    keys[:, :, start:end] = k


def _store_swapped(k, v, keys, values, start, end):
    keys[:, :, start:end], values[:, :, start:end] = v, k


def _store_behind(k, v, keys, values, start, end):
    for cache, new in ((keys, k), (values, v)):
        cache[:, :, start:end] = new
        cache[:, :, end:] = 0


def _store_last(k, v, keys, values, start, end):
    keys[:, :, start], values[:, :, start] = k[:, :, -1], v[:, :, -1]


def _only_returned(q, k, v, keys, values, start):
    keys = torch.cat([keys[:, :, :start], k.transpose(1, 2)], 2)
    values = torch.cat([values[:, :, :start], v.transpose(1, 2)], 2)
    return cached_sdpa(q, k, v, keys, values, start)


def _own_mask(q, k, v, keys, values, start):
    """The mask that PyTorch makes by itself."""
    cached_sdpa(q, k, v, keys, values, start)
    end = start + q.shape[1]
    mixed = F.scaled_dot_product_attention(
        q.transpose(1, 2), keys[:, :, :end], values[:, :, :end], is_causal=True, enable_gqa=True
    )
    return mixed.transpose(1, 2)


def _softmax_over_queries(q, k, v, keys, values, start):
    cached_sdpa(q, k, v, keys, values, start)
    end, group = start + q.shape[1], q.shape[2] // k.shape[2]
    ks, vs = (x[:, :, :end].repeat_interleave(group, 1) for x in (keys, values))
    scores = q.transpose(1, 2) @ ks.transpose(2, 3) / math.sqrt(q.shape[-1])
    seen = torch.ones(q.shape[1], end, dtype=torch.bool).tril(start)
    return (scores.masked_fill(~seen, -math.inf).softmax(2) @ vs).transpose(1, 2)


CACHED_WRONG = {
    "keys: nothing is stored": _only_returned,
    "values: nothing is stored": _with_store(_store_keys),
    "keys: stored at 0, not at start": _with_store(_store_at_0),
    "keys and values are mixed up": _with_store(_store_swapped),
    "keys: slots of other tokens are overwritten": _with_store(_store_behind),
    "keys: something else is stored": _with_store(_store_last),
    "the mask is not shifted by start": _own_mask,
    "softmax runs over the wrong axis": _softmax_over_queries,
    "the scores are divided by the head size, not its root": lambda q, *rest: cached_sdpa(
        q / math.sqrt(q.shape[-1]), *rest
    ),
    "cached_attention: wrong shape": lambda *given: cached_sdpa(*given).transpose(1, 2),
    "cached_attention: wrong type": lambda *given: cached_sdpa(*given).tolist(),
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


def _hidden(logits, p, min_p=0.0):
    return (logits * (top_p_sorted(logits, p) > 0)).softmax(-1)


def _floor_first(logits, p, min_p=0.0):
    probs = logits.softmax(-1)
    kept = probs >= min_p * probs.max()
    return top_p_sorted(logits.masked_fill(~kept, -math.inf), p)


TOP_P_WRONG = {
    "equal tokens are not taken in index order": lambda logits, *rest: top_p_sorted(
        logits.flip(0), *rest
    ).flip(0),
    "dropped tokens get the logit 0": _hidden,
    "the floor comes before top-p": _floor_first,
    "top_p_probs: wrong dtype": lambda *given: top_p_sorted(*given) > 0,
}


# 09.6
def fp8_library(x, bound=1200.0):
    from llama3lib.quant import quantize_rows

    return *quantize_rows(x, bound), x.abs() > bound


def fp8_cut_first(x, bound=1200.0):
    """Cuts x itself, and then needs neither a bound nor a clamp."""
    cut = x.clamp(-bound, bound)
    largest = cut.abs().max(1, keepdim=True).values
    scale = torch.where(largest > 0, largest / 448, 1.0)
    return (cut / scale).to(FP8), scale, cut != x


def _fp8(largest, cut=lambda x, bound: x.abs() > bound, dtype=FP8, clamp=448):
    def fp8_rows(x, bound=1200.0):
        scale = largest(x, bound).clamp(min=1e-12) / 448
        return (x / scale).clamp(-clamp, clamp).to(dtype), scale, cut(x, bound)

    return fp8_rows


def _rows(x, bound):
    return x.abs().amax(-1, keepdim=True).clamp(max=bound)


def _without_dimension(x, bound=1200.0):
    q, scale, cut = fp8_library(x, bound)
    return q, scale.squeeze(1), cut


FP8_WRONG = {
    "there is no bound": _fp8(lambda x, b: x.abs().amax(-1, keepdim=True)),
    "one scale for the whole tensor": _fp8(lambda x, b: x.abs().max().clamp(max=b)),
    "a scale for each column, not for each row": _fp8(
        lambda x, b: x.abs().amax(0, keepdim=True).clamp(max=b)
    ),
    "negative numbers are not seen": _fp8(lambda x, b: x.amax(-1, keepdim=True).clamp(max=b)),
    "numbers that do not fit go into the cast": _fp8(_rows, clamp=math.inf),
    "q is not in FP8": _fp8(_rows, dtype=torch.float32),
    "saturated: whole rows count": _fp8(
        _rows, lambda x, b: (x.abs() > b).any(-1, keepdim=True).expand_as(x)
    ),
    "saturated: a number exactly at the bound counts": _fp8(_rows, lambda x, b: x.abs() >= b),
    "fp8_rows: three tensors are needed": lambda x, b=1200.0: fp8_library(x, b)[:2],
    "fp8_rows, scale: wrong shape": _without_dimension,
    "fp8_rows, saturated: wrong dtype": _fp8(_rows, lambda x, b: x),
}


# 09.4
def write_pop(tables, readers, free, answer, position, block_size):
    table, place = tables[answer], position // block_size
    if place == len(table):
        table.append(free.pop())
        readers[table[-1]] = 1
        return None
    old = table[place]
    if readers[old] == 1:
        return None
    new = free.pop()
    table[place] = new
    readers[old] -= 1
    readers[new] = 1
    return old, new


def write_smallest(tables, readers, free, answer, position, block_size):
    """The smallest free block, and readers counted again each time."""
    place, copy = position // block_size, None
    if place >= len(tables[answer]) or readers[tables[answer][place]] > 1:
        new = min(free)
        free.remove(new)
        if place < len(tables[answer]):
            copy = [tables[answer][place], new]
        tables[answer][place : place + 1] = [new]
        for block in range(len(readers)):
            readers[block] = sum(table.count(block) for table in tables)
    return copy


def _write(after=None, **how):
    """`write_pop` with a part done otherwise, and a last touch."""

    def write_token(tables, readers, free, answer, position, block_size):
        table = tables[answer]
        place = how.get("place", lambda pos, size: pos // size)(position, block_size)
        if place >= len(table):
            block = free.pop() if how.get("remove", True) else free[-1]
            table.append(block)
            readers[block] += how.get("noted", 1)
            return how.get("fresh")
        old = table[place]
        if readers[old] <= how.get("shared_from", 1):
            return None
        new = free.pop() if how.get("remove", True) else free[-1]
        if how.get("into_table", True):
            table[place] = new
        readers[old] -= how.get("leaves", 1)
        readers[new] += how.get("noted", 1)
        return how.get("told", lambda old, new: (old, new))(old, new)

    return write_token


def _everybody(tables, readers, free, answer, position, block_size):
    place = position // block_size
    pair = write_pop(tables, readers, free, answer, position, block_size)
    if pair:
        for table in tables:
            if place < len(table) and table[place] == pair[0]:
                table[place] = pair[1]
    return pair


def _sets_free(tables, readers, free, answer, position, block_size):
    pair = write_pop(tables, readers, free, answer, position, block_size)
    if pair:
        free.append(pair[0])
    return pair


def _appends(tables, readers, free, answer, position, block_size):
    place = position // block_size
    if place < len(tables[answer]) and readers[old := tables[answer][place]] > 1:
        tables[answer].append(free.pop())
        readers[tables[answer][-1]] = 1
        return old, tables[answer][-1]
    return write_pop(tables, readers, free, answer, position, block_size)


def _two_blocks(tables, readers, free, answer, position, block_size):
    if position // block_size == len(tables[answer]):
        for _ in range(2):
            tables[answer].append(free.pop())
            readers[tables[answer][-1]] = 1
        return None
    return write_pop(tables, readers, free, answer, position, block_size)


def _takes_used(tables, readers, free, answer, position, block_size):
    if position // block_size == len(tables[answer]):
        tables[answer].append(0)
        readers[0] += 1
        return None
    return write_pop(tables, readers, free, answer, position, block_size)


def _never_appends(tables, readers, free, answer, position, block_size):
    fits = position // block_size < len(tables[answer])
    return write_pop(tables, readers, free, answer, position, block_size) if fits else None


def _last_block(tables, readers, free, answer, position, block_size):
    place = position // block_size
    if place < len(tables[answer]) and readers[tables[answer][place]] > 1:
        old, new = tables[answer][-1], free.pop()
        tables[answer][-1] = new
        readers[old] -= 1
        readers[new] = 1
        return old, new
    return write_pop(tables, readers, free, answer, position, block_size)


def _all_shared(tables, readers, free, answer, position, block_size):
    table, pair = tables[answer], None
    if position // block_size == len(table) or readers[table[position // block_size]] == 1:
        return write_pop(tables, readers, free, answer, position, block_size)
    for place in range(len(table)):
        if readers[table[place]] > 1:
            found = write_pop(tables, readers, free, answer, place * block_size, block_size)
            pair = found if place == position // block_size else pair
    return pair


def _counts_writes(tables, readers, free, answer, position, block_size):
    pair = write_pop(tables, readers, free, answer, position, block_size)
    readers[tables[answer][position // block_size]] += pair is None and position % block_size > 0
    return pair


WRITE_WRONG = {
    "writes into the shared block": _write(shared_from=99),
    "copied although nobody else reads it": _write(shared_from=0),
    "the reader of the old block is not taken away": _write(leaves=0),
    "the reader of the new block is not noted": _write(noted=0),
    "the wrong block for the position": _last_block,
    "more than one block is replaced": _all_shared,
    "the pair names other blocks": _write(told=lambda old, new: (new, new)),
    "the readers do not agree with the tables": _counts_writes,
    "a block is taken without removing it from free": _write(remove=False),
    "the copy is not told": _write(told=lambda old, new: None),
    "the pair is the wrong way round": _write(told=lambda old, new: (new, old)),
    "the table still has the shared block": _write(into_table=False),
    "a copy of nothing": _write(fresh=(0, 1)),
    "another answer's table is changed": _everybody,
    "the old block is set free": _sets_free,
    "a block is appended for a place that exists": _appends,
    "more than one block is appended": _two_blocks,
    "a block that is not free is taken": _takes_used,
    "no room for the position": _never_appends,
    "write_token: a pair of block numbers or None is needed": lambda *_: "copied",
}


# 09.5
def plan_halving(decoding, prompts, seconds, limit):
    low, high = 0, sum(prompts)
    while low < high:
        middle = (low + high + 1) // 2
        if seconds(decoding + middle) <= limit:
            low = middle
        else:
            high = middle - 1
    left = low if decoding or low else 1
    plan = []
    for prompt in prompts:
        plan.append(min(prompt, left))
        left -= plan[-1]
    return plan


def plan_token_by_token(decoding, prompts, seconds, limit):
    """Slow and plain; reads all there is while nobody can be kept waiting."""
    if decoding == 0:
        return tuple(prompts)
    plan, count = [0] * len(prompts), decoding
    for place, prompt in enumerate(prompts):
        while plan[place] < prompt and seconds(count + 1) <= limit:
            plan[place] += 1
            count += 1
    return plan


def _handed_out(count, prompts):
    plan = []
    for prompt in prompts:
        plan.append(max(0, min(prompt, count)))
        count -= plan[-1]
    return plan


def _most(decoding, prompts, seconds, limit):
    count = 0
    while count < sum(prompts) and seconds(decoding + count + 1) <= limit:
        count += 1
    return count


def _plan(count=_most, share=_handed_out):
    def plan_step(decoding, prompts, seconds, limit):
        total = count(decoding, prompts, seconds, limit)
        return share(min(sum(prompts), max(total, not decoding)), prompts)

    return plan_step


def _second_first(count, prompts):
    """The first two prompts in the wrong order."""
    plan = _handed_out(count, [*prompts[1:2], *prompts[:1], *prompts[2:]])
    return [*plan[1:2], *plan[:1], *plan[2:]] if len(plan) > 1 else plan


def whole_if_it_fits(counts, least):
    """The loop that comes first to mind; counts: with the texts that are being written."""

    def plan_step(decoding, prompts, seconds, limit):
        used, plan = decoding * counts, []
        for prompt in prompts:
            fits = seconds(used + prompt) <= limit
            plan.append(prompt if fits else 0)
            used += plan[-1]
        if any(plan) or decoding:
            return plan
        return _handed_out(prompts[0] if least == "the first" else least, prompts)

    return plan_step


def few(most):
    """So many tokens a step at most."""

    def plan_step(decoding, prompts, seconds, limit):
        return _handed_out(min(most, sum(plan_halving(decoding, prompts, seconds, limit))), prompts)

    return plan_step


def uncounted(decoding, prompts, seconds, limit):
    """Without the texts being written, and without the exception."""
    return _handed_out(_most(0, prompts, seconds, limit), prompts)


PLAN_WRONG = {
    "prompts are read whole or not at all": whole_if_it_fits(True, "the first"),
    "the tokens of the texts being written are not counted": uncounted,
    "the tokens are spread evenly": _plan(
        share=lambda count, prompts: [min(p, count // len(prompts)) for p in prompts]
    ),
    "a later prompt is read before an earlier one is done": _plan(share=_second_first),
    "the step is longer than the limit": _plan(lambda *given: _most(*given) + 5),
    "fewer tokens are read than fit": _plan(lambda *given: _most(*given) // 2),
    "plan_step: one number for each prompt is needed": lambda *_: 3,
    "plan_step: whole numbers are needed": lambda decoding, prompts, *_: [p / 2 for p in prompts],
    "more tokens than the prompt has, or fewer than 0": lambda d, prompts, *_: [99] * len(prompts),
}


# 09.7
def speculative_plain(guesses, draft_probs, target_probs, generator):
    kept = []
    for guess, q, p in zip(guesses, draft_probs, target_probs, strict=False):
        if torch.rand((), generator=generator) * q[guess] < p[guess]:
            kept.append(guess)
            continue
        rest = (p - q).clamp(min=0)
        return [*kept, int(torch.multinomial(rest / rest.sum(), 1, generator=generator))]
    return [*kept, int(torch.multinomial(target_probs[-1], 1, generator=generator))]


def speculative_at_once(guesses, draft_probs, target_probs, generator):
    """All dice at once, and draws through the running sum."""
    places = torch.arange(len(guesses))
    p = target_probs[places, guesses]
    q = draft_probs[places, guesses]
    dice = torch.rand(len(guesses) + 1, generator=generator, dtype=torch.float64)
    kept = int((dice[:-1] < p / q).long().cumprod(0).sum())
    row = target_probs[kept]
    if kept < len(guesses):
        row = (row - draft_probs[kept]).clamp(min=0)
    sums = row.double().cumsum(0)
    last = int(torch.searchsorted(sums, dice[-1] * sums[-1], right=True))
    return [*guesses[:kept], min(last, len(row) - 1)]


def _draw(row, generator):
    return int(torch.multinomial(row, 1, generator=generator))


def _step(keep, rest=lambda p, q: (p - q).clamp(min=0), go_on=False):
    def speculative_step(guesses, draft_probs, target_probs, generator):
        kept = []
        for guess, q, p in zip(guesses, draft_probs, target_probs, strict=False):
            if torch.rand((), generator=generator) < keep(p[guess], q[guess]):
                kept.append(guess)
                continue
            kept.append(_draw(rest(p, q), generator))
            if not go_on:
                return kept
        return [*kept, _draw(target_probs[-1], generator)]

    return speculative_step


def _unnormalised(guesses, draft_probs, target_probs, generator):
    for place, guess in enumerate(guesses):
        q, p = draft_probs[place], target_probs[place]
        if torch.rand((), generator=generator) * q[guess] >= p[guess]:
            sums = (p - q).clamp(min=0).cumsum(0)
            token = int(torch.searchsorted(sums, torch.rand((), generator=generator)))
            return [*guesses[:place], min(token, len(p) - 1)]
    return [*guesses, _draw(target_probs[-1], generator)]


def _other_dice(guesses, draft_probs, target_probs, generator):
    return speculative_plain(guesses, draft_probs, target_probs, None)


def python_dice(guesses, draft_probs, target_probs, generator):
    dice = torch.Generator().manual_seed(random.randrange(2**30))
    return speculative_plain(guesses, draft_probs, target_probs, dice)


def _likeliest(guesses, draft_probs, target_probs, generator):
    return [int(target_probs[0].argmax())]


def _target_alone(guesses, draft_probs, target_probs, generator):
    return [_draw(target_probs[0], generator)]


def _wrong_if_sure(guesses, draft_probs, target_probs, generator):
    if (draft_probs == 1).any():
        return [*guesses, 0][: len(guesses) + 1]
    return speculative_plain(guesses, draft_probs, target_probs, generator)


SPECULATIVE_WRONG = {
    "only guesses with p >= q are kept": _step(lambda p, q: p >= q),
    "no guess is kept": _target_alone,
    "the rest is not renormalised": _unnormalised,
    "guesses are refused that could be kept": _step(
        lambda p, q: (p / q).clamp(max=1) / 2, lambda p, q: p - torch.minimum(p, q) / 2
    ),
    "the first token: another distribution": _step(lambda p, q: p > q / 3),
    "greedy rows give another text than the target's": _wrong_if_sure,
    "it goes on after a refused guess": _step(lambda p, q: p / q, go_on=True),
    "a refused guess is not replaced": lambda *given: speculative_plain(*given)[:-1],
    "other dice than the generator's": _other_dice,
    "the generator is not used": _likeliest,
    "speculative_step: a list of tokens is needed": lambda *_: 3,
    "speculative_step: whole numbers are needed": lambda *_: ["a"],
    "speculative_step: a token that is not in the vocabulary": lambda *_: [7],
}

RIGHT = {
    "09.1": [bytes_formula, bytes_counted],
    "09.2": [cached_sdpa, cached_loops],
    "09.3": [top_p_sorted, top_p_loop],
    "09.4": [write_pop, write_smallest],
    "09.6": [fp8_library, fp8_cut_first],
    "09.5": [plan_halving, plan_token_by_token],
    "09.7": [speculative_plain, speculative_at_once],
}
WRONG = {
    "09.1": BYTES_WRONG,
    "09.2": CACHED_WRONG,
    "09.3": TOP_P_WRONG,
    "09.4": WRITE_WRONG,
    "09.6": FP8_WRONG,
    "09.5": PLAN_WRONG,
    "09.7": SPECULATIVE_WRONG,
}
