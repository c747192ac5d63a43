"""What ranks check of an engine that is spread over them; run by `run_checks`."""

import os
import random
import time
from dataclasses import dataclass

import pytest
import torch
import torch.distributed as dist

from llama3lib.checkpoint import load_model, save_hf
from llama3lib.inference import LLMEngine, SamplingParams, fuse_projections, generate_tokens
from llama3lib.inference.ranks import EngineRanks, RankLostError
from llama3lib.model import ModelArgs, Transformer

VOCAB = 96
ARGS = ModelArgs(
    dim=32, n_layers=5, n_heads=4, n_kv_heads=2, ffn_dim=48, vocab_size=VOCAB, max_seq_len=128
)
SHAPES = (
    ARGS,
    ARGS.replace(tie_embeddings=True),
    ARGS.replace(vocab_size=VOCAB + 1),  # the output matrix does not divide
    ARGS.replace(head_dim=12, n_kv_heads=4),
)


def make_model(args=ARGS, seed=0):
    model = Transformer(args)
    model.init_weights(torch.Generator().manual_seed(seed))
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.mul_(8)  # so that texts differ
    return model.double().eval()


@dataclass
class Workloads:
    """Random loads: the ranks write, token for token, what one process writes."""

    tp: int
    pp: int
    seeds: range

    def __str__(self):
        return f"tp {self.tp} pp {self.pp}, loads {self.seeds.start} to {self.seeds.stop - 1}"

    def __call__(self):
        ranks = EngineRanks(self.tp, self.pp)
        for seed in self.seeds:
            args = SHAPES[seed % len(SHAPES)]
            whole, part = make_model(args), ranks.share.cut(make_model(args))
            if seed % 3 == 0:
                fuse_projections(part)
            ranks.join(part)
            if ranks.share.rank:
                ranks.work(part)
            else:
                one_load(ranks, whole, part, random.Random(seed))


