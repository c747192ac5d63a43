"""Trains a tiny recipe in forked children, kills them, starts them again; prints what it found.

    python tests/train/killed_runs.py FOLDER CHOSEN RANDOM

One process imports PyTorch, and every child is a fork of it, so that a kill costs a fraction of a
second. Run by `test_kill.py`.
"""

import json
import os
import random
import signal
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import torch
from timing_tools import patient
from train_tools import phase, recipe, same, sources, stored, told

from llama3lib.checkpoint import CheckpointManager
from llama3lib.data.loader import StatefulDataLoader
from llama3lib.train import Trainer
from llama3lib.train.step import batch_loss

PATIENCE = patient(60.0)  # seconds after which a child counts as hung
SAVING = ("before_save", "staged", "written", "manifest", "published", "pruned")
STEP_PLACES = ("before_step", "after_step", "evaluate", "gate")
PLACES = (*STEP_PLACES, *SAVING, *(f"average_{place}" for place in SAVING))
# the first dozen: each place once, before the first checkpoint, between phases, at the last step
CHOSEN = [
    ("before_step", 1),
    ("after_step", 2),
    ("before_save", 1),
    ("staged", 2),
    ("written", 1),
    ("manifest", 2),
    ("published", 3),
    ("pruned", 4),
    ("average_staged", 1),
    ("average_written", 2),
    ("gate", 2),
    ("after_step", 22),
]


def make_recipe():
    """The phases of section 3.4 in miniature, with a gate that opens at the second asking."""
    return recipe(
        phase("small", 5, 2, 16),
        phase("large", 5, 4, 16, mix={"a": 3.0, "b": 1.0}),
        phase("long", 4, 2, 32, rope_theta=1e6, gate=True, gate_every=2, most_steps=10),
        phase("anneal", 6, 2, 32, rate="anneal", average_every=2, mix={"b": 1.0}),
        optimizer={"decay_steps": 30, "warmup": 3},
        save_every=3,
        keep_last=2,
        evaluate_every=4,
        micro_batch=3,
    )


@dataclass
class Report:
    """What a gate answers."""

    short_loss: float
    passed: bool


