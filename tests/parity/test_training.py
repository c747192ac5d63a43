"""The trainer against a loop that shares no code with it but the windows of the data.

Forward pass, mask, loss, clipping and schedule are written out here; the optimizer is PyTorch's
own AdamW, not fused.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from train_tools import ARGS, drawn_model, phase, recipe, sources, steps_told, weights

from llama3lib.data.loader import StatefulDataLoader
from llama3lib.model import ModelArgs
from llama3lib.train import Trainer

WIDE = ModelArgs(
    dim=32, n_layers=2, n_heads=4, n_kv_heads=2, ffn_dim=48, vocab_size=256, max_seq_len=32
)


def root_mean_square(x, weight, eps=1e-5):
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps) * weight


def turned(x, theta):
    """Rotary positions, one pair of channels at a time; x is [T, heads, channels]."""
    length, _, size = x.shape
    place = torch.arange(length, dtype=torch.float64)
    parts = []
    for pair in range(size // 2):
        angle = place * theta ** (-2 * pair / size)
        cos, sin = (f(angle).to(x.dtype).unsqueeze(1) for f in (torch.cos, torch.sin))
        a, b = x[..., 2 * pair], x[..., 2 * pair + 1]
        parts += [a * cos - b * sin, a * sin + b * cos]
    return torch.stack(parts, -1)


def allowed(owners):
    """True where query t may look at key s: by two loops."""
    length = len(owners)
    mask = torch.zeros(length, length, dtype=torch.bool)
    for t in range(length):
        for s in range(t + 1):
            mask[t, s] = owners[t] == owners[s]
    return mask


def forward(w, args, ids, owners, theta):
    """Logits [T, V] of one row, with the weights in `w`."""
    mask, size = allowed(owners), args.dim // args.n_heads
    x = w["tok_embeddings.weight"][ids]
    for n in range(args.n_layers):
        layer = f"layers.{n}."
        h = root_mean_square(x, w[f"{layer}attention_norm.weight"])
        q, k, v = (
            (h @ w[f"{layer}attention.{name}.weight"].T).unflatten(-1, (-1, size))
            for name in ("wq", "wk", "wv")
        )
        q, k = turned(q, theta), turned(k, theta)
        heads = []
        for head in range(args.n_heads):
            shared = head * args.n_kv_heads // args.n_heads
            scores = q[:, head] @ k[:, shared].T / math.sqrt(size)
            heads.append(scores.masked_fill(~mask, -math.inf).softmax(-1) @ v[:, shared])
        x = x + torch.cat(heads, -1) @ w[f"{layer}attention.wo.weight"].T
        h = root_mean_square(x, w[f"{layer}ffn_norm.weight"])
        gate, up = (h @ w[f"{layer}feed_forward.{name}.weight"].T for name in ("w1", "w3"))
        x = x + (gate * gate.sigmoid() * up) @ w[f"{layer}feed_forward.w2.weight"].T
    return root_mean_square(x, w["norm.weight"]) @ w["output.weight"].T


def owners_of(row):
    """Which document each token is from: a 0 closes one."""
    owners, now = [], 0
    for token in row:
        owners.append(now)
        now += token == 0
    return owners


def batch_loss(w, args, tokens, theta, masked=True):
    """Mean over all targets of the batch that are in the document of the token before."""
    total, count = 0.0, 0
    for row in tokens.tolist():
        owners = owners_of(row)
        logits = forward(w, args, row[:-1], owners[:-1] if masked else [0] * len(row[:-1]), theta)
        inside = [t for t in range(len(row) - 1) if owners[t] == owners[t + 1]]
        targets = torch.tensor([row[t + 1] for t in inside])
        total = total + F.cross_entropy(logits[inside], targets, reduction="sum")
        count += len(inside)
    return total / count


def rates(config):
    """Warm-up, cosine to the minimum at decay_steps, then linearly to 0 in the last phase."""
    told, out = config.optimizer, []
    for n in range(1, sum(p.steps for p in config.phases if p.rate == "schedule") + 1):
        if n <= told.warmup:
            out.append(told.peak * n / told.warmup)
        else:
            way = min(1, (n - told.warmup) / (told.decay_steps - told.warmup))
            height = (told.peak - told.minimum) * (1 + math.cos(math.pi * way)) / 2
            out.append(told.minimum + height)
    last = config.phases[-1]
    if last.rate == "anneal":
        out += [out[-1] * (1 - n / last.steps) for n in range(last.steps)]
    return out


def in_float64(trainer):
    """Weights and moments too: rounding then hides no mistake behind a wide tolerance."""
    trainer.model.double()
    for state in trainer.optimizer.state.values():
        state |= {name: state[name].double() for name in ("exp_avg", "exp_avg_sq")}
    return trainer


def plain_loop(config, shards, dtype):
    """Losses and gradient norms of all steps, and the weights at the end."""
    w = weights(drawn_model(config.model.replace(max_seq_len=32), config.seed).to(dtype))
    for tensor in w.values():
        tensor.requires_grad_()
    groups = [
        {"params": [t for t in w.values() if t.dim() == 2], "weight_decay": 0.1},
        {"params": [t for t in w.values() if t.dim() == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, betas=config.optimizer.betas, eps=1e-8, fused=False)
    losses, norms, rate = [], [], iter(rates(config))
    step, used = 0, {}
    for part in config.phases:
        same_length = used.get(part.length, {})
        loader = StatefulDataLoader(
            shards, batch_size=part.batch_size, length=part.length, first_step=step,
            drawn=same_length, seed=config.seed,
        )  # fmt: skip
        for _ in range(part.steps):
            now = next(rate)
            theta = part.rope_theta or config.model.rope_theta
            loss = batch_loss(w, config.model, loader.next().tokens, theta, config.document_mask)
            optimizer.zero_grad()
            loss.backward()
            norm = math.sqrt(sum(float((t.grad.double() ** 2).sum()) for t in w.values()))
            for tensor in w.values():
                tensor.grad *= min(1.0, config.optimizer.clip / (norm + 1e-6))
            for group in optimizer.param_groups:
                group["lr"] = now
            optimizer.step()
            losses.append(float(loss.detach()))
            norms.append(norm)
        step, used[part.length] = step + part.steps, loader.drawn()
    return losses, norms, {name: tensor.detach() for name, tensor in w.items()}


# float32 is rounded on both sides in another order, and AdamW divides small numbers by small ones
@pytest.mark.parametrize(
    ("masked", "dtype", "tolerance"),
    [(True, torch.float64, 1e-7), (False, torch.float64, 1e-7), (True, torch.float32, 3e-5)],
)
def test_twenty_steps_are_those_of_a_plain_loop(tmp_path, masked, dtype, tolerance):
    config = recipe(
        phase("small", 6, 2, 16),
        phase("large", 6, 5, 16),
        phase("long", 4, 3, 32, rope_theta=1e4),
        phase("anneal", 4, 3, 32, rate="anneal", rope_theta=1e4),
        model=WIDE,
        micro_batch=2,
        document_mask=masked,
        optimizer={"warmup": 4, "decay_steps": 24, "minimum": 1e-3, "clip": 0.7, "peak": 1e-2},
    )
    shards = sources(tmp_path, count=40)
    trainer = Trainer(config, shards, tmp_path / "run")
    result = (in_float64(trainer) if dtype == torch.float64 else trainer).fit()
    losses, norms, end = plain_loop(config, shards, dtype)
    rows = steps_told(tmp_path / "run")
    assert [row["step"] for row in rows] == list(range(1, 21))
    assert [row["loss"] for row in rows] == pytest.approx(losses, rel=tolerance)
    assert [row["grad_norm"] for row in rows] == pytest.approx(norms, rel=10 * tolerance)
    assert max(norms) > 0.7 > min(norms)  # clipping was in force, and not always
    assert [row["lr"] for row in rows] == pytest.approx(rates(config), rel=1e-12)
    found = weights(result.model)
    for name, tensor in end.items():
        torch.testing.assert_close(found[name], tensor, atol=10 * tolerance, rtol=0)
    moved = weights(drawn_model(WIDE))
    assert all((found[name] - moved[name]).abs().max() > 1e-2 for name in end)


def test_a_given_model_is_gone_on_with_and_left_as_it_was(tmp_path):
    shards, model = sources(tmp_path), drawn_model(seed=7)
    before = weights(model)
    config = recipe(phase(steps=3), model=ARGS)
    Trainer(config, shards, tmp_path / "run", model=model).fit()
    losses, _, _ = plain_loop(config, shards, torch.float32)
    first = steps_told(tmp_path / "run")[0]["loss"]
    assert first != pytest.approx(losses[0], abs=1e-4)
    tokens = StatefulDataLoader(shards, batch_size=2, length=16).next().tokens
    wanted = float(batch_loss(before, ARGS, tokens, ARGS.rope_theta))
    assert first == pytest.approx(wanted, rel=1e-6)
    assert all(torch.equal(before[name], tensor) for name, tensor in weights(model).items())
