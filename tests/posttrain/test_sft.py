"""Fine-tuning by the trainer: the loss is that of each dialog alone, and a run is resumable."""

import json

import pytest
import torch
from train_tools import drawn_model, same, weights
from transformers import LlamaForCausalLM

from llama3lib.checkpoint import save_hf
from llama3lib.data.loader import StatefulDataLoader
from llama3lib.model import ModelArgs
from llama3lib.parallel import parallelize
from llama3lib.posttrain.collate import collate, encode_dialogs
from llama3lib.posttrain.dialogs import read_dialogs
from llama3lib.posttrain.sft import (
    DIALOGS,
    SftConfig,
    make_evaluation,
    make_recipe,
    open_shards,
    prepare,
    write_shards,
)
from llama3lib.tokenizer import ChatFormat, Tokenizer
from llama3lib.train import Trainer
from llama3lib.train.step import backward
from llama3lib.worlds.annotator import demonstrations

ARGS = ModelArgs(
    dim=16, n_layers=2, n_heads=2, n_kv_heads=1, ffn_dim=32, vocab_size=256, max_seq_len=96
)
LENGTH = 80


@pytest.fixture(scope="module")
def chat():
    return ChatFormat(Tokenizer.of_bytes())


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Dialogs of one and of two turns, and one row that is none."""
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    turns = [
        [{"role": "user", "content": t.prompt}, {"role": "assistant", "content": said}]
        for t, said in demonstrations(90, 0)
    ]
    rows = [{"messages": one} for one in turns[:60]]
    rows += [{"messages": one + two} for one, two in zip(turns[60:75], turns[75:], strict=True)]
    lines = [*map(json.dumps, rows), '{"messages": []}']
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def config_of(**more):
    given = {"lr": 3e-3, "steps": 8, "batch_size": 3, "length": LENGTH, "device": "cpu"}
    return SftConfig(**(given | {"save_every": 3, "evaluate_every": 4} | more))


def trainer_of(folder, file, chat, config=None, **more):
    config = config or config_of()
    data = prepare(file, chat, LENGTH, config)
    write_shards(data, folder / "data", chat)
    shards = open_shards(folder / "data")
    recipe = make_recipe(config, ARGS, "bytes", folder / "data", data.windows(LENGTH))
    evaluate = make_evaluation(shards, LENGTH)
    return Trainer(recipe, shards, folder, evaluate=evaluate, model=drawn_model(ARGS), **more)


def test_every_row_is_accounted_for(file, chat):
    data = prepare(file, chat, LENGTH, config_of())
    assert data.rows.rows == 76 and data.rows.reasons == {"no messages": 1}
    assert len(data.train) + len(data.held_out) == 75 and len(data.held_out) > 2
    assert data.cut.dialogs + data.cut_held_out.dialogs == 75
    text = "\n".join(data.lines())
    assert "76 rows, 1 of them not used" in text and "rows.jsonl:76: no messages" in text


def test_loss_and_gradient_are_those_of_each_dialog_alone(file, chat, tmp_path):
    """transformers in float64, one dialog a row, against our packed windows in float32."""
    data = prepare(file, chat, LENGTH, config_of(held_out=0.0))
    write_shards(data, tmp_path / "data", chat)
    shard = open_shards(tmp_path / "data")[DIALOGS]
    windows = data.windows(LENGTH)
    batch = StatefulDataLoader({"s": shard}, batch_size=windows, length=LENGTH).next()
    model = drawn_model(ARGS)
    loss, targets = backward(parallelize(model), batch, micro_batch=2)
    save_hf(model, tmp_path / "hf")
    theirs = LlamaForCausalLM.from_pretrained(tmp_path / "hf", dtype=torch.float64)
    rows = collate(encode_dialogs(read_dialogs(file), chat, LENGTH), pad_id=0)
    logits = theirs(rows.ids, attention_mask=rows.attended.long()).logits
    want = torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows.targets.flatten())
    want.backward()
    assert targets == int((rows.targets != -100).sum())
    assert float(loss) == pytest.approx(want.item(), rel=1e-6)
    ours, hf = dict(model.named_parameters()), dict(theirs.named_parameters())
    pairs = {
        "tok_embeddings.weight": "model.embed_tokens.weight",
        "output.weight": "lm_head.weight",
        "layers.1.feed_forward.w2.weight": "model.layers.1.mlp.down_proj.weight",
        "layers.0.attention.wo.weight": "model.layers.0.self_attn.o_proj.weight",
    }
    for name, other in pairs.items():
        torch.testing.assert_close(ours[name].grad.double(), hf[other].grad, rtol=1e-4, atol=1e-7)


def test_what_is_not_asked_for_has_no_gradient_at_all(file, chat, tmp_path):
    trainer = trainer_of(tmp_path / "run", file, chat)
    batch, kept = trainer.loader.next(), []

    def keep(module, args, out):
        out.retain_grad()
        kept.append(out)

    trainer.model.output.register_forward_hook(keep)
    backward(trainer.parallel, batch)
    gradient = kept[0].grad
    asked = batch.targets != -100
    assert bool((gradient[~asked] == 0).all()) and bool((gradient[asked] != 0).any(-1).all())


def test_fine_tuning_lowers_the_held_out_loss(file, chat, tmp_path):
    trainer = trainer_of(tmp_path / "run", file, chat, config_of(steps=30, evaluate_every=30))
    trainer.measure()
    before = trainer.evaluation["held_out_loss"]
    trainer.fit()
    assert trainer.evaluation["held_out_loss"] < before - 0.5


@pytest.mark.parametrize(
    ("step", "place"), [(5, "before_step"), (6, "after_step"), (8, "after_step")]
)
def test_a_run_that_is_cut_short_ends_with_the_same_bits(file, chat, tmp_path, step, place):
    whole = trainer_of(tmp_path / "whole", file, chat)
    whole.fit()
    seen = []

    def probe(name):
        seen.append(name)
        if seen.count("before_step") == step and name == place:
            raise MemoryError

    cut = trainer_of(tmp_path / "cut", file, chat, probe=probe)
    with pytest.raises(MemoryError):
        cut.fit()
    cut.checkpoints.wait()
    again = trainer_of(tmp_path / "cut", file, chat)
    assert 0 < again.state.place.step < 8
    again.fit()
    assert same(weights(whole.model), weights(again.model))


def test_other_dialogs_are_not_gone_on_with(file, chat, tmp_path):
    trainer_of(tmp_path / "run", file, chat).fit()
    other = tmp_path / "other.jsonl"
    rows = file.read_text(encoding="utf-8").splitlines()
    other.write_text("\n".join(rows[5:-1]) + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match="not those the run was begun with"):
        trainer_of(tmp_path / "run", other, chat)


def test_too_many_dialogs_that_cannot_be_used_are_refused(file, chat):
    with pytest.raises(ValueError, match=r"dialogs cannot be used, which is more than most_bad=5"):
        prepare(file, chat, 20, config_of(length=20))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"lr": 0}, "lr=0"),
        ({"length": 1}, "length=1"),
        ({"held_out": 1.0}, "held_out=1.0"),
        ({"most_bad": 2}, "most_bad=2"),
        ({"steps": 0}, "steps=0"),
        ({"epochs": float("nan")}, "epochs=nan"),
    ],
)
def test_settings_that_are_wrong_are_named(wrong, said):
    with pytest.raises(ValueError, match=said):
        config_of(**wrong)


def test_a_window_longer_than_the_context_is_refused():
    with pytest.raises(ValueError, match="length=200.*context of 96"):
        config_of(length=200).window(ARGS)
    assert config_of(length=None).window(ARGS) == 96
