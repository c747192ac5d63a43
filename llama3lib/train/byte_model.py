"""A model small enough to train inside a lesson: bytes in, next byte out.

Controlled comparisons ("does cleaning pay?") need many equal runs that differ in one thing only.
This is the smallest Llama that shows such effects: 72,000 parameters on raw bytes, so that no
tokenizer favours one side.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from llama3lib.model import DocumentMask, ModelArgs, Transformer
from llama3lib.train.optim import lr_at, make_adamw
from llama3lib.utils.processes import without_main_file, worker_context
from llama3lib.utils.require import at_least

END = 0  # the byte that closes a document; it does not occur in text


@dataclass(frozen=True, kw_only=True)
class ByteRun:
    """Settings of a small run; the defaults take about 25 seconds on one core."""

    steps: int = 1200
    batch_size: int = 12
    length: int = 64
    lr: float = 8e-3
    warmup_share: float = 0.05
    end_share: float = 0.05
    """The last learning rate as a share of the peak."""
    seed: int = 0
    args: ModelArgs = field(
        default_factory=lambda: ModelArgs(
            dim=48,
            n_layers=2,
            n_heads=3,
            n_kv_heads=3,
            ffn_dim=128,
            vocab_size=256,
            max_seq_len=512,
        )
    )

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "length"):
            at_least(name, getattr(self, name), 1)

    @property
    def bytes_seen(self) -> int:
        """Bytes that the run learns from."""
        return self.steps * self.batch_size * self.length


def as_bytes(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """All texts end to end as bytes, each closed by `END`; and the number of each byte's text.

    Raises ValueError if there is no text.
    """
    parts = [text.encode("utf-8", "replace") + bytes([END]) for text in texts]
    if not parts:
        raise ValueError("texts is not allowed to be empty")
    owners = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    return np.frombuffer(b"".join(parts), dtype=np.uint8), owners


def train_byte_model(
    texts: Sequence[str],
    run: ByteRun | None = None,
    on_step: Callable[[int, float], None] | None = None,
    device: str | torch.device = "cpu",
    build: Callable[[ModelArgs], Transformer] = Transformer,
) -> Transformer:
    """Train a byte model on texts; the same texts and seed give the same weights.

    Windows are drawn at random places; attention and loss stay within a document. `on_step` is
    called with each step and its loss; `build` makes the model before its weights are drawn.

    Raises ValueError if the texts have fewer bytes than one window.
    """
    run = run or ByteRun()
    data, owners = as_bytes(texts)
    if len(data) <= run.length + 1:
        raise ValueError(f"texts have {len(data)} bytes, a window needs {run.length + 2}")
    generator = torch.Generator().manual_seed(run.seed)
    model = build(run.args)
    model.init_weights(generator)
    model.to(device)
    optimizer = make_adamw(model, run.lr)
    warmup = max(1, round(run.warmup_share * run.steps))
    for step in range(run.steps):
        rate = lr_at(step + 1, run.lr, warmup, run.steps + 1, run.end_share * run.lr)
        for group in optimizer.param_groups:
            group["lr"] = rate
        starts = torch.randint(len(data) - run.length - 1, (run.batch_size,), generator=generator)
        windows = _windows(data, owners, starts.numpy(), run.length)
        loss = _loss(model, *(part.to(device) for part in windows))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if on_step is not None:
            on_step(step, loss.item())
    return model.eval()


@torch.no_grad()
def loss_on_texts(model: Transformer, texts: Sequence[str], length: int = 64) -> float:
    """Mean nats per byte on texts, window by window, documents kept apart.

    Raises ValueError if the texts have fewer bytes than one window.
    """
    data, owners = as_bytes(texts)
    starts = np.arange(0, len(data) - length - 1, length)
    if not len(starts):
        raise ValueError(f"texts have {len(data)} bytes, a window needs {length + 2}")
    total = count = 0.0
    device = next(model.parameters()).device
    for part in np.array_split(starts, math.ceil(len(starts) / 256)):
        tokens, documents = _windows(data, owners, part, length)
        kept = float((documents[:, 1:] == documents[:, :-1]).sum())
        total += _loss(model, tokens.to(device), documents.to(device)).item() * kept
        count += kept
    return total / count


def compare_texts(
    corpora: Mapping[str, Sequence[str]],
    held_out: Mapping[str, Sequence[str]],
    *,
    seeds: Sequence[int] = (0, 1, 2),
    run: ByteRun | None = None,
    processes: int = 2,
    progress: bool = False,
) -> dict[str, list[dict[str, float]]]:
    """Train one model for each corpus and seed, all alike; test each on every held-out set.

    Returns for each corpus and seed the held-out losses by name, in nats per byte. Runs go side by
    side in processes of one thread each; the result does not depend on how many.

    Raises ValueError if there is no corpus, no held-out set or no seed.
    """
    if not corpora or not held_out or not seeds:
        raise ValueError("corpora, held_out and seeds are not allowed to be empty")
    run = run or ByteRun()
    jobs = [(name, replace(run, seed=seed)) for seed in seeds for name in corpora]
    results: dict[str, list[dict[str, float]]] = {name: [] for name in corpora}
    with without_main_file(), ProcessPoolExecutor(processes, mp_context=worker_context()) as pool:
        waiting = [pool.submit(_train_and_test, corpora[name], held_out, r) for name, r in jobs]
        bar = tqdm(total=len(jobs), desc="small models", disable=not progress)
        for done in waiting:
            done.add_done_callback(lambda _: bar.update())
        for (name, _), done in zip(jobs, waiting, strict=True):
            results[name].append(done.result())
        bar.close()
    return results


def _train_and_test(
    texts: Sequence[str], held_out: Mapping[str, Sequence[str]], run: ByteRun
) -> dict[str, float]:
    torch.set_num_threads(1)
    model = train_byte_model(texts, run)
    return {name: loss_on_texts(model, sets, run.length) for name, sets in held_out.items()}


def _windows(
    data: np.ndarray, owners: np.ndarray, starts: np.ndarray, length: int
) -> tuple[Tensor, Tensor]:
    """Bytes and their documents, each [windows, length + 1]."""
    places = starts[:, None] + np.arange(length + 1)
    return torch.from_numpy(data[places].astype(np.int64)), torch.from_numpy(owners[places])


def _loss(model: Transformer, tokens: Tensor, documents: Tensor) -> Tensor:
    """Mean cross-entropy in nats; the step from one document to the next is not asked for."""
    mask = DocumentMask(documents[:, :-1])
    logits = model(tokens[:, :-1], mask.positions(), mask)
    other = documents[:, 1:] != documents[:, :-1]
    return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].masked_fill(other, -100).flatten())
