"""Answers to the exercises of chapter 04: right ones in two ways, and wrong ones in a learner's."""

import math
from dataclasses import replace
from itertools import product

import torch
import torch.nn.functional as F

from llama3lib.paper.infrastructure import TABLE_4
from llama3lib.parallel.layout import Layout
from llama3lib.parallel.planner import predict, table_4_layout


# 04.5
def row_in_lines(row):
    wrong = []
    if math.prod(row[name] for name in ("TP", "CP", "PP", "DP")) != row["GPUs"]:
        wrong += ["GPUs"]
    tokens = row["DP"] * row["batch/DP"] * row["sequence"]
    if not 0.9 <= tokens / row["tokens/batch"] <= 1.1:
        wrong += ["tokens"]
    return wrong


def row_by_division(row):
    left = row["GPUs"]
    for name in ("DP", "PP", "CP", "TP"):
        left = left / row[name]
    sequences = row["tokens/batch"] / row["sequence"]
    off = abs(row["DP"] * row["batch/DP"] / sequences - 1) > 0.1
    return [name for name, bad in (("GPUs", left != 1), ("tokens", off)) if bad]


def _three_dimensions(row):
    found = row_in_lines(row | {"CP": 1})
    return found


def _each_gpu_reads(row):
    return [
        *(["GPUs"] if math.prod(row[n] for n in ("TP", "CP", "PP", "DP")) != row["GPUs"] else []),
        *(["tokens"] if not 0.9 <= row["GPUs"] * row["batch/DP"] * row["sequence"]
          / row["tokens/batch"] <= 1.1 else []),
    ]  # fmt: skip


def _exactly(row):
    found = row_in_lines(row)
    exact = row["DP"] * row["batch/DP"] * row["sequence"] == row["tokens/batch"]
    return [n for n in found if n != "tokens"] + ([] if exact else ["tokens"])


# 04.6
def rows_by_hand(counts, printed):
    total = sum(counts.values())
    right = {name: round(100 * count / total, 1) for name, count in counts.items()}
    return {name: right[name] for name in counts if abs(right[name] - printed[name]) > 0.05}


def rows_by_text(counts, printed):
    total = sum(counts.values())
    wrong = {}
    for name in printed:
        should = f"{100 * counts[name] / total:.1f}"
        if should != f"{printed[name]:.1f}":
            wrong[name] = float(should)
    return wrong


def _of_all_466(counts, printed):
    right = {name: round(100 * n / (sum(counts.values()) + 47), 1) for name, n in counts.items()}
    return {name: right[name] for name in counts if abs(right[name] - printed[name]) > 0.05}


def _as_printed(counts, printed):
    return {name: printed[name] for name in rows_by_hand(counts, printed)}


def _every_row(counts, printed):
    return {name: round(100 * n / sum(counts.values()), 1) for name, n in counts.items()}


# 04.2
def rank_by_slices(x, w1, w2, w3, rank, ranks):
    size = w1.shape[0] // ranks
    cut = slice(rank * size, (rank + 1) * size)
    gate = x @ w1[cut].T
    return (gate * torch.sigmoid(gate) * (x @ w3[cut].T)) @ w2[:, cut].T


def rank_by_chunks(x, w1, w2, w3, rank, ranks):
    a, b = w1.chunk(ranks)[rank], w3.chunk(ranks)[rank]
    hidden = F.silu(F.linear(x, a)) * F.linear(x, b)
    return F.linear(hidden, w2.chunk(ranks, dim=1)[rank])


def _whole_layer(x, w1, w2, w3, rank, ranks):
    return rank_by_chunks(x, w1, w2, w3, 0, 1)


def _averaged(x, w1, w2, w3, rank, ranks):
    return rank_by_chunks(x, w1, w2, w3, rank, ranks) / ranks


def _cut_by_columns(x, w1, w2, w3, rank, ranks):
    size = x.shape[1] // ranks
    last = x.shape[1] if rank == ranks - 1 else (rank + 1) * size
    cut = slice(rank * size, last)
    return (F.silu(x[:, cut] @ w1[:, cut].T) * (x[:, cut] @ w3[:, cut].T)) @ w2.T


