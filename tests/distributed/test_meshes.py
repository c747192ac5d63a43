"""Every mesh computes what one process computes, and refuses what it can't."""

import functools
import multiprocessing

import mesh_checks as checks
import pytest
from mesh_tools import Setting
from rank_tools import name_of, run_checks

pytestmark = pytest.mark.distributed

TP, CP, PP = dict(tp=2), dict(cp=2), dict(pp=2)
SHARDS = dict(dp_shard=2)
TWO = [
    Setting("tp", TP),
    Setting("cp", CP, curve=True),
    Setting("cp, one document a row", CP, documents=False),
    Setting("cp ring", CP, dict(context="ring")),
    Setting("fsdp", SHARDS, micro_batch=2, curve=True),
    Setting("replicas", dict(dp_replicate=2)),
    Setting("pp 1f1b", PP, micro_batch=2),
    Setting("pp gpipe", PP, dict(schedule="gpipe", virtual=2), micro_batch=2),
    Setting("pp interleaved", PP, dict(virtual=2), micro_batch=2, curve=True),
    Setting("pp, N between PP and M", PP, dict(virtual=2, run=4), micro_batch=1),
    Setting("pp, a longer last run", PP, dict(virtual=2, run=3), micro_batch=1),
    checks.other_numbers_are_refused,
    checks.a_ring_sends_as_much_as_a_gather,
    checks.bfloat16_and_recomputation,
]
FOUR = [
    Setting("tp 4", dict(tp=4)),
    Setting("cp 4", dict(cp=4)),
    Setting("cp 4 ring", dict(cp=4), dict(context="ring")),
    Setting("pp 4", dict(pp=4), micro_batch=1),
    Setting("pp 4, ends a layer shorter", dict(pp=4), micro_batch=1, layers=6),
    Setting("pp 4 interleaved", dict(pp=4), dict(virtual=2), micro_batch=1, layers=8),
    Setting("fsdp 4", dict(dp_shard=4)),
    Setting("hsdp", dict(dp_shard=2, dp_replicate=2)),
    Setting("tp fsdp", TP | SHARDS),
    Setting(
        "tp fsdp, whole logits of tied weights, recomputed",
        TP | SHARDS,
        dict(loss_parallel=False, recompute=True),
        args=dict(tie_embeddings=True),
    ),
    Setting("cp fsdp", CP | SHARDS),
    Setting("pp fsdp", PP | SHARDS, dict(virtual=2, run=4), micro_batch=1, curve=True),
    Setting("tp pp", TP | PP, dict(virtual=2), micro_batch=2),
    Setting("tp cp", TP | CP),
    Setting("cp pp", CP | PP, dict(recompute=True), micro_batch=2),
    checks.full_states_are_shared_out,
]
CURVES = [
    CP | SHARDS,
    TP | SHARDS,
    TP | PP,
    TP | CP,
    dict(tp=4),
    dict(cp=4),
    dict(pp=4),
    dict(dp_shard=4),
]
LONG = [Setting(str(dims), dims, micro_batch=1, curve=True) for dims in CURVES]


@functools.cache
def outcome(world, long=False):
    """What passed in one launch of all checks, and why it ended."""
    some = TWO if world == 2 else LONG if long else FOUR
    try:
        return run_checks(some, world, seconds=1200 if long else 240), ""
    except (AssertionError, TimeoutError) as error:
        return {}, str(error)


@pytest.mark.parametrize("name", [*map(name_of, TWO)])
def test_two_ranks(name):
    passed, wrong = outcome(2)
    assert name in passed, wrong


@pytest.mark.parametrize("name", [*map(name_of, FOUR)])
def test_four_ranks(name):
    passed, wrong = outcome(4)
    assert name in passed, wrong


@pytest.mark.long
@pytest.mark.parametrize("name", [*map(name_of, LONG)])
def test_twenty_steps_on_every_mesh(name):
    passed, wrong = outcome(4, long=True)
    assert name in passed, wrong


@pytest.mark.parametrize(
    ("check", "error", "words"),
    [
        (checks.one_rank_hangs, TimeoutError, "2 of 2 ranks"),
        (checks.one_rank_dies, AssertionError, "7"),
        (checks.one_rank_is_wrong, AssertionError, "not the first"),
    ],
)
def test_no_rank_is_left_behind(check, error, words):
    before = {child.pid for child in multiprocessing.active_children()}  # of tests before this one
    with pytest.raises(error, match=words):
        run_checks([check], 2, seconds=6)
    left = [child for child in multiprocessing.active_children() if child.pid not in before]
    assert not [child for child in left if child.name != "forkserver"]
