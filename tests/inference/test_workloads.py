"""Random loads: the engine writes, token for token, what `generate` and `transformers` write.

All in float64, so that a product of another shape cannot turn a close choice.
"""

import random
from collections import Counter
from dataclasses import dataclass

import pytest
import torch
from transformers import LlamaForCausalLM

from llama3lib.checkpoint import save_hf
from llama3lib.inference import LLMEngine, SamplingParams, fuse_projections, generate_tokens
from llama3lib.model import ModelArgs, RopeScaling, Transformer
from llama3lib.model.attention import ScaledDotProductAttention

pytestmark = pytest.mark.many_steps
VOCAB, LONGEST = 97, 20
BASE = ModelArgs(
    dim=32, n_layers=2, n_heads=4, n_kv_heads=2, ffn_dim=48, vocab_size=VOCAB, max_seq_len=160
)
STRETCHED = RopeScaling(original_max_seq_len=64)
SHAPES = {
    "grouped": BASE,
    "one each": BASE.replace(n_kv_heads=4),
    "one for all": BASE.replace(n_kv_heads=1, n_layers=3),
    "tied": BASE.replace(tie_embeddings=True),
    "scaled": BASE.replace(rope_scaling=STRETCHED),
    "other head size": BASE.replace(head_dim=12, rope_scaling=STRETCHED, tie_embeddings=True),
}


class Texts:
    """A model, and what two others write after each of some prompts that share beginnings."""

    def __init__(self, seed, args, folder):
        rng = random.Random(seed)
        self.model, self.fused = (self._model(seed, args) for _ in range(2))
        fuse_projections(self.fused)
        save_hf(self.model, folder)
        foreign = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()
        stem = [rng.randrange(VOCAB) for _ in range(80)]
        self.prompts, self.ours, self.theirs = [], [], []
        for length in [1, *rng.sample(range(2, 81), 4)]:
            cuts = [rng.randint(0, length) for _ in range(5)]
            rows = [stem[:n] + [rng.randrange(VOCAB) for _ in range(length - n)] for n in cuts]
            self.prompts += rows
            self.theirs += written_by(foreign, rows)
        params = SamplingParams(max_tokens=LONGEST)
        self.ours = [list(generate_tokens(self.model, prompt, params)) for prompt in self.prompts]

    @staticmethod
    def _model(seed, args):
        model = Transformer(args)
        model.init_weights(torch.Generator().manual_seed(seed))
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.data.mul_(8)  # so that texts differ
        return model.double().eval()


def written_by(foreign, rows):
    prompts = torch.tensor(rows)
    texts = foreign.generate(
        prompts,
        max_new_tokens=LONGEST,
        do_sample=False,
        attention_mask=torch.ones_like(prompts),
        eos_token_id=None,
        pad_token_id=0,
    )
    return texts[:, prompts.shape[1] :].tolist()


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    return [Texts(i, args, folder / str(i)) for i, args in enumerate(SHAPES.values())]


def test_both_references_agree_and_say_something(texts):
    for one in texts:
        assert one.ours == one.theirs
        assert len({tuple(text) for text in one.ours}) > len(one.ours) / 2
        assert len({token for text in one.ours for token in text}) > 20


@dataclass
class Request:
    """When it comes, what it asks for, when it is called off, and what should be written."""

    at: int
    prompt: list[int]
    params: SamplingParams
    n: int
    until: int | None
    want: list[int]
    reason: str


def some_requests(rng, texts):
    """Requests in the order in which they come, often several at once."""
    at, requests = 0, []
    for _ in range(rng.randint(2, 9)):
        at += rng.choice([0, 0, 0, 1, 4, 15])
        which = rng.randrange(len(texts.prompts))
        most, want = rng.randint(1, LONGEST), texts.theirs[which]
        stops = rng.sample(want, 2) if rng.random() < 0.3 else []
        want = want[:most]
        stop_at = min((want.index(token) for token in stops if token in want), default=None)
        requests.append(
            Request(
                at=at,
                prompt=texts.prompts[which],
                params=SamplingParams(max_tokens=most, stop_token_ids=stops),
                n=rng.choice([1, 1, 1, 2, 3]),
                until=at + rng.randint(0, 40) if rng.random() < 0.35 else None,
                want=want if stop_at is None else want[:stop_at],
                reason="length" if stop_at is None else "stop",
            )
        )
    return requests


