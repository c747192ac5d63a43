"""Answers to exercises 4 and 6 of chapter 09: right ones, and planted mistakes."""


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


# 09.6
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


def _whole(count, prompts):
    plan = []
    for prompt in prompts:
        plan.append(prompt if prompt <= count else 0)
        count = count - prompt if prompt <= count else 0
    return plan


def _shortest(count, prompts):
    plan = [0] * len(prompts)
    for place in sorted(range(len(prompts)), key=lambda i: prompts[i]):
        plan[place] = min(prompts[place], count)
        count -= plan[place]
    return plan


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
    "prompts are read whole or not at all": _plan(share=_whole),
    "the limit is ignored": lambda decoding, prompts, *_: list(prompts),
    "the tokens of the texts being written are not counted": _plan(lambda d, *r: _most(0, *r)),
    "the tokens are spread evenly": _plan(
        share=lambda count, prompts: [min(p, count // len(prompts)) for p in prompts]
    ),
    "nothing is read although nothing is being written": lambda *given: _handed_out(
        _most(*given), given[1]
    ),
    "one token too many is read": _plan(lambda *given: _most(*given) + 1),
    "the limit is broken by one token although texts are being written": _plan(
        lambda *given: max(1, _most(*given))
    ),
    "the last prompt is read first": _plan(share=lambda c, p: _handed_out(c, p[::-1])[::-1]),
    "the shortest prompt is read first": _plan(share=_shortest),
    "only the first prompt is read": _plan(
        share=lambda count, prompts: [min(p, count) * (i == 0) for i, p in enumerate(prompts)]
    ),
    "reading and writing are taken as two steps": _plan(
        lambda d, prompts, seconds, limit: _most(0, prompts, seconds, limit - seconds(d))
    ),
    "nothing is read while texts are being written": _plan(lambda d, *r: 0 if d else _most(d, *r)),
    "one token is read in each step": _plan(lambda *given: min(1, _most(*given))),
    "a later prompt is read before an earlier one is done": _plan(share=_second_first),
    "the step is longer than the limit": _plan(lambda *given: _most(*given) + 5),
    "fewer tokens are read than fit": _plan(lambda *given: _most(*given) // 2),
    "plan_step: one number for each prompt is needed": lambda *_: 3,
    "plan_step: whole numbers are needed": lambda decoding, prompts, *_: [p / 2 for p in prompts],
    "more tokens than the prompt has, or fewer than 0": lambda d, prompts, *_: [99] * len(prompts),
}
