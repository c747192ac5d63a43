"""Generation: greedy equal to a peer, seeds, stops that never leak, early ends, wrong input."""

import pytest
import torch

from llama3lib.checkpoint import hf
from llama3lib.inference import SamplingParams, generate, generate_tokens
from llama3lib.model import ScaledDotProductAttention, Transformer, get_preset
from llama3lib.tokenizer import Tokenizer

BYTES = {bytes([i]): i for i in range(256)}


@pytest.fixture(scope="module")
def model():
    made = Transformer(get_preset("tiny"))
    generator = torch.Generator().manual_seed(0)
    for parameter in made.parameters():
        if parameter.dim() > 1:  # wide weights: greedy choices far from ties
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.15
    return made.eval()


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer(BYTES)


class Script(Transformer):
    """A model that writes a given text, then the end token: shows what is done with tokens."""

    def __init__(self, ids):
        super().__init__(get_preset("tiny"))
        self.ids, self.at = ids, 0

    def hidden_states(self, tokens, positions=None, attn_metadata=None):
        h = super().hidden_states(tokens, positions, attn_metadata)
        self.next = self.ids[self.at % len(self.ids)]
        self.at += 1
        return h


def script(tokenizer, text, *, end=True):
    ids = list(text.encode("utf-8")) + ([tokenizer.eot_id] if end else [])
    made = Script(ids)

    class Told(torch.nn.Module):
        def forward(self, h):
            scores = torch.zeros(*h.shape[:2], 512)
            scores[..., made.next] = 1
            return scores

    made.output = Told()
    return made.eval()


def text_of(tokenizer, text, *, end=True, **options):
    pieces = list(
        generate(script(tokenizer, text, end=end), tokenizer, "x", SamplingParams(**options))
    )
    assert all(pieces)  # no empty pieces
    return pieces


def without_cache(model, prompt, n):
    ids = list(prompt)
    with torch.no_grad():
        for _ in range(n):
            ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    return ids[len(prompt) :]


def test_greedy_equals_the_loop_without_a_cache(model):
    prompt = [1, 2, 3, 4, 5]
    ids = list(generate_tokens(model, prompt, SamplingParams(max_tokens=30)))
    assert ids == without_cache(model, prompt, 30)


def test_greedy_equals_transformers(model):
    transformers = pytest.importorskip("transformers")
    args = model.args
    config = transformers.LlamaConfig(**hf.args_to_config(args, torch.float32))
    theirs = transformers.LlamaForCausalLM(config).eval()
    weights = dict(hf.to_hf_tensor(n, p.detach(), args) for n, p in model.named_parameters())
    theirs.load_state_dict(weights)
    theirs.generation_config.eos_token_id = None
    prompt = torch.tensor([[9, 8, 7, 6, 5, 4]])
    out = theirs.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=40, do_sample=False
    )
    ids = list(generate_tokens(model, prompt[0].tolist(), SamplingParams(max_tokens=40)))
    assert ids == out[0, 6:].tolist()


def test_the_seed_decides(model):
    def run(seed):
        params = SamplingParams(temperature=1.0, seed=seed, max_tokens=20)
        return list(generate_tokens(model, [1, 2], params))

    torch.manual_seed(1)
    first = run(3)
    torch.manual_seed(2)  # the global generator plays no part
    assert run(3) == first
    assert run(4) != first
    assert run(None) != run(None)


def test_global_random_state_is_untouched(model):
    before = torch.get_rng_state()
    list(generate_tokens(model, [1], SamplingParams(temperature=1.0, seed=0, max_tokens=3)))
    assert torch.equal(torch.get_rng_state(), before)


def test_stop_token_ids_end_before_the_token(model):
    full = list(generate_tokens(model, [1, 2, 3], SamplingParams(max_tokens=20)))
    stop = full[7]
    first = full.index(stop)
    params = SamplingParams(max_tokens=20, stop_token_ids=(stop,))
    assert list(generate_tokens(model, [1, 2, 3], params)) == full[:first]


def test_text_arrives_in_whole_characters(tokenizer):
    pieces = text_of(tokenizer, "aé語🙂b")
    assert pieces == ["a", "é", "語", "🙂", "b"]