class Runs:
    """Starts children in folders of their own and looks at what they leave."""

    def __init__(self, folder):
        self.folder, self.config = folder, make_recipe()
        self.sources = sources(folder / "data")
        self.probe_batch = StatefulDataLoader(self.sources, batch_size=2, length=16, seed=9).next()
        self.threshold, self.asked = None, []
        self.kills = self.hangs = self.starts = 0
        self.wrong = []

    def measure(self, model):
        total, count = batch_loss(model, self.probe_batch)
        return total / count

    def train(self, folder, fatal=None):
        """The run; `fatal` is a place and the how manieth time there to be killed at."""
        seen = dict.fromkeys(PLACES, 0)

        def probe(place):
            seen[place] += 1
            if fatal == (place, seen[place]):
                os.kill(os.getpid(), signal.SIGKILL)

        def gate(model, phase):
            probe("gate")
            loss = self.measure(model)
            self.asked.append(loss)
            opened = len(self.asked) > 1 if self.threshold is None else loss < self.threshold
            return Report(loss, opened)

        def evaluate(model):
            probe("evaluate")
            return {"held_out_loss": self.measure(model)}

        trainer = Trainer(
            self.config, self.sources, folder, gate=gate, evaluate=evaluate, probe=probe
        )
        return trainer.fit()

    def finish_whole(self):
        """The run that nobody disturbs, to hold the others against."""
        self.whole = self.folder / "whole"
        result = self.train(self.whole)
        self.threshold = sum(self.asked) / 2
        assert len(self.asked) == 2 and self.asked[1] < self.asked[0], self.asked
        assert result.steps == 22
        self.averaged = result.averaged
        begun, again = time.monotonic(), self.folder / "again"
        self.wait(self.start(again), "the same again")
        self.seconds = time.monotonic() - begun
        self.compare(again, "the same again")

    def start(self, folder, fatal=None):
        self.starts += 1
        child = os.fork()
        if child:
            return child
        code = 1
        try:
            result = self.train(folder, fatal)
            torch.save(result.averaged, folder / "averaged.pt")
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)

    def ended(self, child, after=PATIENCE):
        """Exit code of a child: -9 if it was killed, None if it still runs after some seconds."""
        end = time.monotonic() + after
        while time.monotonic() < end:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.002)
        return None

    def kill(self, child):
        os.kill(child, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def wait(self, child, name):
        code = self.ended(child)
        if code is None:
            self.hangs += 1
            self.wrong.append(f"{name}: hangs")
            return self.kill(child)
        if code not in (0, -signal.SIGKILL):
            self.wrong.append(f"{name}: ended with {code}")
        self.kills += code == -signal.SIGKILL
        return code

    def look(self, folder, name):
        """Whatever moment it was: each checkpoint is whole, every line of the log can be read."""
        manager = CheckpointManager(folder / "checkpoints")
        for step in manager.steps():
            manager.load_tensors(step, "model")
        try:
            newest = manager.read_meta()
            done = 0 if newest is None else newest["state"]["place"]["step"]
            steps = [row["step"] for row in told(folder) if "loss" in row]
            if steps[:done] != list(range(1, done + 1)):
                self.wrong.append(f"{name}: steps {steps} in the log at checkpoint {done}")
        except ValueError as error:
            self.wrong.append(f"{name}: {error}")

    def compare(self, folder, name):
        """The end is that of the whole run, bit by bit."""
        if told(folder) != told(self.whole):
            self.wrong.append(f"{name}: other metrics: {differences(folder, self.whole)}")
        if not same(stored(folder), stored(self.whole)):
            self.wrong.append(f"{name}: other weights or moments")
        averaged = torch.load(folder / "averaged.pt")
        for phase_name, tensors in self.averaged.items():
            if not same(averaged[phase_name], tensors):
                self.wrong.append(f"{name}: other averages")

    def chosen(self, points):
        """Each point in a run of its own; then the run is let go on to its end."""
        for number, (first, *more) in enumerate(points):
            folder, name = self.folder / f"chosen-{number}", f"killed at {first}, {more}"
            for fatal in (first, *more):
                code = self.wait(self.start(folder, fatal), name)
                if code != -signal.SIGKILL and fatal == first:
                    self.wrong.append(f"{name}: was not reached")
                self.look(folder, name)
            self.wait(self.start(folder), name)
            self.compare(folder, name)

    def at_random(self, kills, rng):
        """From outside, several times in each run, until so many have been killed."""
        number = before = self.kills
        while self.kills - before < kills and not self.hangs:
            number += 1
            folder, name = self.folder / f"random-{number}", f"random run {number}"
            code = None
            while code != 0:
                child = self.start(folder)
                delay = rng.uniform(0, 0.8 * self.seconds)
                code = self.ended(child, delay if self.kills - before < kills else PATIENCE)
                if code is None:
                    code = self.kill(child)
                    self.kills += code == -signal.SIGKILL
                if code > 0:
                    self.wrong.append(f"{name}: ended with {code}")
                    return
                self.look(folder, name)
            self.compare(folder, name)


def differences(folder, whole):
    """The first line that differs, for people."""
    pairs = zip(told(folder), told(whole), strict=False)
    first = next((pair for pair in pairs if pair[0] != pair[1]), None)
    return first or f"{len(told(folder))} lines, not {len(told(whole))}"


def points(count, rng):
    """The dozen above, then others, each with a second kill in the run that goes on."""
    firsts = [(point,) for point in CHOSEN[:count]]
    while len(firsts) < count:
        first = (rng.choice(PLACES), rng.randint(1, 2))
        firsts.append((first, (rng.choice(PLACES), rng.randint(1, 2))))
    return firsts


def main(folder, chosen, at_random):
    torch.set_num_threads(1)
    runs = Runs(Path(folder))
    begun = time.monotonic()
    runs.finish_whole()
    runs.chosen(points(chosen, random.Random(1)))
    runs.at_random(at_random, random.Random(2))
    counts = {"kills": runs.kills, "hangs": runs.hangs, "starts": runs.starts}
    print(json.dumps(counts | {"wrong": runs.wrong, "seconds": time.monotonic() - begun}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