# 04.4
def schedule_by_clock(stages, micro_batches, limit):
    order = [[] for _ in range(stages)]
    ended, free, time = {}, [0] * stages, 0
    opened, closed = [0] * stages, [0] * stages
    while min(closed) < micro_batches:
        for rank in range(stages):
            i, j = closed[rank], opened[rank]
            if free[rank] > time:
                continue
            above = ended.get(("F" if rank == stages - 1 else "B", min(rank + 1, stages - 1), i))
            if i < j and above is not None and above <= time:
                free[rank] = ended["B", rank, i] = time + 2
                closed[rank] += 1
                order[rank].append(("B", i))
            elif j < micro_batches and j - i < limit:
                if rank == 0 or ended.get(("F", rank - 1, j), time + 1) <= time:
                    free[rank] = ended["F", rank, j] = time + 1
                    opened[rank] += 1
                    order[rank].append(("F", j))
        time += 1
    return order


def schedule_by_next_start(stages, micro_batches, limit):
    """Without a clock: of all that could come next, what can start first is put into the order."""
    ends, free, order = {}, [0] * stages, [[] for _ in range(stages)]
    while True:
        possible = []
        for rank, row in enumerate(order):
            back = sum(kind == "B" for kind, _ in row)
            ahead = len(row) - back
            needed = [("F", rank, back)] + [("B", rank + 1, back)] * (rank < stages - 1)
            if back < micro_batches and all(one in ends for one in needed):
                start = max(free[rank], *(ends[one] for one in needed))
                possible.append((start, 0, rank, "B", back))
            if ahead < micro_batches and ahead - back < limit:
                if rank == 0 or ("F", rank - 1, ahead) in ends:
                    start = max(free[rank], ends.get(("F", rank - 1, ahead), 0))
                    possible.append((start, 1, rank, "F", ahead))
        if not possible:
            return order
        start, _, rank, kind, i = min(possible)
        ends[kind, rank, i] = free[rank] = start + (1 if kind == "F" else 2)
        order[rank].append((kind, i))


def _schedule_1f1b(stages, micro_batches, limit, ahead=None):
    order = []
    for rank in range(stages):
        warm = min(micro_batches, ahead(rank) if ahead else min(limit, stages - rank))
        row = [("F", i) for i in range(warm)]
        for i in range(warm, micro_batches):
            row += [("B", i - warm), ("F", i)]
        order.append(row + [("B", i) for i in range(micro_batches - warm, micro_batches)])
    return order


def _schedule_gpipe(stages, micro_batches, limit):
    return _schedule_1f1b(stages, micro_batches, limit, lambda rank: micro_batches)


def _schedule_without_limit(stages, micro_batches, limit):
    return _schedule_1f1b(stages, micro_batches, limit, lambda rank: stages - rank)


def _schedule_changed(change, rows=1):
    """A right order of which the first rank's actions are changed."""

    def schedule(*given):
        order = schedule_by_clock(*given)
        return [change(row, *given) if at < rows else row for at, row in enumerate(order)]

    return schedule


def _open_one_more(row, stages, micro_batches, limit):
    """The first forward pass behind the first backward pass comes before it."""
    at = row.index(("B", 0))
    if ("F", limit) in row:
        row.remove(("F", limit))
        row.insert(at, ("F", limit))
    return row


def _two_ahead(stages, micro_batches, limit):
    return _schedule_1f1b(stages, micro_batches, limit, lambda rank: min(limit, stages - rank, 2))


def _forward_first(stages, micro_batches, limit):
    order, ends, free, now = [[] for _ in range(stages)], {}, [0] * stages, 0
    while sum(map(len, order)) < 2 * stages * micro_batches:
        for rank in [rank for rank in range(stages) if free[rank] <= now]:
            kinds = [kind for kind, _ in order[rank]]
            j, i = kinds.count("F"), kinds.count("B")
            late = ends.get(("B", rank + 1, i), 10**9) if rank + 1 < stages else 0
            came = ends.get(("F", rank - 1, j), 10**9) if rank else 0
            if j < micro_batches and j - i < limit and came <= now:
                order[rank].append(("F", j))
                free[rank] = ends["F", rank, j] = now + 1
            elif i < j and late <= now:
                order[rank].append(("B", i))
                free[rank] = ends["B", rank, i] = now + 2
        now += 1
    return order