def some_engine(rng, texts, requests):
    """Blocks of any size, often so few that texts must make room for one another."""
    size = rng.randint(1, 32)
    longest = max(len(r.prompt) + r.params.max_tokens - 1 for r in requests)
    return LLMEngine(
        texts.fused if rng.random() < 0.3 else texts.model,
        num_blocks=-(-longest // size) + rng.choice([0, 0, 0, 1, 1 + 32 // size, 1000]),
        block_size=size,
        max_num_seqs=rng.randint(max(r.n for r in requests), 9),
        max_num_batched_tokens=rng.choice([1, 4, 9, 17, 64, 400]),
        prefix_sharing=rng.random() < 0.75,
    )


def run(engine, requests, seen):
    """Tokens and reason of each sample that got any; `seen` counts what happened."""
    left, names, got = list(enumerate(requests)), {}, {}
    now = 0
    while left or engine.has_work:
        if left and not engine.has_work:
            now = max(now, left[0][1].at)
        while left and left[0][1].at <= now:
            place, request = left.pop(0)
            names[engine.add_request(request.prompt, request.params, n=request.n)] = place
        for name, place in names.items():
            if requests[place].until == now and name in engine.requests:
                for one in engine.requests[name].sequences:
                    preempted = one.output_ids and one.status.name == "WAITING"
                    seen[f"called off {'PREEMPTED' if preempted else one.status.name}"] += 1
                assert engine.abort_request(name)
        for out in engine.step():
            place = names[out.request_id]
            assert (place, out.sample_id) not in got or got[place, out.sample_id][1] is None
            got[place, out.sample_id] = out.token_ids, out.finish_reason
            if out.finished:
                seen[out.finish_reason] += 1
                seen["shared tokens"] += out.num_cached_tokens
        engine.blocks.check(engine.scheduler.running)
        now += 1
    return got


def check_load(seed, texts, seen):
    rng = random.Random(seed)
    requests = some_requests(rng, texts)
    with some_engine(rng, texts, requests) as engine:
        seen["pieces"] += any(
            len(r.prompt) > engine.scheduler.max_num_batched_tokens for r in requests
        )
        got = run(engine, requests, seen)
        seen["preemptions"] += engine.scheduler.num_preemptions
        assert engine.blocks.num_free_blocks == engine.blocks.num_blocks
        assert not engine.requests and not engine.scheduler.has_work
        model = engine.model
    for layer in model.layers.values():
        assert isinstance(layer.attention.inner_attention, ScaledDotProductAttention)
    for place, request in enumerate(requests):
        for sample_id in range(request.n):
            tokens, reason = got.get((place, sample_id), ([], None))
            if reason is None:
                assert request.until is not None
                assert tokens == request.want[: len(tokens)]
            else:
                assert (tokens, reason) == (request.want, request.reason)
                seen["other samples"] += sample_id > 0


@pytest.mark.parametrize("loads", [100, pytest.param(1000, marks=pytest.mark.long)])
def test_random_loads_are_what_single_texts_give(texts, loads):
    seen = Counter()
    for seed in range(loads):
        check_load(seed, texts[seed % len(texts)], seen)
    assert seen["preemptions"] > loads / 4 and seen["shared tokens"] > 10 * loads
    assert seen["pieces"] > loads / 2 and seen["length"] > 2.5 * loads
    assert seen["stop"] > loads / 2 and seen["other samples"] > loads
    for state in ("WAITING", "RUNNING", "PREEMPTED", "FINISHED"):
        assert seen[f"called off {state}"] > 0, seen
