"""Guessing ahead changes the speed, never the distribution."""

import pytest
import torch

from llama3lib.inference import SamplingParams, generate_tokens, sampling_probs
from llama3lib.inference.speculative import SpeculativeStats, speculative_tokens
from llama3lib.model import ModelArgs, Transformer

VOCAB = 7


def small_model(seed, layers=1, loud=25.0):
    args = ModelArgs(
        dim=16, n_layers=layers, n_heads=2, n_kv_heads=1, ffn_dim=32, vocab_size=VOCAB,
        max_seq_len=64,
    )  # fmt: skip
    model = Transformer(args)
    model.init_weights(torch.Generator().manual_seed(seed))
    model.output.weight.data.mul_(loud)
    return model.double().eval()


@pytest.fixture(scope="module")
def pair():
    return small_model(0, layers=2), small_model(1)


@pytest.mark.parametrize("num_drafts", [1, 2, 5, 40])
def test_greedy_text_is_the_targets_own(pair, num_drafts):
    target, draft = pair
    for length in (1, 3, 17):
        params = SamplingParams(max_tokens=30)
        prompt = [i % VOCAB for i in range(length)]
        want = list(generate_tokens(target, prompt, params))
        got = list(speculative_tokens(target, draft, prompt, params, num_drafts=num_drafts))
        assert got == want


def test_a_draft_that_is_the_target_is_always_right(pair):
    target, _ = pair
    twin = small_model(0, layers=2)
    for temperature in (0.0, 1.0):
        stats = SpeculativeStats()
        params = SamplingParams(max_tokens=41, temperature=temperature, seed=1)
        found = list(speculative_tokens(target, twin, [1, 2], params, num_drafts=4, stats=stats))
        assert len(found) == 41
        assert stats.acceptance == 1 and stats.tokens_per_round > 4


@pytest.mark.many_steps
@pytest.mark.parametrize("options", [{}, {"top_p": 0.8}, {"top_k": 3}, {"temperature": 1.7}])
def test_chi_square_against_the_targets_distribution(pair, options):
    """First three tokens together, 343 possible texts, against exact probabilities."""
    target, draft = pair
    params = SamplingParams(**({"temperature": 1.0, "max_tokens": 3} | options))
    exact = {(): 1.0}
    for _ in range(3):
        longer = {}
        for text, share in exact.items():
            with torch.no_grad():
                scores = target(torch.tensor([[3, *text]]))[0, -1]
            for token, p in enumerate(sampling_probs(scores, params).tolist()):
                if p > 0:
                    longer[(*text, token)] = share * p
        exact = longer
    runs = 800
    seen = dict.fromkeys(exact, 0)
    for seed in range(runs):
        dice = SamplingParams(**({"temperature": 1.0, "max_tokens": 3, "seed": seed} | options))
        seen[tuple(speculative_tokens(target, draft, [3], dice, num_drafts=2))] += 1
    # rare texts together, so that each cell expects five at least
    common = [text for text, share in exact.items() if share * runs >= 5]
    cells = [(seen[text], exact[text] * runs) for text in common]
    rest = runs - sum(want for _, want in cells)
    if rest > 5:
        cells.append((runs - sum(got for got, _ in cells), rest))
    chi = sum((got - want) ** 2 / want for got, want in cells)
    freedom = len(cells) - 1
    assert chi < freedom + 4 * (2 * freedom) ** 0.5  # four standard deviations


def test_stop_tokens_end_it(pair):
    target, draft = pair
    plain = list(generate_tokens(target, [1], SamplingParams(max_tokens=20)))
    params = SamplingParams(max_tokens=20, stop_token_ids=(plain[4],))
    want = list(generate_tokens(target, [1], params))
    assert list(speculative_tokens(target, draft, [1], params)) == want


def test_wrong_input_is_refused_before_anything_is_computed(pair):
    target, draft = pair
    for wrong in (0, 2.5):
        with pytest.raises(ValueError, match=f"num_drafts={wrong}"):
            speculative_tokens(target, draft, [1], SamplingParams(max_tokens=4), num_drafts=wrong)
    other = Transformer(draft.args.replace(vocab_size=9)).double()
    with pytest.raises(ValueError, match="vocabulary has 9"):
        speculative_tokens(target, other, [1], SamplingParams(max_tokens=4))
    with pytest.raises(ValueError, match="prompt_ids"):
        speculative_tokens(target, draft, [])


def test_everything_follows_the_models_to_their_device(pair):
    """What is made without saying where would land on the default device: here, nowhere."""
    target, draft = pair
    for temperature in (0.0, 1.0):
        params = SamplingParams(max_tokens=9, temperature=temperature, seed=1)
        want = list(speculative_tokens(target, draft, [1, 2], params))
        with torch.device("meta"):
            assert list(speculative_tokens(target, draft, [1, 2], params)) == want
