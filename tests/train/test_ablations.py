"""The comparisons of chapter 05 differ in what they say, and in nothing else."""

from dataclasses import replace

import pytest
import torch

from llama3lib.train import Trainer, ablations, planned_rates, read_metrics
from llama3lib.worlds import domains


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return domains.text_shards(tmp_path_factory.mktemp("text"))


def test_ramps_read_the_same_tokens_and_end_at_zero():
    sizes = ({4: 1.0}, {4: 0.25, 16: 0.75}, {64: 1.0})
    configs = [ablations.ramp(size, 300_000) for size in sizes]
    for config in configs:
        assert config.total_tokens == pytest.approx(300_000, rel=0.03)
        assert planned_rates(config)[-1] < 0.1 * config.optimizer.peak
        anneal = config.phases[-1]
        assert anneal.tokens == pytest.approx(75_000, rel=0.05)
    assert [config.total_steps for config in configs] == sorted(
        (config.total_steps for config in configs), reverse=True
    )


def test_branches_differ_in_rate_and_mix_only():
    found = ablations.branches(steps=42)
    assert {phase.rate for phase in found.values()} == {"constant", "anneal"}
    plain = [replace(phase, rate="constant", mix=None) for phase in found.values()]
    assert all(phase == plain[0] for phase in plain)


def test_a_branch_goes_on_from_the_trunk_to_the_bit(shards, tmp_path):
    config = ablations.trunk(12)
    Trainer(config, shards, tmp_path / "trunk").fit()
    phase = replace(ablations.branches(steps=6)["constant rate"], average_every=2)
    branch = ablations.run_branch(config, phase, shards, tmp_path / "trunk", tmp_path / "branch")
    longer = replace(config, phases=(*config.phases, phase))
    whole = Trainer(longer, shards, tmp_path / "whole").fit()
    pairs = zip(branch.model.parameters(), whole.model.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    rows = [
        [r["loss"] for r in read_metrics(tmp_path / n) if "loss" in r] for n in ("branch", "whole")
    ]
    assert rows[0] == rows[1]
    kept = whole.averaged["branch"]
    assert all(
        torch.equal(kept[name], tensor) for name, tensor in branch.averaged["branch"].items()
    )


def test_longer_strings_take_most_of_the_mix_in_their_stage():
    sources = dict.fromkeys(("copy-64", "copy-128"))
    config = ablations.lengthen(ablations.short_copier(), ablations.longer_stages((128,)), sources)
    assert config.mix_of(0) == {"copy-128": 0.0, "copy-64": 1.0}
    assert config.mix_of(1) == {"copy-128": 0.7, "copy-64": 0.3}


def test_stored_runs_have_three_seeds_of_every_setting():
    for experiment in ("annealing", "needle_depth", "parts", "repeats"):
        rows = ablations.stored_runs(experiment)
        seeds = {seed: [row for row in rows if row["seed"] == seed] for seed in (0, 1, 2)}
        assert len({len(one) for one in seeds.values()}) == 1 and len(rows) == 3 * len(seeds[0])
    with pytest.raises(ValueError, match=r"experiment='nothing' .* 'parts'"):
        ablations.stored_runs("nothing")
