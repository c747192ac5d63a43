"""The adapter to lm-eval: windows by hand, our own numbers, and lm-eval's own model class."""

import sys

import pytest
import torch

from llama3lib.checkpoint import load_model, load_tokenizer, save_hf
from llama3lib.eval import MultipleChoice, lm_eval_model, score_choices
from llama3lib.eval.harness import _Bridge
from llama3lib.inference import SamplingParams, generate
from llama3lib.model import Transformer

TEXTS = [
    ("One windy day Ada found three", " shells"),
    ("One windy day Ada found three", " drums in the barn, and then a fox"),
    ("Ben was in the garden. ", "The end."),
    ("", "Omar had a red kite."),
    ("A line.\n", "Another"),
    ("word " * 700, "the end"),  # loses its beginning
]


@pytest.fixture(scope="module")
def model():
    """Random weights, wide enough that sums are not all alike."""
    made = Transformer(load_model("tiny-base").args)
    generator = torch.Generator().manual_seed(0)
    for parameter in made.parameters():
        if parameter.dim() > 1:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.08
    return made.eval()


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer("tiny-base")


def instances(kind, arguments):
    from lm_eval.api.instance import Instance

    return [Instance(kind, {}, args, i) for i, args in enumerate(arguments)]


def writer(model, tokenizer, seen=None):
    def write(prompt_ids, *, max_tokens, stop, temperature, top_p):
        if seen is not None:
            seen.append((len(prompt_ids), max_tokens, stop, temperature, top_p))
        params = SamplingParams(
            max_tokens=max_tokens, stop=stop, temperature=temperature, top_p=top_p
        )
        return "".join(generate(model, tokenizer, prompt_ids, params))

    return write


@pytest.mark.parametrize("n", [0, 1, 511, 512, 513, 1023, 1024, 1025, 1300])
def test_windows_ask_for_each_token_once(model, tokenizer, n, monkeypatch):
    bridge = _Bridge(model, tokenizer)
    ids = list(range(n))
    monkeypatch.setattr(tokenizer, "encode", lambda text: ids)
    windows = bridge._windows("")
    assert [token for _, asked in windows for token in asked] == ids
    before = [tokenizer.bos_id, *ids]
    for i, (context, asked) in enumerate(windows):
        assert 1 <= len(asked) and len(context) + len(asked) - 1 <= 512
        end = asked[-1] + 2
        assert context + asked == before[end - len(context) - len(asked) : end]
        assert i == 0 or len(context) + len(asked) - 1 == 512  # as much context as fits