def one_load(ranks, whole, part, rng):
    stem = [rng.randrange(VOCAB) for _ in range(40)]
    requests = []
    for _ in range(rng.randint(1, 8)):
        prompt = stem[: rng.randint(1, 40)]
        prompt = prompt + [rng.randrange(VOCAB) for _ in range(rng.randint(0, 9))]
        requests.append((prompt, SamplingParams(max_tokens=rng.randint(1, 15)), rng.randint(1, 2)))
    size = rng.randint(1, 12)
    settings = {
        "num_blocks": -(-64 // size) + rng.choice([0, 2, 30]),
        "block_size": size,
        "max_num_batched_tokens": rng.choice([5, 20, 99]),
        "num_micro_batches": rng.randint(1, 3),
    }
    with LLMEngine(part, ranks=ranks, **settings) as engine:
        names = [engine.add_request(prompt, params, n=n) for prompt, params, n in requests]
        gone, got = engine.add_request(stem, SamplingParams(max_tokens=20)), {}
        while engine.has_work:
            for out in engine.step():
                got[out.request_id, out.sample_id] = out.token_ids
            if rng.random() < 0.2:
                engine.abort_request(gone)
            engine.blocks.check(engine.scheduler.running)
    for name, (prompt, params, n) in zip(names, requests, strict=True):
        want = list(generate_tokens(whole, prompt, params))
        assert [got[name, i] for i in range(n)] == [want] * n, (settings, prompt)


@dataclass
class Prompts:
    """How likely a prompt is, and its states, in pieces, beside texts that are written."""

    tp: int
    pp: int

    def __str__(self):
        return f"prompts on tp {self.tp} pp {self.pp}"

    def __call__(self):
        ranks = EngineRanks(self.tp, self.pp)
        part = ranks.share.cut(make_model())
        ranks.join(part)
        if ranks.share.rank:
            ranks.work(part)
            return
        whole, prompts = make_model(), [[(7 * i + k) % VOCAB for i in range(k)] for k in (1, 9, 70)]
        sizes = {"max_num_batched_tokens": 32, "num_micro_batches": 2}
        with LLMEngine(part, ranks=ranks, **sizes) as engine:
            engine.add_request([3, 4], SamplingParams(max_tokens=20))
            params = SamplingParams(max_tokens=0, prompt_logprobs=2)
            outputs = engine.generate(prompts, params)
            states = engine.embed(prompts, mean=False)
            stages = {span.stage for span in engine.runner.spans}
        assert stages == set(range(self.pp))
        for prompt, out, state in zip(prompts, outputs, states, strict=True):
            with torch.inference_mode():
                want = whole.hidden_states(torch.tensor([prompt]))[0]
                logprobs = whole.output(want).log_softmax(-1)
            assert torch.allclose(state, want, atol=1e-12)
            for row, token, got in zip(logprobs, prompt[1:], out.prompt_logprobs[1:], strict=False):
                assert got.logprob == pytest.approx(float(row[token]))


@dataclass
class Loaded:
    """Each rank reads its share of a folder, and no more."""

    tp: int
    pp: int
    folder: str

    def __str__(self):
        return f"a folder on tp {self.tp} pp {self.pp}"

    def __call__(self):
        for tied in (False, True):
            folder, args = (
                f"{self.folder}/{self.tp}{self.pp}{tied}",
                ARGS.replace(tie_embeddings=tied),
            )
            ranks = EngineRanks(self.tp, self.pp)
            if ranks.share.rank == 0:
                save_hf(make_model(args), folder)
            dist.barrier()
            part = load_model(folder, share=ranks.share)
            whole = sum(p.numel() for p in make_model(args).parameters())
            assert sum(p.numel() for p in part.parameters()) < 0.75 * whole
            assert not any(p.is_meta for p in part.parameters())
            ranks.join(part)
            if ranks.share.rank:
                ranks.work(part)
                continue
            params, prompt = SamplingParams(max_tokens=20), [5, 6, 7]
            with LLMEngine(part, ranks=ranks) as engine:
                got = engine.generate([prompt], params)[0].token_ids
            assert got == list(generate_tokens(make_model(args), prompt, params))


def wrong_numbers_are_refused():
    world = dist.get_world_size()
    for tp, pp, words in ((3, 1, f"3 is not allowed: {world}"), (0, 2, "tp=0"), (1, 1.5, "pp=1.5")):
        with pytest.raises(ValueError, match=words):
            EngineRanks(tp, pp)
    ranks = EngineRanks(world, 1)
    for changes, words in (
        ({"n_kv_heads": 1}, "n_kv_heads=1"),
        ({"ffn_dim": 47}, "a divisor of ffn_dim=47"),
    ):
        with pytest.raises(ValueError, match=words):
            ranks.share.cut(make_model(ARGS.replace(**changes)))
    with pytest.raises(ValueError, match="fused"):
        ranks.share.cut(fuse_projections(make_model()))
    ranks = EngineRanks(1, world)
    with pytest.raises(ValueError, match="1 to 1 layers"):
        ranks.share.cut(make_model(ARGS.replace(n_layers=1)))
    if ranks.share.rank:
        with pytest.raises(ValueError, match="rank=1 is not allowed"):
            LLMEngine(make_model(), ranks=ranks)


def a_lost_rank_is_told_of(how):
    """Rank 1 is killed, or gives no answer, in the midst of the texts."""
    ranks = EngineRanks(1, 2, timeout=3.0)
    part = ranks.share.cut(make_model())
    if ranks.share.rank:
        calls = []

        def fail(*_):
            calls.append(1)
            if len(calls) == 4:
                os._exit(0) if how == "dies" else time.sleep(1000)

        next(iter(part.layers.values())).register_forward_pre_hook(fail)
        ranks.work(part)
        return
    engine, begun = LLMEngine(part, ranks=ranks, num_micro_batches=2), time.monotonic()
    for i in range(4):
        engine.add_request([i, i + 1], SamplingParams(max_tokens=20))
    with pytest.raises(RankLostError, match="rank 1 is gone or gives no answer"):
        while engine.has_work:
            engine.step()
    with pytest.raises(RankLostError, match="started again"):
        engine.step()
    engine.close()
    print(f"told after {time.monotonic() - begun:.1f} s")
    os._exit(9)


def one_dies():
    a_lost_rank_is_told_of("dies")


def one_hangs():
    a_lost_rank_is_told_of("hangs")
