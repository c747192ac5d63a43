"""Stages and micro-batches change who computes when, never what comes out."""

import random
import threading
from collections import deque

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from timing_tools import patient

from llama3lib.inference import LLMEngine, SamplingParams, fuse_projections, generate_tokens
from llama3lib.inference.block_manager import BlockManager
from llama3lib.inference.pipeline import PipelineRunner, split_stages
from llama3lib.inference.scheduler import Scheduler
from llama3lib.inference.sequence import Sequence
from llama3lib.model import ModelArgs, Transformer

VOCAB = 89
ARGS = ModelArgs(
    dim=32, n_layers=5, n_heads=4, n_kv_heads=2, ffn_dim=48, vocab_size=VOCAB, max_seq_len=128
)


def make_model(**changes):
    model = Transformer(ARGS.replace(**changes))
    model.init_weights(torch.Generator().manual_seed(0))
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.mul_(8)  # so that texts differ
    return model.double().eval()


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("num_stages", [1, 2, 3, 5])
def test_stages_one_after_another_are_the_model(num_stages, tied):
    whole = make_model(tie_embeddings=tied)
    stages = split_stages(whole, num_stages)
    tokens = torch.randint(VOCAB, (2, 17), generator=torch.Generator().manual_seed(1))
    h = tokens
    with torch.no_grad():
        for stage in stages:
            h = stage(h)
        assert torch.equal(h, whole(tokens))
    sizes = [len(stage.layers) for stage in stages]
    assert sum(sizes) == 5 and max(sizes) - min(sizes) <= 1
    assert [name for stage in stages for name in stage.layers] == list(whole.layers)
    assert [stage.tok_embeddings is not None for stage in stages] == [True] + [False] * (
        num_stages - 1
    )
    theirs = {id(p) for stage in stages for p in stage.parameters()}
    assert theirs == {id(p) for p in whole.parameters()}  # shared, not copied


@pytest.mark.parametrize("wrong", [0, 6, 2.0, True])
def test_every_stage_needs_a_layer(model, wrong):
    with pytest.raises(ValueError, match="num_stages"):
        split_stages(model, wrong)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=20), st.integers(1, 5))