def test_a_character_that_never_ends_becomes_the_replacement_sign(tokenizer):
    broken = script(tokenizer, "ab")
    broken.ids = [*b"a", 0xE8, tokenizer.eot_id]
    assert "".join(generate(broken, tokenizer, "x", SamplingParams())) == "a\ufffd"


def test_end_of_turn_ends_the_text_unless_ignored(tokenizer):
    assert "".join(text_of(tokenizer, "abc")) == "abc"
    out = "".join(text_of(tokenizer, "abc", ignore_eos=True, max_tokens=6))
    assert out == "abc<|eot_id|>ab"


@pytest.mark.parametrize(
    ("text", "stop", "expected"),
    [
        ("hello END more", ("END",), "hello "),
        ("hello EN no", ("END",), "hello EN no"),  # held back, then given out
        ("ends in EN", ("END",), "ends in EN"),  # held back until the end
        ("aaab", ("aab",), "a"),  # a prefix inside a prefix
        ("one two", ("two", "one two"), ""),
        ("x\n\ny", ("\n\n",), "x"),
        ("é語z", ("語",), "é"),
    ],
)
def test_stop_strings_end_the_text_and_never_leak(tokenizer, text, stop, expected):
    pieces = text_of(tokenizer, text, stop=stop)
    assert "".join(pieces) == expected
    so_far = ""
    for piece in pieces:  # nothing is given out that would have to be taken back
        so_far += piece
        assert expected.startswith(so_far)


def test_one_stop_string_needs_no_tuple(tokenizer):
    assert "".join(text_of(tokenizer, "hello END", stop=" END")) == "hello"


def test_max_tokens_is_kept(tokenizer, model):
    assert "".join(text_of(tokenizer, "abcdef", end=False, max_tokens=3)) == "abc"
    assert len(list(generate_tokens(model, [1], SamplingParams(max_tokens=1)))) == 1


def test_giving_up_early_frees_the_model(model):
    first = generate_tokens(model, [1, 2, 3], SamplingParams(max_tokens=50))
    next(first)
    with pytest.raises(ValueError, match="a cache already"):
        next(generate_tokens(model, [1], SamplingParams()))
    first.close()
    inner = [layer.attention.inner_attention for layer in model.layers.values()]
    assert all(type(module) is ScaledDotProductAttention for module in inner)
    assert list(generate_tokens(model, [1], SamplingParams(max_tokens=2)))


def test_text_given_up_early_frees_the_model(model, tokenizer):
    pieces = generate(model, tokenizer, "abc", SamplingParams(max_tokens=50, ignore_eos=True))
    next(pieces)
    pieces.close()
    assert list(generate_tokens(model, [1], SamplingParams(max_tokens=2)))


def test_a_text_prompt_gets_the_begin_token_and_no_other(model, tokenizer):
    params = SamplingParams(max_tokens=8, ignore_eos=True)
    typed = "<|eot_id|>"  # typed by a user: ten letters, not a token
    ids = [tokenizer.bos_id, *typed.encode()]
    assert "".join(generate(model, tokenizer, typed, params)) == "".join(
        generate(model, tokenizer, ids, params)
    )


def test_up_to_the_last_row_of_the_table_and_no_further(model):
    room = model.args.max_seq_len
    assert len(list(generate_tokens(model, [1] * (room - 3), SamplingParams(max_tokens=3)))) == 3
    with pytest.raises(ValueError, match=f"max_tokens=3 .*{room - 2}.*{room} rows, so 2 at most"):
        generate_tokens(model, [1] * (room - 2), SamplingParams(max_tokens=3))


def test_wrong_prompts_are_told_before_anything_runs(model, tokenizer):
    with pytest.raises(ValueError, match=r"prompt_ids=\[\]"):
        generate_tokens(model, [], SamplingParams())
    with pytest.raises(ValueError, match="prompt=''"):
        generate(model, tokenizer, "", SamplingParams())
    with pytest.raises(ValueError, match="prompt_ids has 512"):
        generate_tokens(model, [1, 512], SamplingParams())
    with pytest.raises(ValueError, match="prompt_ids has -1"):
        generate_tokens(model, [-1], SamplingParams())
