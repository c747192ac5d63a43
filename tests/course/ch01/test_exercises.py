"""What the exercises of chapter 01 hold to be right; their mistakes: `test_all_exercises.py`."""

import pytest
import torch
from exercise_tools import load_answers

from llama3lib.model import ModelArgs, RopeScaling, Transformer
from widgets.ch01.exercises.e3_grouped_attention import E as GROUPED
from widgets.ch01.exercises.e3_grouped_attention import largest_tensor
from widgets.ch01.exercises.e6_convert import foreign_config
from widgets.core.check import find_exercise
from widgets.core.judge import Mistake

A = load_answers("01")


def test_a_message_never_shows_the_right_result():
    """A wrong sum is told apart without printing what it should have been."""
    answer = {**A.RIGHT["01.5"][0], "count": lambda args: 7}
    with pytest.raises(Mistake) as caught:
        find_exercise("01.5").check(answer)
    assert "Yours gives 7" in str(caught.value)
    smallest = ModelArgs(dim=4, n_layers=1, n_heads=2, n_kv_heads=2, ffn_dim=6, vocab_size=10)
    assert str(A.count_formula(smallest)) not in str(caught.value)


@pytest.mark.parametrize("how", A.GQA_COPIES)
def test_hidden_copies_of_the_keys_are_found(how):
    """repeat_interleave copies openly; a broadcast product copies inside matmul."""
    q, k = torch.randn(1, 1, 8, 16), torch.randn(1, 64, 2, 16)
    elements, _ = largest_tensor(A.GQA_COPIES[how], q, k, k.clone())
    assert elements >= 4 * k.numel()
    with pytest.raises(Mistake, match="the keys are copied"):
        GROUPED.check(A.GQA_COPIES[how])


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("scaled", [False, True])
def test_the_moonshot_holds_against_an_independent_implementation(tied, scaled):
    """The answer converts what `transformers` itself made, and the logits are the same."""
    transformers = pytest.importorskip("transformers")
    scaling = RopeScaling(original_max_seq_len=16) if scaled else None
    args = ModelArgs(
        dim=24, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=8, ffn_dim=40, vocab_size=50,
        max_seq_len=64, rope_theta=10_000.0, rope_scaling=scaling, tie_embeddings=tied,
    )  # fmt: skip
    config = foreign_config(args)
    torch.manual_seed(8)
    peer = transformers.LlamaForCausalLM(transformers.LlamaConfig(**config)).eval()
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter.normal_(0, 0.3)
    tensors = dict(peer.state_dict())
    if tied:
        tensors.pop("lm_head.weight", None)
    converted, state = A.from_table(config, tensors)
    model = Transformer(converted).eval()
    model.load_state_dict(state, strict=True)
    tokens = torch.randint(0, 50, (2, 40))
    with torch.no_grad():
        assert torch.allclose(model(tokens), peer(tokens).logits, atol=1e-4, rtol=1e-4)
