"""Random-weight checkpoints of `transformers`: loaded, agreed with, and given back."""

import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from llama3lib.checkpoint import bundled_path, load_model, load_tokenizer, save_hf
from llama3lib.inference import SamplingParams, generate_tokens
from llama3lib.tokenizer import ChatFormat

SHAPE = dict(
    vocab_size=160,
    hidden_size=48,
    intermediate_size=96,
    num_hidden_layers=3,
    num_attention_heads=6,
    num_key_value_heads=2,
    max_position_embeddings=512,
    rms_norm_eps=1e-5,
    initializer_range=0.3,
)
SCALED = dict(
    rope_type="llama3",
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=64,
    rope_theta=500_000.0,
)
CASES = {
    "grouped": {},
    "one each": {"num_key_value_heads": 6},
    "one for all": {"num_key_value_heads": 1},
    "tied": {"tie_word_embeddings": True},
    "scaled": {"rope_parameters": SCALED},
    "scaled by 32, tied": {
        "rope_parameters": SCALED | {"factor": 32.0},
        "tie_word_embeddings": True,
    },
    "other head size": {"head_dim": 20},
}
TOKENS = torch.randint(160, (2, 200), generator=torch.Generator().manual_seed(1))


def theirs(changes, seed=0):
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(**(SHAPE | changes))).eval()


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("shard", ["10GB", "60KB"])
@torch.no_grad()
def test_load_agree_save_and_load_again(tmp_path, name, shard):
    foreign = theirs(CASES[name])
    foreign.save_pretrained(tmp_path / "theirs", max_shard_size=shard)
    ours = load_model(tmp_path / "theirs")
    truth = load_model(tmp_path / "theirs", dtype=torch.float64)(TOKENS)
    want, got = foreign(TOKENS).logits, ours(TOKENS)
    # float32 rounds both; neither may be much farther from float64 than the other
    rounding = (want.double() - truth).abs().max()
    assert (got.double() - truth).abs().max() <= 4 * rounding
    assert rounding < 1e-3 * truth.std()

    save_hf(ours, tmp_path / "ours", max_shard_bytes=60_000 if shard == "60KB" else 10**9)
    back = LlamaForCausalLM.from_pretrained(tmp_path / "ours").eval()
    assert torch.equal(back(TOKENS).logits, want)


@torch.no_grad()
def test_bfloat16_is_no_farther_from_the_truth_than_theirs(tmp_path):
    foreign = theirs({}).to(torch.bfloat16)
    foreign.save_pretrained(tmp_path)
    ours = load_model(tmp_path)
    assert ours.norm.weight.dtype == torch.bfloat16
    truth = load_model(tmp_path, dtype=torch.float64)(TOKENS)

    def error(logits):
        return (logits.double() - truth).pow(2).mean().sqrt()

    assert error(ours(TOKENS)) < 1.5 * error(foreign(TOKENS).logits)


def test_greedy_generation_is_theirs(tmp_path):
    foreign = theirs({"rope_parameters": SCALED})
    foreign.save_pretrained(tmp_path)
    ours = load_model(tmp_path)
    for row in range(2):
        prompt = TOKENS[row : row + 1, : 10 + row]
        want = foreign.generate(
            prompt,
            max_new_tokens=60,
            do_sample=False,
            attention_mask=torch.ones_like(prompt),
            eos_token_id=None,
            pad_token_id=0,
        )[0, prompt.shape[1] :].tolist()
        assert (
            list(generate_tokens(ours, prompt[0].tolist(), SamplingParams(max_tokens=60))) == want
        )


def test_tiny_base_opens_in_transformers_model_and_tokenizer(tmp_path):
    ours, tokenizer = load_model("tiny-base"), load_tokenizer("tiny-base")
    save_hf(ours, tmp_path / "m", tokenizer=tokenizer)
    foreign = LlamaForCausalLM.from_pretrained(tmp_path / "m").eval()
    words = AutoTokenizer.from_pretrained(tmp_path / "m")
    text = "One windy day Ada found three shells."
    ids = tokenizer.encode(text)
    assert words(text, add_special_tokens=False)["input_ids"] == ids
    assert words(text)["input_ids"] == tokenizer.encode(text, bos=True)
    bundled = AutoTokenizer.from_pretrained(bundled_path("tiny-base"))
    assert bundled(text)["input_ids"] == words(text)["input_ids"]
    assert words.decode(ids) == text
    tokens = torch.tensor([ids])
    with torch.no_grad():
        assert torch.allclose(foreign(tokens).logits, ours(tokens), atol=1e-4)
    assert words.convert_tokens_to_ids("<|eot_id|>") == tokenizer.eot_id
    assert ChatFormat(tokenizer).encode_header("user")[0] == words.convert_tokens_to_ids(
        "<|start_header_id|>"
    )