def _crossed(stages, micro_batches, limit):
    """The first rank goes backward before it goes on, the last one wants two forward first."""
    order = schedule_by_clock(stages, micro_batches, limit)
    if min(stages, micro_batches, limit) > 1:
        for row, action, place in ((order[0], ("B", 0), 1), (order[-1], ("F", 1), 1)):
            row.remove(action)
            row.insert(place, action)
    return order


# 04.1
def ring_by_pieces(x, rank, ranks, send):
    parts = list(x.tensor_split(ranks))
    at = rank
    for turn in range(2 * (ranks - 1)):
        send(parts[at])
        came = yield
        at = (at - 1) % ranks
        parts[at] = parts[at] + came if turn < ranks - 1 else came
    return torch.cat(parts)


def ring_with_padding(x, rank, ranks, send):
    """Rows of one length; the piece that is completed here is the rank's own."""
    rows = F.pad(x, (0, -len(x) % ranks)).view(ranks, -1)
    for turn in range(1, ranks):
        send(rows[(rank - turn) % ranks])
        rows[(rank - turn - 1) % ranks] += yield
    for turn in range(1, ranks):
        send(rows[(rank - turn + 1) % ranks])
        rows[(rank - turn) % ranks] = yield
    return rows.flatten()[: len(x)]


def _ring_of_whole_tensors(x, rank, ranks, send):
    total = x.clone()
    for _ in range(ranks - 1):
        send(x)
        x = yield
        total += x
    return total


def _ring_without_rest(x, rank, ranks, send):
    whole = len(x) // ranks * ranks
    return (yield from ring_by_pieces(x[:whole], rank, ranks, send))


def _ring_half_way(x, rank, ranks, send):
    parts = list(x.tensor_split(ranks))
    for turn in range(ranks - 1):
        send(parts[(rank - turn) % ranks])
        parts[(rank - turn - 1) % ranks] += yield
    return torch.cat(parts)


def _ring_receiving_first(x, rank, ranks, send):
    for _ in range(ranks - 1):
        came = yield
        send(x)
        x = x + came
    return x


def _ring_keeping_the_rest(x, rank, ranks, send):
    """Equal pieces are summed up; the rest of the division stays as it is."""
    whole = len(x) // ranks * ranks
    total = yield from ring_by_pieces(x[:whole], rank, ranks, send)
    return torch.cat((total, x[whole:]))


def _ring_waiting_once_more(x, rank, ranks, send):
    total = yield from ring_by_pieces(x, rank, ranks, send)
    yield
    return total


def _ring_sending_once_more(x, rank, ranks, send):
    total = yield from ring_by_pieces(x, rank, ranks, send)
    send(total[:0])
    return total


def _ring_with_both(x, rank, ranks, send):
    """Whole tensors go half the way."""
    first = yield from ring_by_pieces(x, rank, ranks, send)
    yield from ring_by_pieces(x, rank, ranks, send)
    return first


def _ring_by_yield(x, rank, ranks, send):
    total = x
    for _ in range(ranks - 1):
        x = yield x
        total = total + x
    return total


def _ring_of_numbers(x, rank, ranks, send):
    send(x.tolist())
    return x + torch.tensor((yield))


def _ring_without_receiving(x, rank, ranks, send):
    for piece in x.tensor_split(ranks):
        send(piece)
    return x


# 04.3
def context_by_mask(q, k_parts, v_parts, documents, rank, cp):
    chunks = torch.arange(len(documents)).chunk(2 * cp)
    held = [torch.cat((chunks[r], chunks[2 * cp - 1 - r])) for r in range(cp)]
    places, keys = held[rank], torch.cat(held)
    seen = (keys <= places[:, None]) & (documents[keys] == documents[places][:, None])
    return _attend(q, torch.cat(k_parts), torch.cat(v_parts), seen)


