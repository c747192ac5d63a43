"""What each rank of an engine holds: even parts, all of the model together."""

import itertools

import pytest
import torch

from llama3lib.inference.shares import Share, split_layers
from llama3lib.model import ModelArgs, Transformer, get_preset

ARGS = ModelArgs(
    dim=32, n_layers=7, n_heads=8, n_kv_heads=4, ffn_dim=64, vocab_size=96, max_seq_len=32
)


def cost_of(stages, args):
    """What the largest stage has to read, in parameters."""
    layer = args.dim * (2 * (args.n_heads + args.n_kv_heads) * args.head_dim + 3 * args.ffn_dim)
    costs = [len(stage) * layer for stage in stages]
    costs[-1] += args.vocab_size * args.dim
    return max(costs)


@pytest.mark.parametrize("vocab_size", [8, 96, 300, 2000])
@pytest.mark.parametrize("num_stages", [1, 2, 3, 4, 7])
def test_no_other_cut_has_a_smaller_largest_stage(num_stages, vocab_size):
    args = ARGS.replace(vocab_size=vocab_size)
    stages = split_layers(args, num_stages)
    assert [i for stage in stages for i in stage] == list(range(7))
    best = min(
        cost_of([range(*pair) for pair in itertools.pairwise((0, *cuts, 7))], args)
        for cuts in itertools.combinations(range(1, 7), num_stages - 1)
    )
    assert cost_of(stages, args) == best


def test_the_large_models_are_cut_nearly_in_halves():
    assert [len(stage) for stage in split_layers(get_preset("405B"), 2)] == [63, 63]
    assert [len(stage) for stage in split_layers(get_preset("8B"), 2)] == [17, 15]


@pytest.mark.parametrize(("tp", "pp"), [(1, 1), (2, 1), (4, 1), (1, 3), (2, 2)])
def test_all_shares_together_are_the_model(tp, pp):
    """Each matrix once, whatever is held twice: the embedding, norms."""
    whole = Transformer(ARGS)
    whole.init_weights(torch.Generator().manual_seed(0))
    held: dict[str, list[torch.Tensor]] = {}
    for rank in range(tp * pp):
        share, model = Share(tp, pp, rank), Transformer(ARGS)
        model.load_state_dict(whole.state_dict())
        part = share.cut(model)
        assert (part.tok_embeddings is not None) == (share.stage == 0)
        assert (part.output is not None) == (share.stage == pp - 1) == (rank < tp)
        assert part.args.n_heads == 8 // tp and part.args.head_dim == ARGS.head_dim
        for name, tensor in part.named_parameters():
            held.setdefault(name, []).append(tensor)
            own = dict(share.parts(name, dict(whole.named_parameters())[name], tied=False))
            assert torch.equal(own[name], tensor)
    for name, tensor in whole.named_parameters():
        found = held[name]
        if len(found) > 1 and found[0].shape != tensor.shape:
            wide = found[0].shape[1] != tensor.shape[1]
            assert torch.equal(torch.cat(found, 1 if wide else 0), tensor)
        else:
            assert all(torch.equal(one, tensor) for one in found)


@pytest.mark.parametrize(
    ("tp", "pp", "rank", "said"),
    [(0, 1, 0, "tp=0"), (1, 2.0, 0, "pp=2.0"), (2, 2, 4, "rank=4 is not allowed: 0 to 3")],
)
def test_wrong_shares_are_refused(tp, pp, rank, said):
    with pytest.raises(ValueError, match=said):
        Share(tp, pp, rank)