def test_micro_batches_share_the_sequences(counts, parts):
    """As many steps as may be under way take everybody once, none much more than another."""
    scheduler = Scheduler(BlockManager(200, 4), num_micro_batches=parts)
    for i, count in enumerate(counts):
        scheduler.add(Sequence([i] * count, SamplingParams(max_tokens=1)))
    taken = []
    while (plan := scheduler.schedule()).scheduled:
        for item in plan.scheduled:
            assert not item.sequence.in_flight
            item.sequence.in_flight = True
        taken.append(plan.scheduled)
    assert sum(map(len, taken)) == len(counts) and len(taken) <= parts
    assert max(map(len, taken)) == -(-len(counts) // parts)


def test_who_is_under_way_makes_no_room():
    """Two texts, room for one and a half: the one in flight keeps its blocks."""
    blocks = BlockManager(3, 4, prefix_sharing=False)
    scheduler = Scheduler(blocks, num_micro_batches=2)
    for i in range(2):
        scheduler.add(Sequence([i] * 4, SamplingParams(max_tokens=9)))
    first = scheduler.schedule().scheduled[0].sequence
    first.in_flight = True
    second = scheduler.schedule().scheduled[0].sequence
    for one in (first, second):
        blocks.note_computed(one, 4)
        one.token_ids.append(7)
    # the second came last, and would have to make room
    first.in_flight, second.in_flight = False, True
    assert scheduler.schedule().scheduled[0].sequence is first  # takes the last block
    first.in_flight, second.in_flight = True, False
    plan = scheduler.schedule()
    assert (plan.scheduled, plan.preempted) == ([], [second])
    assert len(first.block_table) == 2 and not second.block_table


def scores_of_all_steps(model, requests, **options):
    """The scores behind each token of each text, and how many blocks were copied."""
    found, copied, sent = {}, 0, deque()
    with LLMEngine(model, num_blocks=50, block_size=4, max_num_batched_tokens=40, **options) as e:
        submit, collect = e.runner.submit, e.runner.collect

        def note(scheduled, copies):
            nonlocal copied
            copied += len(copies)
            ends = [item.sequence.num_computed_tokens + item.num_tokens for item in scheduled]
            sent.append([(i.sequence, end) for i, end in zip(scheduled, ends, strict=True)])
            submit(scheduled, copies)

        def record():
            scores = collect()
            for (one, end), row in zip(sent.popleft(), scores, strict=True):
                if end >= one.num_prompt_tokens:
                    found[one.request_id, one.sample_id, end] = row
            return scores

        e.runner.submit, e.runner.collect = note, record
        for prompt, most, n in requests:
            e.add_request(prompt, SamplingParams(max_tokens=most), n=n)
        while e.has_work:
            e.step()
    return found, copied


@pytest.mark.parametrize(
    ("num_stages", "num_micro_batches"), [(1, 2), *((s, m) for s in (2, 3) for m in (1, 2, 3, 4))]
)
def test_scores_are_those_of_the_plain_runner(model, num_stages, num_micro_batches):
    rng = random.Random(num_stages)
    requests = [
        ([rng.randrange(VOCAB) for _ in range(rng.randint(1, 50))], rng.randint(1, 9), n)
        for n in (1, 3, 1, 1, 2, 1)
    ]
    requests.append(([5], 30, 1))
    want, copied = scores_of_all_steps(model, requests)
    options = {"num_stages": num_stages, "num_micro_batches": num_micro_batches}
    got, also_copied = scores_of_all_steps(model, requests, **options)
    assert copied and also_copied and got.keys() == want.keys()
    for key, row in want.items():
        if num_micro_batches == 1:
            assert torch.equal(got[key], row)  # the very same products
        assert torch.allclose(got[key], row, rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", range(12))
def test_random_loads_are_what_single_texts_give(model, seed):
    rng = random.Random(seed)
    stem = [rng.randrange(VOCAB) for _ in range(40)]
    net = fuse_projections(make_model()) if seed % 3 == 0 else model
    requests = []
    for _ in range(rng.randint(1, 7)):
        prompt = stem[: rng.randint(1, 40)] + [
            rng.randrange(VOCAB) for _ in range(rng.randint(0, 9))
        ]
        requests.append((prompt, SamplingParams(max_tokens=rng.randint(1, 15)), rng.randint(1, 2)))
    want = [list(generate_tokens(model, prompt, params)) for prompt, params, _ in requests]
    size = rng.randint(1, 12)
    settings = {
        "num_blocks": -(-64 // size) + rng.choice([0, 2, 30]),
        "block_size": size,
        "max_num_batched_tokens": rng.choice([5, 20, 99]),
        "num_stages": rng.randint(1, 3),
        "num_micro_batches": rng.randint(1, 4),
    }
    with LLMEngine(net, **settings) as engine:
        names = [engine.add_request(prompt, params, n=n) for prompt, params, n in requests]
        got = {}
        while engine.has_work:
            got |= {(o.request_id, o.sample_id): o.token_ids for o in engine.step()}
            engine.blocks.check(engine.scheduler.running)
    for name, (_, _, n), tokens in zip(names, requests, want, strict=True):
        assert [got[name, i] for i in range(n)] == [tokens] * n


def some_prompts(count, micro_batches=1):
    """Steps of prompts of 3, 4, ... tokens."""
    scheduler = Scheduler(BlockManager(64, 4), num_micro_batches=micro_batches)
    for i in range(count):
        scheduler.add(Sequence(list(range(i, 2 * i + 3)), SamplingParams()))
    plans = []
    while (plan := scheduler.schedule()).scheduled:
        plans.append(plan)
        for item in plan.scheduled:
            item.sequence.in_flight = True
    return plans


def go(runner, count=4, micro_batches=1):
    """All scores of some prompts; as many micro-batches under way as there are."""
    plans = some_prompts(count, micro_batches)
    for plan in plans:
        runner.submit(plan.scheduled, plan.copies)
    return torch.cat([runner.collect() for _ in plans])


def test_the_times_say_who_worked_on_what(model):
    runner = PipelineRunner(model, num_blocks=64, block_size=4, num_stages=3, num_micro_batches=2)
    go(runner, micro_batches=2)
    when = {(span.stage, span.micro_batch): span for span in runner.spans}
    assert sorted(when) == [(stage, part) for stage in range(3) for part in range(2)]
    for (stage, part), span in when.items():
        assert 0 <= span.start < span.end
        if stage:  # no stage begins before the one before it has ended
            assert when[stage - 1, part].end <= span.start
        if part:  # and none works on two at a time
            assert when[stage, part - 1].end <= span.start
    go(runner, count=1)
    assert sorted({span.micro_batch for span in runner.spans}) == [0, 1, 2]
    runner.close()


def test_stages_work_at_the_same_time(model):
    """Each stage waits until the other one works, too: one after the other would never end."""
    runner = PipelineRunner(model, num_blocks=64, block_size=4)
    both, met, names = threading.Barrier(2), [], list(model.layers)

    def meet_at_call(name, number):
        calls = []

        def call(*_):
            calls.append(name)
            if len(calls) == number:
                both.wait(timeout=patient(30))
                met.append(threading.current_thread().name)

        return model.layers[name].register_forward_pre_hook(call)

    # the last stage has the first micro-batch while the first stage has the second
    hooks = [meet_at_call(names[0], 2), meet_at_call(names[-1], 1)]
    try:
        go(runner, micro_batches=2)
    finally:
        for one in hooks:
            one.remove()
        runner.close()
    assert sorted(met) == ["stage-0", "stage-1"]


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_an_error_in_a_stage_reaches_the_caller_and_nothing_hangs(model, stage):
    prompts = [[n, n + 1, n + 2] for n in range(5)]
    params = SamplingParams(max_tokens=6)
    want = [list(generate_tokens(model, prompt, params)) for prompt in prompts]
    first = next(iter(split_stages(model, 3)[stage].layers.values()))
    with LLMEngine(model, num_stages=3, num_micro_batches=2) as engine:
        names = [engine.add_request(prompt, params) for prompt in prompts]
        engine.step()

        def fail(*_):
            raise MemoryError("no room in this stage")

        hook = first.register_forward_pre_hook(fail)
        for _ in range(2):
            with pytest.raises(MemoryError, match="no room in this stage"):
                for _ in range(3):  # what was under way before comes first
                    engine.step()
        hook.remove()
        done = {}
        while engine.has_work:
            done |= {out.request_id: out.token_ids for out in engine.step()}
        assert [done[name] for name in names] == want


def test_a_forgotten_step_leaves_nothing_to_the_next(model):
    """Whoever waited was interrupted; the old micro-batches come back later."""
    runner = PipelineRunner(model, num_blocks=64, block_size=4)
    want = go(runner)
    for plan in some_prompts(6, 2):
        runner.submit(plan.scheduled, plan.copies)
    runner.forget()
    assert torch.equal(go(runner), want)
    runner.close()


@pytest.mark.parametrize("seed", range(6))
def test_texts_that_are_aborted_under_way_disturb_nobody(model, seed):
    rng = random.Random(seed)
    prompts = [[rng.randrange(VOCAB) for _ in range(rng.randint(1, 30))] for _ in range(9)]
    params = SamplingParams(max_tokens=12)
    want = [list(generate_tokens(model, prompt, params)) for prompt in prompts]
    options = {"num_stages": 2, "num_micro_batches": 3, "num_blocks": 24, "block_size": 4}
    with LLMEngine(model, **options) as engine:
        names = [engine.add_request(prompt, params, n=2) for prompt in prompts]
        gone, done = set(rng.sample(names, 4)), {}
        left = sorted(gone)
        while engine.has_work:
            done |= {(o.request_id, o.sample_id): o.token_ids for o in engine.step()}
            if left and rng.random() < 0.4:
                engine.abort_request(left.pop())
            engine.blocks.check(engine.scheduler.running)
        assert engine.blocks.num_free_blocks == engine.blocks.num_blocks
    for name, tokens in zip(names, want, strict=True):
        if name not in gone:
            assert done[name, 0] == done[name, 1] == tokens


def test_close_ends_the_threads_and_gives_the_model_back(model):
    before = [layer.attention.inner_attention for layer in model.layers.values()]
    threads, cores = threading.active_count(), torch.get_num_threads()
    runner = PipelineRunner(model, num_blocks=8, block_size=4, num_stages=3)
    assert threading.active_count() == threads + 3
    runner.close()
    runner.close()
    assert threading.active_count() == threads
    assert [layer.attention.inner_attention for layer in model.layers.values()] == before
    with pytest.raises(ValueError, match="closed"):
        runner.submit([], [])
    assert torch.get_num_threads() == cores


def test_other_threads_keep_their_number_of_cores(model):
    ours, found = torch.get_num_threads(), []
    torch.set_num_threads(2)
    try:
        runner = PipelineRunner(model, num_blocks=8, block_size=4)
        found.append(torch.get_num_threads())
        other = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
        other.start()
        other.join()
        runner.close()
    finally:
        torch.set_num_threads(ours)
    assert found == [2, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_stages": 9}, "num_stages=9 is not allowed: 1 to 5"),
        ({"num_stages": 2, "num_micro_batches": 0}, "num_micro_batches=0"),
        ({"num_stages": 2, "num_micro_batches": 1.5}, "num_micro_batches=1.5"),
    ],
)
def test_wrong_numbers_leave_the_model_alone(model, options, message):
    threads = threading.active_count()
    with pytest.raises(ValueError, match=message):
        LLMEngine(model, **options)
    assert threading.active_count() == threads
    with LLMEngine(model) as engine:
        assert engine.generate([[1]], SamplingParams(max_tokens=1))
