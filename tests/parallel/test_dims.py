"""Who sits where on a mesh, and what does not divide."""

import pytest
import torch

from llama3lib.model import ModelArgs, Transformer, get_preset
from llama3lib.paper import infrastructure
from llama3lib.parallel import ParallelDims, cut_sequence, join_sequence, split_pipeline
from llama3lib.parallel.context import PlacesMask
from llama3lib.parallel.dims import ORDER

ARGS = ModelArgs(dim=16, n_layers=4, n_heads=4, n_kv_heads=2, ffn_dim=32, vocab_size=64)


def test_figure_5():
    """16 ranks, every dimension 2: rank 0 shares TP with 1, CP with 2, PP with 4, DP with 8."""
    dims = ParallelDims(tp=2, cp=2, pp=2, dp_shard=2)
    assert [dims.group(0, name) for name in ORDER[:4]] == [[0, 1], [0, 2], [0, 4], [0, 8]]
    assert dims.group(6, "dp_shard", "cp") == [4, 6, 12, 14]
    for name in ORDER:  # each dimension's groups cut all ranks into equal parts
        groups = {tuple(dims.group(rank, name)) for rank in range(16)}
        assert sorted(rank for group in groups for rank in group) == list(range(16))


def test_table_4_fits_the_405b():
    for row in infrastructure.TABLE_4.rows.values():
        gpus, tp, cp, pp, dp, sequence, batch = row[:7]
        dims = ParallelDims(tp=tp, cp=cp, pp=pp, dp_shard=dp)
        assert dims.world == gpus
        dims.check(get_preset("405B"), sequence=sequence, batch=batch * dp)
        last = dims.coordinates(gpus - 1)
        assert last == dict(tp=tp - 1, cp=cp - 1, pp=pp - 1, dp_shard=dp - 1, dp_replicate=0)


@pytest.mark.parametrize(
    ("dims", "more", "words"),
    [
        (dict(tp=4), {}, "tp=4 is not allowed: a divisor of n_kv_heads=2"),
        (dict(tp=3), {}, "tp=3 is not allowed: a divisor of n_heads=4"),
        (dict(cp=2), dict(sequence=30), "sequence=30 is not allowed: a multiple of 4"),
        (dict(cp=2, tp=2), dict(sequence=0), "sequence=0"),
        (dict(tp=2), dict(sequence=33), "sequence=33 is not allowed: a multiple of 2"),
        (dict(cp=2), dict(sequence=16_384), "max_seq_len=8192"),
        (dict(dp_shard=2, dp_replicate=2), dict(batch=6), "batch=6 is not allowed: .* dp=4"),
    ],
)
def test_what_does_not_divide_is_named(dims, more, words):
    with pytest.raises(ValueError, match=words):
        ParallelDims(**dims).check(ARGS, **more)


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "2"])
def test_dimensions_are_whole_numbers(value):
    with pytest.raises(ValueError, match="cp="):
        ParallelDims(cp=value)


def test_one_process_is_no_mesh_of_two():
    with pytest.raises(ValueError, match="tp=2.*product 2 must be the number of ranks, 1"):
        ParallelDims(tp=2).build_mesh()
    with pytest.raises(ValueError, match="rank=2"):
        ParallelDims(tp=2).coordinates(2)


def test_layers_that_do_not_divide():
    with pytest.raises(ValueError, match="pp=2 .*n_layers=5"):
        split_pipeline(Transformer(ARGS.replace(n_layers=5)), 2, 0)


@pytest.mark.parametrize(
    ("layers", "names"), [(6, ["0", "12", "34", "5"]), (2, ["", "0", "1", ""]), (4, list("0123"))]
)
def test_the_ends_have_a_layer_fewer_where_that_divides(layers, names):
    model = Transformer(ARGS.replace(n_layers=layers))
    stages = [split_pipeline(model, 4, rank)[0] for rank in range(4)]
    assert ["".join(stage.layers) for stage in stages] == names
    stream = tokens = torch.arange(12).reshape(2, 6)
    for stage in stages:
        stream = stage(stream)
    assert torch.equal(stream, model(tokens))


def test_stages_are_the_model():
    model = Transformer(ARGS)
    model.init_weights(torch.Generator().manual_seed(0))
    tokens = torch.arange(12).reshape(2, 6)
    stages = [split_pipeline(model, 2, rank, virtual=2) for rank in range(2)]
    assert [list(stage.layers) for rank in stages for stage in rank] == [["0"], ["2"], ["1"], ["3"]]
    stream = tokens
    for stage in (stages[0][0], stages[1][0], stages[0][1], stages[1][1]):
        stream = stage(stream)
    assert torch.equal(stream, model(tokens))


def test_cutting_and_joining_a_sequence():
    whole = torch.arange(24).reshape(1, 24)
    parts = [cut_sequence(whole, rank, 3) for rank in range(3)]
    assert parts[0].tolist() == [[0, 1, 2, 3, 20, 21, 22, 23]]
    assert torch.equal(join_sequence(parts), whole)
    with pytest.raises(ValueError, match="sequence=24 .*2·cp=10"):
        cut_sequence(whole, 0, 5)


def test_every_rank_looks_at_as_many_keys():
    """The reason for pairing chunks: cut in a row, the last rank would have most of the work."""
    cp, length = 4, 64
    place = torch.arange(length)
    looks = [
        int(PlacesMask(cut_sequence(place, rank, cp, 0), place, None, length).mask.sum())
        for rank in range(cp)
    ]
    assert len(set(looks)) == 1 and sum(looks) == length * (length + 1) // 2
