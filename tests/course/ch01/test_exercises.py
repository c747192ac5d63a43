"""The checkers of chapter 01: two different right answers pass, wrong ones are told why."""

import pytest
import torch
from exercise_tools import in_place_of, load_answers

from llama3lib.model import ModelArgs, RopeScaling, Transformer
from widgets.ch01.exercises import CHECKS, HINTS
from widgets.ch01.exercises.attention import largest_tensor
from widgets.ch01.exercises.convert import foreign_config
from widgets.core.judge import Mistake

A = load_answers("01")

RIGHT = {
    "01.1": [
        {"rms_norm": A.rms_plain, "flattened": A.flat_ramp},
        {"rms_norm": A.rms_rsqrt, "flattened": A.flat_wave},
    ],
    "01.2": [
        {"count": A.count_formula, "is_tied": A.tied_by_count},
        {"count": A.count_list, "is_tied": A.tied_by_remainder},
    ],
    "01.3": [
        {
            "rotate_neighbours": A.turn_neighbours,
            "rotate_halves": A.turn_halves,
            "halves_order": A.order_lists,
        },
        {
            "rotate_neighbours": A.turn_complex,
            "rotate_halves": A.turn_halves_half,
            "halves_order": A.order_tensor,
        },
    ],
    "01.4": [A.gqa_einsum, A.gqa_loop],
    "01.5": [
        {"document_mask": A.mask_and, "pack": A.pack_lists, "targets": A.targets_where},
        {"document_mask": A.mask_loops, "pack": A.pack_fill, "targets": A.targets_loop},
    ],
    "01.6": [
        {"from_foreign": A.from_table, "to_foreign": A.to_table},
        {"from_foreign": A.from_rename, "to_foreign": A.to_with_copy},
    ],
}

WRONG = {
    ("01.1", "rms_norm"): A.RMS_WRONG,
    ("01.1", "flattened"): A.FLAT_WRONG,
    ("01.2", "count"): A.COUNT_WRONG,
    ("01.2", "is_tied"): A.TIED_WRONG,
    ("01.3", "rotate_neighbours"): A.NEIGHBOURS_WRONG,
    ("01.3", "rotate_halves"): A.HALVES_WRONG,
    ("01.3", "halves_order"): A.ORDER_WRONG,
    ("01.4", None): A.GQA_WRONG,
    ("01.5", "document_mask"): A.MASK_WRONG,
    ("01.5", "pack"): A.PACK_WRONG,
    ("01.5", "targets"): A.TARGETS_WRONG,
    ("01.6", "from_foreign"): A.FROM_WRONG,
    ("01.6", "to_foreign"): A.TO_WRONG,
}
PLANTED = [
    pytest.param(exercise, part, name, wrong, id=f"{exercise}-{name}")
    for (exercise, part), answers in WRONG.items()
    for name, wrong in answers.items()
]


@pytest.mark.parametrize("exercise", CHECKS)
@pytest.mark.parametrize("which", [0, 1])
def test_two_different_right_answers_pass(exercise, which):
    CHECKS[exercise](RIGHT[exercise][which])


@pytest.mark.parametrize(("exercise", "part", "name", "wrong"), PLANTED)
def test_a_wrong_answer_is_told_its_mistake(exercise, part, name, wrong):
    answer = wrong if part is None else {**RIGHT[exercise][0], part: wrong}
    with pytest.raises(Mistake) as caught:
        CHECKS[exercise](answer)
    assert caught.value.name == name
    assert caught.value.shows, "the smallest failing input is missing"


@pytest.mark.parametrize("exercise", CHECKS)
def test_each_exercise_knows_at_least_three_mistakes_and_three_hints(exercise):
    assert sum(len(names) for (number, _), names in WRONG.items() if number == exercise) >= 3
    assert len(HINTS[exercise]) == 3
    assert len(set(HINTS[exercise])) == 3


@pytest.mark.parametrize("exercise", CHECKS)
def test_a_stub_counts_as_not_tried(exercise):
    def stub(*_):
        raise NotImplementedError

    right = RIGHT[exercise][0]
    with pytest.raises(NotImplementedError):
        CHECKS[exercise](in_place_of(right, stub))


@pytest.mark.parametrize("exercise", CHECKS)
def test_an_answer_that_crashes_is_reported_not_raised(exercise):
    def crash(*_):
        raise ZeroDivisionError("oh")

    right = RIGHT[exercise][0]
    with pytest.raises(Mistake, match="your code stopped"):
        CHECKS[exercise](in_place_of(right, crash))


def test_a_message_never_shows_the_right_result():
    """A wrong sum is told apart without printing what it should have been."""
    answer = {**RIGHT["01.2"][0], "count": lambda args: 7}
    with pytest.raises(Mistake) as caught:
        CHECKS["01.2"](answer)
    assert "Yours gives 7" in str(caught.value)
    smallest = ModelArgs(dim=4, n_layers=1, n_heads=2, n_kv_heads=2, ffn_dim=6, vocab_size=10)
    assert str(A.count_formula(smallest)) not in str(caught.value)


def test_an_answer_that_writes_into_its_input_is_found():
    def in_place(x, weight, eps):
        out = A.rms_plain(x, weight, eps)
        x.copy_(out)
        return out

    with pytest.raises(Mistake) as caught:
        CHECKS["01.1"]({**RIGHT["01.1"][0], "rms_norm": in_place})
    assert caught.value.name == "the input is overwritten"


@pytest.mark.parametrize("how", A.GQA_COPIES)
def test_hidden_copies_of_the_keys_are_found(how):
    """repeat_interleave copies openly; a broadcast product copies inside matmul."""
    q, k = torch.randn(1, 1, 8, 16), torch.randn(1, 64, 2, 16)
    elements, _ = largest_tensor(A.GQA_COPIES[how], q, k, k.clone())
    assert elements >= 4 * k.numel()
    with pytest.raises(Mistake, match="the keys are copied"):
        CHECKS["01.4"](A.GQA_COPIES[how])


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
