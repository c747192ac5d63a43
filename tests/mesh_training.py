"""Runs of the trainer on meshes: what every rank does, in the launches of `run_checks`."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from mesh_checks import refused
from train_tools import ARGS, changed, phase, recipe, told

from llama3lib.checkpoint.ranks import Ranks
from llama3lib.data.loader import StatefulDataLoader
from llama3lib.data.tokens import TokenShard
from llama3lib.train import Trainer, trainer
from llama3lib.train.mesh import MeshConfig, make_mesh
from llama3lib.train.step import batch_loss

MESHES = {
    "dp1": MeshConfig(),
    "dp2": MeshConfig(dp=2),
    "tp2": MeshConfig(tp=2),
    "pp2": MeshConfig(pp=2),
    "dp3": MeshConfig(dp=3),
    "dp2 tp2": MeshConfig(dp=2, tp=2),
}
STOP, SAVED = 4, 3  # the step after which a first run is left, and that of its checkpoint
CUT = ARGS.replace(n_layers=2, n_kv_heads=2)


@dataclass
class Report:
    """What a gate answers."""

    loss: float
    passed: bool


def make_recipe(mesh="dp1"):
    """Two phases, the second with longer rows, a gate and an average."""
    return recipe(
        phase("short", 5, 6, 16),
        phase("long", 3, 6, 32, rope_theta=1e6, gate=True, gate_every=1, average_every=1),
        model=CUT,
        save_every=SAVED,
        evaluate_every=4,
        micro_batch=2 if mesh == "pp2" else None,
        mesh=MESHES[mesh],
    )


def make_trainer(folder, data, mesh="dp1", **more):
    """With an evaluation, and a gate that lets through at its second asking."""
    shards = {name: TokenShard(data / name) for name in "ab"}
    held, asked = StatefulDataLoader(shards, batch_size=2, length=16, seed=9).next(), []

    def evaluate(model):
        total, count = batch_loss(model, held)
        return {"held_out_loss": total / count}

    def gate(model, phase):
        asked.append(1)
        return Report(evaluate(model)["held_out_loss"], len(asked) > 1)

    config = changed(make_recipe(mesh), **more)
    return Trainer(config, shards, folder, gate=gate, evaluate=evaluate)


def leave_midway(record):
    """What `fit` is given for a run that ends without having ended."""
    if record["step"] == STOP:
        raise MemoryError


def rows_of(run):
    """The rows of the batches that all ranks take in `run`, by step."""
    seen, right = [], trainer.train_step

    def step(model, optimizer, batch, **options):
        seen.append([row.tobytes() for row in batch.tokens.numpy()])
        return right(model, optimizer, batch, **options)

    trainer.train_step = step
    try:
        run()
    finally:
        trainer.train_step = right
    return [set().union(*rows) for rows in zip(*Ranks().gather(seen), strict=True)]


@dataclass
class Begun:
    """A run on one mesh, left in its midst after a checkpoint."""

    mesh: str
    root: Path

    def __str__(self):
        return f"begun on {self.mesh}"

    def __call__(self):
        run = make_trainer(self.root / self.mesh, self.root / "data", self.mesh)
        try:
            run.fit(leave_midway)
        except MemoryError:
            run.checkpoints.wait()
        assert run.saved_step() == SAVED


@dataclass
class Resumed:
    """The same run gone on with on another mesh, against one that nothing has disturbed."""

    begun: str
    mesh: str
    root: Path

    def __str__(self):
        return f"{self.begun} to {self.mesh}"

    def __call__(self):
        folder, ranks = self.root / str(self), Ranks()
        ranks.first(lambda: shutil.copytree(self.root / self.begun, folder) and None)
        run = make_trainer(folder, self.root / "data", self.mesh)
        assert run.state.place.step == SAVED
        rows = rows_of(run.fit)
        assert rows == torch.load(self.root / "rows.pt", weights_only=False)[SAVED:], "other rows"
        found, wanted = told(folder), told(self.root / "whole")
        assert [list(row) for row in found] == [list(row) for row in wanted], found
        for row, right in zip(found, wanted, strict=True):
            for name, value in right.items():
                limit = 1e-5 * max(1, value) if name == "grad_norm" else 1e-5
                near = isinstance(value, float) and abs(row[name] - value) < limit
                assert near or row[name] == value, (name, row, right)
        ranks.first(lambda: None)  # nobody begins what comes next in a folder that is still read


@dataclass
class Refused:
    """What does not fit is said by all ranks, and none waits."""

    root: Path

    def __str__(self):
        return "refused"

    def __call__(self):
        def make(mesh="dp2", **more):
            return make_trainer(self.root / "dp2", self.root / "data", mesh, **more)

        refused(lambda: make("dp1"), "mesh='dp=1'", "1 ranks, but 2 run")
        refused(lambda: make("dp3"), "mesh='dp=3'", "3 ranks, but 2 run")
        refused(lambda: make(model=CUT.replace(dim=32)), "was changed", "[256, 32] is expected")
        odd = recipe(phase(batch_size=3), mesh=MESHES["dp2"])
        refused(lambda: make_mesh(odd, torch.device("cpu")), "batch=3", "dp=2")
        heads = recipe(model=CUT.replace(n_kv_heads=1), mesh=MESHES["tp2"])
        refused(lambda: make_mesh(heads, torch.device("cpu")), "tp=2", "n_kv_heads=1")