def test_without_lm_eval_it_is_said_how_to_get_it(model, tokenizer, monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval.api.model", None)
    with pytest.raises(ImportError, match="pip install lm-eval"):
        lm_eval_model(model, tokenizer)


@pytest.mark.parametrize("field", ["batch_size", "max_new_tokens"])
def test_sizes_are_checked_before_anything_is_imported(model, tokenizer, field):
    with pytest.raises(ValueError, match=f"{field}=0 is not allowed"):
        lm_eval_model(model, tokenizer, **{field: 0})


def lm_evals_own(model, tokenizer, folder, **options):
    """lm-eval's own model over transformers, reading our exported folder."""
    pytest.importorskip("lm_eval")
    transformers = pytest.importorskip("transformers")
    from lm_eval.models.huggingface import HFLM

    save_hf(model, folder, tokenizer=tokenizer)
    theirs = transformers.LlamaForCausalLM.from_pretrained(folder).eval()
    words = transformers.AutoTokenizer.from_pretrained(folder)
    given = {"batch_size": 3, "device": "cpu", "max_length": 512} | options
    return HFLM(pretrained=theirs, tokenizer=words, **given)


@pytest.fixture(scope="module")
def peer(model, tokenizer, tmp_path_factory):
    return lm_evals_own(model, tokenizer, tmp_path_factory.mktemp("hf") / "m")


def test_log_likelihoods_are_those_of_lm_evals_own_model(model, tokenizer, peer):
    ours = lm_eval_model(model, tokenizer, batch_size=4)
    requests = instances("loglikelihood", TEXTS)
    got, want = (lm.loglikelihood(requests, disable_tqdm=True) for lm in (ours, peer))
    for (sum_, greedy), (their_sum, their_greedy) in zip(got, want, strict=True):
        assert sum_ == pytest.approx(their_sum, abs=1e-4)
        assert greedy == their_greedy


@pytest.mark.parametrize("repeats", [1, 40, 160])
def test_rolling_log_likelihoods_are_those_of_lm_evals_own_model(
    model, tokenizer, tmp_path, repeats
):
    # by itself theirs also scores the begin-of-text that it puts behind the first one
    peer = lm_evals_own(model, tokenizer, tmp_path / "m", add_bos_token=False)
    text = "Ada went to the mill. The 語 was red. " * repeats
    ours = lm_eval_model(model, tokenizer)
    requests = instances("loglikelihood_rolling", [(text,), ("short",)])
    got, want = (lm.loglikelihood_rolling(requests, disable_tqdm=True) for lm in (ours, peer))
    assert got == pytest.approx(want, rel=1e-6, abs=1e-4)


def test_generation_is_that_of_lm_evals_own_model(tokenizer, tmp_path):
    trained = load_model(
        "tiny-base"
    )  # never writes special tokens, of which lm-eval drops the names
    peer = lm_evals_own(trained, tokenizer, tmp_path / "m")
    wishes = {"until": [" the"], "max_gen_toks": 12, "do_sample": False}
    texts = [text for text, _ in TEXTS if text]
    requests = instances("generate_until", [(text, dict(wishes)) for text in texts])
    ours = lm_eval_model(trained, tokenizer, writer(trained, tokenizer))
    want = [peer.generate_until([request], disable_tqdm=True)[0] for request in requests]
    assert ours.generate_until(requests, disable_tqdm=True) == want
    assert len(set(want)) > 2


def test_what_a_task_wishes_reaches_the_writer(model, tokenizer):
    pytest.importorskip("lm_eval")
    seen = []
    ours = lm_eval_model(model, tokenizer, writer(model, tokenizer, seen), max_new_tokens=5)
    wishes = [
        {"until": "x"},
        {"until": ["x", ""], "max_gen_toks": 3, "temperature": 0.7, "do_sample": True},
        {"temperature": 0.7, "do_sample": False, "top_p": 0.5},
    ]
    ours.generate_until(instances("generate_until", [("word " * 700, w) for w in wishes]))
    assert seen == [(507, 5, ("x",), 0, 1), (509, 3, ("x",), 0.7, 1), (507, 5, (), 0, 0.5)]
    with pytest.raises(ValueError, match="max_gen_toks=512 is not allowed: below max_seq_len=512"):
        ours.generate_until(instances("generate_until", [("a", {"max_gen_toks": 512})]))
    with pytest.raises(ValueError, match="a continuation of 1000 tokens is not allowed"):
        ours.loglikelihood(instances("loglikelihood", [("a", "\n1" * 500)]), disable_tqdm=True)
    with pytest.raises(ValueError, match="generate=None is not allowed"):
        lm_eval_model(model, tokenizer).generate_until([])


def test_a_whole_task_gives_our_own_numbers(model, tokenizer):
    lm_eval = pytest.importorskip("lm_eval")
    datasets = pytest.importorskip("datasets")
    from lm_eval.api.task import ConfigurableTask

    things = ["shells", "a fox", "the red kite", "mill"]
    rows = [
        {"question": f"Ada had {n} apples. Then she saw", "choices": things, "answer": n % 4}
        for n in range(30)
    ]
    config = {
        "task": "tiny",
        "custom_dataset": lambda **kwargs: {"test": datasets.Dataset.from_list(rows)},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "question",
        "doc_to_choice": "choices",
        "doc_to_target": "answer",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    }
    out = lm_eval.simple_evaluate(
        model=lm_eval_model(model, tokenizer),
        tasks=[ConfigurableTask(config=config)],
        bootstrap_iters=0,
    )
    items = [
        MultipleChoice(prompt=r["question"], choices=[f" {c}" for c in things], answer=r["answer"])
        for r in rows
    ]
    for metric, normalise in (("acc", "none"), ("acc_norm", "bytes")):
        want = score_choices(model, tokenizer, items, normalise=normalise).accuracy
        assert out["results"]["tiny"][f"{metric},none"] == pytest.approx(want)
