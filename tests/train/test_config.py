import dataclasses

import pytest

from llama3lib.train.config import (
    OptimizerConfig,
    Phase,
    SourceConfig,
    TrainConfig,
    load_config,
    make_config,
    recipe_names,
)
from llama3lib.train.plan import has_hardware, make_plan
from llama3lib.train.schedule import planned_rates

TABLE = {
    "model": {
        "dim": 16,
        "n_layers": 1,
        "n_heads": 2,
        "n_kv_heads": 1,
        "ffn_dim": 32,
        "vocab_size": 256,
        "max_seq_len": 32,
    },
    "data": {"a": {"stories": 10}, "b": {"stories": 5, "seed": 3}},
    "phases": [
        {"name": "one", "steps": 10, "batch_size": 2, "length": 16, "mix": {"a": 1.0}},
        {"name": "two", "steps": 5, "batch_size": 4, "length": 16},
    ],
    "optimizer": {"warmup": 4},
}


def with_change(**changes):
    return {**TABLE, **changes}


def test_a_whole_recipe():
    config = make_config(TABLE)
    assert config.total_steps == 15
    assert config.total_tokens == 10 * 32 + 5 * 64
    assert config.mix_of(0) == {"a": 1.0, "b": 0.0}
    assert config.mix_of(1) == {"a": 1.0, "b": 0.0}  # carried on
    assert config.data["b"] == SourceConfig(stories=5, seed=3)


def test_every_recipe_that_comes_along_is_sound():
    assert recipe_names() == ["125m-gpu", "1b-gpu", "8b-multi", "small-cpu", "tiny-cpu"]
    for name in recipe_names():
        config = load_config(name)
        plan = make_plan(config, measure=False)
        assert plan.tokens == config.total_tokens
        assert plan.lines()
        assert len(planned_rates(config)) == config.total_steps


@pytest.mark.parametrize(("there", "wanted"), [(0, [True, False, False]), (1, [True, True, False])])
def test_a_recipe_knows_whether_its_gpus_are_here(there, wanted, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: there > 0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: there)
    recipe = load_config("tiny-cpu")
    on = [recipe, dataclasses.replace(recipe, device="cuda"), dataclasses.replace(recipe, gpus=2)]
    assert [has_hardware(config) for config in on] == wanted


def test_sizes_of_the_recipes_are_what_their_names_say():
    sizes = {n: make_plan(load_config(n), measure=False).parameters for n in recipe_names()}
    assert 120e6 < sizes["125m-gpu"] < 130e6
    assert 0.95e9 < sizes["1b-gpu"] < 1.05e9
    assert sizes["8b-multi"] == 8_030_261_248


@pytest.mark.parametrize(
    ("table", "parts"),
    [
        (with_change(optimzer={}), ["'optimzer'", "'optimizer'"]),
        (with_change(optimizer={"peek": 1}), ["recipe.optimizer", "'peek'", "'peak'"]),
        (with_change(optimizer={"peak": -1.0}), ["peak=-1.0", "above 0"]),
        (with_change(optimizer={"warmup": 20}), ["warmup=20", "15 steps"]),
        (with_change(optimizer={"minimum": 1.0}), ["minimum=1.0", "peak"]),
        (with_change(optimizer={"betas": [0.9, 1.0]}), ["betas"]),
        (with_change(optimizer={"warmup": 4, "decay_steps": 4}), ["decay_steps=4"]),
        (with_change(data={}), ["data={}", "one source"]),
        (with_change(data={"a": {}}), ["data.a", "exactly one of"]),
        (with_change(data={"a": {"stories": 1, "shard": "x"}}), ["data.a", "exactly one of"]),
        (with_change(phases=[]), ["phases"]),
        (with_change(phases=[TABLE["phases"][0]] * 2), ["'one', 'one'", "once"]),
        (with_change(phases=[{**TABLE["phases"][0], "mix": {"c": 1.0}}]), ["'c'", "['a', 'b']"]),
        (with_change(phases=[{**TABLE["phases"][0], "mix": {"a": 0.0}}]), ["mix"]),
        (with_change(phases=[{**TABLE["phases"][0], "name": "../x"}]), ["name='../x'"]),
        (with_change(phases=[{**TABLE["phases"][0], "steps": 0}]), ["steps=0", "1 or more"]),
        (
            with_change(phases=[{**TABLE["phases"][0], "rate": "cosine"}]),
            ["phases.0.rate='cosine'"],
        ),
        (with_change(model={"preset": "9B"}), ["9B"]),
        (with_change(model={"preset": "8B", "dimm": 1}), ["'dimm'", "'dim'"]),
        (with_change(model={**TABLE["model"], "dim": 15}), ["recipe.model", "dim"]),
        (with_change(seed=-1), ["seed=-1"]),
        (with_change(precision="fp8"), ["precision='fp8'", "bfloat16"]),
    ],
)
def test_wrong_settings_are_refused_with_their_place(table, parts):
    with pytest.raises(ValueError) as caught:
        make_config(table)
    for part in parts:
        assert part in str(caught.value)