def context_by_chunks(q, k_parts, v_parts, documents, rank, cp):
    """The keys in order again, and query by query: from its document's start to itself."""
    k, v = (_in_order(parts) for parts in (k_parts, v_parts))
    size, group, rows = len(q) // 2, q.shape[1] // k.shape[1], []
    for at, row in enumerate(q):
        chunk = rank if at < size else 2 * cp - 1 - rank
        place = chunk * size + at % size
        start = int((documents == documents[place]).nonzero()[0])
        keys, values = (
            x[start : place + 1].repeat_interleave(group, 1).transpose(0, 1) for x in (k, v)
        )
        rows.append(F.scaled_dot_product_attention(row[:, None], keys, values)[:, 0])
    return torch.stack(rows)


def _in_order(parts):
    firsts = [part[: len(part) // 2] for part in parts]
    return torch.cat(firsts + [part[len(part) // 2 :] for part in reversed(parts)])


def _attend(q, k, v, seen):
    q, k, v = (x.transpose(0, 1) for x in (q, k, v))
    k, v = (x.repeat_interleave(len(q) // len(x), 0) for x in (k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=seen).transpose(0, 1)


def _context_in_one_piece(q, k_parts, v_parts, documents, rank, cp):
    places = rank * len(q) + torch.arange(len(q))
    keys = torch.arange(len(documents))
    seen = (keys <= places[:, None]) & (documents[keys] == documents[places][:, None])
    return _attend(q, torch.cat(k_parts), torch.cat(v_parts), seen)


def _context_of_one_document(q, k_parts, v_parts, documents, rank, cp):
    return context_by_mask(q, k_parts, v_parts, torch.zeros_like(documents), rank, cp)


def _context_unscaled(q, k_parts, v_parts, documents, rank, cp):
    return context_by_mask(q * q.shape[-1] ** 0.5, k_parts, v_parts, documents, rank, cp)


# 04.7
def layout_by_search(args, gpus, sequence, batch_tokens, hardware):
    fitting = []
    for tp, cp, pp, v, recompute in product(
        (4, 8), (1, 2, 4, 8), (8, 16), (4, 8, 16), ("none", "selective")
    ):
        dp = gpus // (tp * cp * pp)
        layout = Layout(
            **dict(tp=tp, cp=cp, pp=pp, dp=dp, stages=v, recompute=recompute),
            micro_batches=batch_tokens // sequence // dp,
        )
        try:
            plan = predict(args, layout, sequence, hardware)
        except ValueError:
            continue
        if plan.memory.total <= hardware.room:
            fitting.append(plan)
    return min(fitting, key=lambda plan: plan.cost.seconds).layout


def layout_step_by_step(args, gpus, sequence, batch_tokens, hardware):
    """From one layout to the best of its neighbours, as long as that is better."""

    def rated(sizes):
        tp, cp, pp = sizes
        dp = gpus // (tp * cp * pp)
        layout = Layout(
            **dict(tp=tp, cp=cp, pp=pp, dp=dp, stages=128 // pp, recompute="selective"),
            micro_batches=batch_tokens // sequence // dp,
        )
        try:
            plan = predict(args, layout, sequence, hardware)
        except ValueError:
            return math.inf, math.inf, None
        return max(0, plan.memory.total - hardware.room), plan.cost.seconds, layout

    factors = [f for f in product((0.5, 1, 2), repeat=3) if f != (1, 1, 1)]
    sizes, best = (8, 8, 16), (math.inf, math.inf, None)
    while (found := rated(sizes))[:2] < best[:2]:
        best = found
        around = [
            tuple(max(1, int(n * f)) for n, f in zip(sizes, fs, strict=True)) for fs in factors
        ]
        sizes = min(around, key=lambda one: rated(one)[:2])
    return best[2]


def _layout_fixed(gpus_of, **fields):
    """The same layout for every question but for DP and M."""

    def layout(args, gpus, sequence, batch_tokens, hardware):
        cut = fields.get("tp", 1) * fields.get("cp", 1) * fields.get("pp", 1)
        dp = gpus_of(gpus) // cut
        batch = batch_tokens // sequence // dp // fields.get("sequences", 1)
        return Layout(**{"dp": dp, "micro_batches": max(1, batch), **fields})

    return layout


def _layout_without_memory(args, gpus, sequence, batch_tokens, hardware):
    return layout_by_search(args, gpus, sequence, batch_tokens, replace(hardware, memory_gb=300))


def _layout_of_the_paper(args, gpus, sequence, batch_tokens, hardware):
    return next(
        layout
        for layout, length in map(table_4_layout, TABLE_4.rows)
        if (layout.gpus, length) == (gpus, sequence)
    )


RIGHT = {
    "04.5": [row_in_lines, row_by_division],
    "04.6": [rows_by_hand, rows_by_text],
    "04.2": [rank_by_slices, rank_by_chunks],
    "04.4": [schedule_by_clock, schedule_by_next_start],
    "04.1": [ring_by_pieces, ring_with_padding],
    "04.3": [context_by_mask, context_by_chunks],
    "04.7": [layout_by_search, layout_step_by_step],
}
WRONG = {
    "04.7": {
        "it does not fit": _layout_without_memory,
        "not faster than the paper's layout": _layout_of_the_paper,
        "another number of GPUs": _layout_fixed(lambda gpus: gpus // 2, tp=8, pp=16),
        "another batch": _layout_fixed(lambda gpus: gpus, tp=4, cp=4, pp=16, micro_batches=16),
        "the model cannot be cut like this": _layout_fixed(lambda gpus: gpus, tp=16, pp=16),
        "fast_layout: a Layout is needed": lambda *_: {"tp": 8, "cp": 1, "pp": 16, "dp": 128},
    },
    "04.1": {
        "whole tensors go round": _ring_of_whole_tensors,
        "the rest of the division is lost": _ring_without_rest,
        "the sums stay where they are": _ring_half_way,
        "not the sum": _ring_keeping_the_rest,
        "ranks wait for ever": _ring_waiting_once_more,
        "a message is left over": _ring_sending_once_more,
        "more is sent than needed": _ring_with_both,
        "yield only receives": _ring_by_yield,
        "send takes a tensor": _ring_of_numbers,
        "nothing is received": _ring_without_receiving,
    },
    "04.4": {
        "all forward passes come first": _schedule_gpipe,
        "the limit is ignored": _schedule_without_limit,
        "1F1B with a shorter beginning": _schedule_1f1b,
        "forward passes are preferred": _forward_first,
        "too slow": _two_ahead,
        "deadlock": _crossed,
        "over the memory limit on rank 0": _schedule_changed(_open_one_more),
        "an action is missing": _schedule_changed(lambda row, *_: row[:-1]),
        "an action comes twice": _schedule_changed(lambda row, *_: row + row[-1:]),
        "backward comes before forward": _schedule_changed(lambda row, *_: row[::-1]),
        "a micro-batch that is not there": _schedule_changed(
            lambda row, *_: [(kind, i + 1) for kind, i in row]
        ),
        "schedule: one list for each rank is needed": _schedule_changed(lambda row, *_: "F0 B0"),
        "schedule: something is no action": _schedule_changed(lambda row, *_: ["F0", "B0"]),
    },
    "04.3": {
        "both are taken to be in order": _context_in_one_piece,
        "documents see each other": _context_of_one_document,
        "the scores are not scaled": _context_unscaled,
    },
    "04.6": {
        "all 466 interruptions": _of_all_466,
        "the printed numbers are returned": _as_printed,
        "every row is returned": _every_row,
    },
    "04.2": {
        "every rank computes the whole layer": _whole_layer,
        "divided by the ranks": _averaged,
        "the first matrices are cut by their inputs": _cut_by_columns,
    },
    "04.5": {
        "CP is forgotten": _three_dimensions,
        "every GPU reads sequences of its own": _each_gpu_reads,
        "16M is taken to the last token": _exactly,
    },
}
