"""Perplexity of one text, against plain passes over its windows."""

import math

import pytest
import torch

from llama3lib.checkpoint import load_model, load_tokenizer
from llama3lib.eval import text_perplexity

TEXT = "One sunny day Omar went to the mill. He found two größe pears there. " * 4


def test_perplexity_of_a_text_short_or_longer_than_the_table():
    tokenizer = load_tokenizer("tiny-base")
    ids = tokenizer.encode(TEXT, bos=True)
    for room in (512, 50):
        model = load_model("tiny-base", dtype="float64", max_seq_len=room)
        nats = []
        for start in range(1, len(ids), room):
            end = min(start + room, len(ids))
            first = max(end - room, 1)
            with torch.inference_mode():
                rows = model(torch.tensor([ids[first - 1 : end - 1]]))[0].log_softmax(-1)
            nats += [-float(rows[i - first, ids[i]]) for i in range(start, end)]
        assert len(nats) == len(ids) - 1
        want = math.exp(sum(nats) / len(nats))
        assert text_perplexity(model, tokenizer, TEXT) == pytest.approx(want, rel=1e-9)
    with pytest.raises(ValueError, match="text=''"):
        text_perplexity(model, tokenizer, "")


def test_a_number_format_may_be_named():
    assert load_model("tiny-base", dtype="bfloat16").norm.weight.dtype == torch.bfloat16
    for wrong in ("bf16", torch.int8):
        with pytest.raises(ValueError, match=r"dtype=.*bfloat16"):
            load_model("tiny-base", dtype=wrong)