def test_missing_files_and_names(tmp_path):
    with pytest.raises(ValueError, match="did you mean 'tiny-cpu'"):
        load_config("tiny-cpo")
    with pytest.raises(ValueError, match="no such file"):
        load_config(str(tmp_path / "none.toml"))
    (tmp_path / "bad.toml").write_text("a = ")
    with pytest.raises(ValueError, match="cannot be read"):
        load_config(str(tmp_path / "bad.toml"))


def test_paths_are_relative_to_the_recipe(tmp_path):
    (tmp_path / "r.toml").write_text(
        """
[model]
preset = "8B"
[data.a]
documents = "text"
[[phases]]
name = "one"
steps = 200
batch_size = 1
length = 8
"""
    )
    config = load_config(str(tmp_path / "r.toml"), ["optimizer.warmup=7", "model.n_layers=2"])
    assert config.data["a"].documents == str(tmp_path / "text")
    assert config.optimizer.warmup == 7
    assert config.model.n_layers == 2


OWN = """
tokenizer = "words"
[model]
preset = "8B"
[data.a]
stories = 3
[data.b]
documents = "text"
[held_out]
stories = 2
[[phases]]
name = "one"
steps = 200
batch_size = 1
length = 8
"""


def test_a_source_in_a_change_takes_the_place_of_the_recipe_s(tmp_path, monkeypatch):
    """Its path is one of the folder that we are in; those of the recipe stay where they are."""
    (tmp_path / "recipes" / "words").mkdir(parents=True)
    (tmp_path / "recipes" / "r.toml").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    changes = ["data.a.documents=mine", "data.b.shard=../mine", "held_out.documents=~/test"]
    config = load_config("recipes/r.toml", [*changes, "data.c.stories=1"])
    assert config.data["a"] == SourceConfig(documents=str(tmp_path / "mine"))
    assert config.data["b"] == SourceConfig(shard=str(tmp_path.parent / "mine"))
    assert config.data["c"] == SourceConfig(stories=1)
    assert config.held_out == SourceConfig(documents=str(tmp_path / "home" / "test"))
    assert config.tokenizer == str(tmp_path / "recipes" / "words")
    with pytest.raises(ValueError, match="'documents', 'stories'. are given"):
        load_config("recipes/r.toml", ["data.a.documents=x", "data.a.stories=4"])
    config = load_config("recipes/r.toml", ["data.a.seed=5", "tokenizer=tiny-base"])
    assert config.data["a"] == SourceConfig(stories=3, seed=5) and config.tokenizer == "tiny-base"
    assert config.data["b"].documents == str(tmp_path / "recipes" / "text")


@pytest.mark.parametrize("name", ["125m-gpu", "1b-gpu", "8b-multi"])
def test_recipes_that_come_along_take_text_of_one_s_own(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = load_config(name, ["data.text.documents=mine"])
    assert config.data == {"text": SourceConfig(documents=str(tmp_path / "mine"), seed=1)}


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_shares_that_may_be_left_out(share):
    with pytest.raises(ValueError, match=f"most_left_out={share}"):
        SourceConfig(stories=1, most_left_out=share)


def test_tokens_from_a_source_follow_the_mixes():
    phases = (
        Phase(name="a", steps=10, batch_size=2, length=8, mix={"x": 3.0, "y": 1.0}),
        Phase(name="b", steps=5, batch_size=1, length=16),
        Phase(name="c", steps=1, batch_size=1, length=8, mix={"x": 2.0}),
    )
    data = {name: SourceConfig(stories=1) for name in "xy"}
    model = make_config(TABLE).model
    config = TrainConfig(model=model, data=data, phases=phases, optimizer=OptimizerConfig(warmup=1))
    assert config.tokens_from("x") == 0.75 * 160 + 0.75 * 80 + 8
    assert config.tokens_from("x") + config.tokens_from("y") == config.total_tokens


def without_none(value):
    if isinstance(value, dict):
        return {name: without_none(part) for name, part in value.items() if part is not None}
    return [without_none(part) for part in value] if isinstance(value, list) else value


def test_a_config_survives_its_own_description():
    config = make_config(TABLE)
    plain = without_none(config.describe())  # TOML has no word for it
    assert make_config(plain) == config


def test_planned_rates_of_all_kinds_of_phase():
    model = make_config(TABLE).model
    phases = (
        Phase(name="a", steps=10, batch_size=1, length=8),
        Phase(name="b", steps=5, batch_size=1, length=8, rate="constant"),
        Phase(name="c", steps=4, batch_size=1, length=8, rate="anneal"),
    )
    told = OptimizerConfig(peak=1.0, warmup=4, decay_steps=20, minimum=0.1)
    data = {"a": SourceConfig(stories=1)}
    rates = planned_rates(TrainConfig(model=model, data=data, phases=phases, optimizer=told))
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert all(a > b for a, b in zip(rates[3:9], rates[4:10], strict=True))
    assert rates[10:15] == [rates[9]] * 5
    assert rates[15:] == pytest.approx([rates[9] * share for share in (1, 0.75, 0.5, 0.25)])
    flat = dataclasses.replace(phases[1], name="first")
    config = TrainConfig(model=model, data=data, phases=(flat, phases[2]), optimizer=told)
    assert planned_rates(config)[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]  # warm-up, then constant
