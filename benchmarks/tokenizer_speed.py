"""Encoding against tiktoken's own loop, and BPE training against `tokenizers`, on one thread.

    python benchmarks/tokenizer_speed.py [--quick]

The text is Python source that is installed anyway (torch's own files). Peer and ours take turns
in one process; what counts is the ratio, with its spread over the rounds.
"""

import os

os.environ |= {"RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}

import argparse
import statistics
import time
from pathlib import Path

import tokenizers
import torch
from tokenizers import models, pre_tokenizers, trainers

from llama3lib.tokenizer import LLAMA3_PATTERN, Tokenizer, train_bpe


def source_text(size: int) -> list[str]:
    """Files of torch, in order of name, until there are `size` characters."""
    texts, total = [], 0
    for file in sorted(Path(torch.__file__).parent.rglob("*.py")):
        texts.append(file.read_text(encoding="utf-8", errors="ignore"))
        total += len(texts[-1])
        if total >= size:
            break
    return texts


def seconds(work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def told(name: str, ratios: list[float]) -> None:
    low, high = min(ratios), max(ratios)
    print(
        f"{name}: {statistics.median(ratios):.2f} ({low:.2f} to {high:.2f}, {len(ratios)} rounds)"
    )


def encoding(rounds: int) -> None:
    tokenizer = Tokenizer.llama3()
    peer = tokenizer._encoding
    text = "".join(source_text(4_000_000))[:4_000_000]
    documents = [text[i : i + 4000] for i in range(0, len(text), 4000)]
    short, long = [], []
    for _ in range(rounds):
        theirs = seconds(lambda: [peer.encode_ordinary(d) for d in documents])
        ours = seconds(lambda: [tokenizer.encode(d) for d in documents])
        short.append(theirs / ours)
        theirs = seconds(lambda: peer.encode_ordinary(text))
        ours = seconds(lambda: tokenizer.encode(text))
        long.append(theirs / ours)
    print(f"ours, 4,000-character documents: {len(text) / ours / 1e6:.1f} MB/s")
    told("encoding speed, ours / tiktoken, 4,000-character documents", short)
    told("encoding speed, ours / tiktoken, one text of 4 MB", long)
    for character in ("a", " ", "é"):
        million = character * 1_000_000
        print(f"a million {character!r}: {seconds(lambda m=million: tokenizer.encode(m)):.2f} s")


def training(rounds: int, size: int) -> None:
    texts = source_text(size)
    ratios = []
    for _ in range(rounds):
        peer = tokenizers.Tokenizer(models.BPE())
        split = pre_tokenizers.Split(tokenizers.Regex(LLAMA3_PATTERN), "isolated")
        level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        peer.pre_tokenizer = pre_tokenizers.Sequence([split, level])
        trainer = trainers.BpeTrainer(
            vocab_size=8192,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        theirs = seconds(lambda p=peer, t=trainer: p.train_from_iterator(texts, t))
        ours = seconds(lambda: train_bpe(texts, 8192))
        ratios.append(ours / theirs)
    print(
        f"training on {sum(map(len, texts)) / 1e6:.1f} MB: ours {ours:.2f} s, theirs {theirs:.2f} s"
    )
    told("BPE training time, ours / tokenizers, vocabulary 8,192", ratios)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds, less text")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    encoding(2 if quick else 7)
    training(1 if quick else 5, 2_000_000 if quick else 10_000_000)


if __name__ == "__main__":
    main()
