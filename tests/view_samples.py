"""Small made-up things for tests of views to look at."""

from collections.abc import Callable

import numpy as np

import widgets
from llama3lib.checkpoint import load_model, load_tokenizer
from llama3lib.data import Document, Dropped, Funnel
from llama3lib.eval import NeedleGrid
from llama3lib.scaling import Run, Sigmoid, read_runs, stored_path
from llama3lib.train import ReferenceCurve
from widgets.ch02.views.scurve import Pair

CHAPTERS = ("ch01", "ch02", "ch03", "ch04", "ch05", "ch09")
SOURCE_TOKENS = {"general": 900.0, "maths": 80.0, "code": 20.0, "multilingual": 40.0}
TRACED = "Lena had a nut. Then Lena"


def some_tracer():
    model, tokenizer = load_model("tiny-base"), load_tokenizer("tiny-base")
    return widgets.ArchitectureTracer(model, tokenizer, TRACED, layer=2, head=7)


# how each view is made in tests; views that need no data are made without arguments
SAMPLES: dict[str, Callable[[], object]] = {
    "ArchitectureTracer": some_tracer,
    "AveragingLine": lambda: widgets.AveragingLine(some_points()),
    "BandView": lambda: some_band_view(),
    "BatchingTimeline": lambda: widgets.BatchingTimeline(spread=1.0),
    "FP8Grid": lambda: widgets.FP8Grid(),
    "FunnelExplorer": lambda: widgets.FunnelExplorer(
        some_funnel(), kept=[Document("good", "k"), Document("better", "l")]
    ),
    "GQAExplorer": lambda: widgets.GQAExplorer(),
    "IsoFlopExplorer": lambda: widgets.IsoFlopExplorer(
        [run for run in toy_runs("toy") if run.seed == 0], stored=toy_runs("toy-long")
    ),
    "Landscape": lambda: widgets.Landscape(),
    "LatencyCurve": lambda: widgets.LatencyCurve(some_waits()),
    "LawSlider": lambda: widgets.LawSlider(),
    "MixtureExplorer": lambda: widgets.MixtureExplorer(SOURCE_TOKENS, budget=1000),
    "NeedleMap": lambda: widgets.NeedleMap(some_grids(), threshold=90),
    "OvertrainingCost": lambda: widgets.OvertrainingCost(),
    "PagingBoard": lambda: widgets.PagingBoard(8),
    "ParameterTreemap": lambda: widgets.ParameterTreemap(),
    "RooflineDot": lambda: widgets.RooflineDot(),
    "RopeExplorer": lambda: widgets.RopeExplorer(),
    "SCurve": lambda: widgets.SCurve(some_pairs()),
    "SamplingExplorer": lambda: widgets.SamplingExplorer(),
    "ScheduleDesigner": lambda: widgets.ScheduleDesigner(),
    "TokenizerCompare": lambda: widgets.TokenizerCompare(
        {"stories": load_tokenizer("tiny-base")}, "One sunny day"
    ),
    "TwoStepsView": lambda: widgets.TwoStepsView(
        toy_runs("toy"), held_out=toy_runs("toy-held-out")
    ),
    "RankMap": lambda: widgets.RankMap(),
    "PipelineTimeline": lambda: widgets.PipelineTimeline(),
    "ContextLoad": lambda: widgets.ContextLoad(),
    "RankMemory": lambda: widgets.RankMemory(),
    "CheckpointInterval": lambda: widgets.CheckpointInterval(),
}


def toy_runs(name: str) -> list[Run]:
    """Runs of the course's own sweeps."""
    return read_runs(stored_path(name))


def sample(name: str) -> object:
    """A view of that name with data of its kind."""
    return SAMPLES[name]()


def some_funnel():
    funnel = Funnel(keep_dropped=True)
    for step, came, left, reasons in (
        ("extract", 10, 9, {"no text": 1}),
        ("gopher", 9, 4, {"too short": 3, "symbols": 2}),
        ("pii", 4, 4, {}),
    ):
        count = funnel.count(step)
        count.documents_in, count.documents_out = came, left
        count.reasons.update(reasons)
    for number, reason in enumerate(["too short"] * 3 + ["symbols"] * 2):
        document = Document(f"text <b>{number}</b>", f"d{number}", {"url": f"http://x/{number}"})
        funnel.dropped.append(Dropped(document, "gopher", reason, f"{number} words"))
    return funnel


def some_pairs():
    draw = np.random.default_rng(3)
    return [
        Pair(j, tuple((draw.random(256) < j).astype(int).tolist()))
        for j in np.linspace(0.02, 1, 60)
    ]


def some_band():
    steps = tuple(range(10, 210, 10))
    mean = [0.5 + 3 * 0.8**i for i in range(20)]
    low, high = tuple(m - 0.06 for m in mean), tuple(m + 0.06 for m in mean)
    return ReferenceCurve("tiny", (1, 2, 3), steps, low, tuple(mean), high)


def some_losses(offset=0.0):
    # the first half near the band's mean, the second half further and further above it
    means = [m + offset * max(0, i - 9) for i, m in enumerate(some_band().mean)]
    return [mean + 0.01 * (-1) ** step for mean in means for step in range(10)]


def some_band_view():
    """A finished run, and one that goes on."""
    view = widgets.BandView(some_band(), {"another": some_losses(-0.02)})
    for step, loss in enumerate(some_losses(0.04)[:155], start=1):
        view.on_step({"step": step, "loss": loss, "phase": "warm"})
    view.flush()
    return view


def some_grids():
    found = np.array([[40, 40, 40, 40], [40, 38, 36, 37], [30, 18, 12, 20], [5, 1, 0, 2]])
    tries, nats = np.full((4, 4), 40), 3 - found / 20
    axes = (64, 128, 256, 512), (0.0, 0.25, 0.5, 0.75)
    short = NeedleGrid((64,), axes[1], found[1:2], tries[:1], np.full((1, 4), np.inf))
    after = NeedleGrid(*axes, np.minimum(found + 15, 40), tries, nats / 2)
    return {"before": NeedleGrid(*axes, found, tries, nats), "short": short, "after": after}


def some_points():
    valley = [(i / 20, 2.1 - 0.1 * i / 20 + 0.79 * (i / 20) * (i / 20 - 1)) for i in range(21)]
    flat = [(i / 20, 1.8 - 0.0004 * i) for i in range(21)]
    means = [(k, 1.76 + 0.24 / k) for k in range(1, 11)]
    worse = [(k, 1.792 + 0.0006 * (k - 1)) for k in range(1, 9)]
    return {
        "constant rate": {"line": valley, "means": means},
        "rate to 0": {"line": flat, "means": worse},
    }


def some_waits():
    """A curve as `measure_curve` gives it: more texts, more tokens, longer waits; one mix turns."""
    names = ("mix", "limit", "tokens_per_second", "median_ms", "p95_ms")
    rows = [
        ("short", 1, 802.5, 1.125, 1.375),
        ("short", 2, 1390.0, 1.3, 1.6),
        ("short", 4, 2280.0, 1.6, 2.5),
        ("short", 8, 3380.0, 2.0, 3.5),
        ("long", 1, 490.0, 1.3, 1.6),
        ("long", 2, 660.0, 1.5, 9.2),
        ("long", 4, 930.0, 1.9, 9.7),
        ("long", 8, 900.0, 2.6, 18.0),
    ]
    return [dict(zip(names, row, strict=True)) for row in rows]


def some_task_runs(noise=0.0, seeds=1):
    """Runs whose two steps are planted: the best of each budget lies on a line over ln FLOPs."""
    sigmoid, rng, runs = Sigmoid(0.25, 1.0, 1.0, 0.2), np.random.default_rng(0), []
    for budget in (1e15, 1e16, 1e17, 1e18):
        for seed in range(seeds):
            for away in (-1, 0, 1):
                nll = 1.3 - 0.1 * np.log(budget / 1e15) + 0.05 * away**2 + noise * rng.normal()
                size = 1e-3 * budget**0.5 * 3.0**away
                runs.append(
                    Run(
                        parameters=size,
                        tokens=budget / 6 / size,
                        loss=3 * float(nll),
                        budget=budget,
                        seed=seed,
                        nll=float(nll),
                        accuracy=sigmoid.predict(float(nll)),
                    )
                )
    nll = 1.3 - 0.1 * np.log(4e3)
    held = {"parameters": 2e6, "tokens": 4e18 / 12e6, "budget": 4e18, "loss": 3.0}
    return runs, [Run(**held, nll=float(nll), accuracy=sigmoid.predict(float(nll)))]


TRACED = "Lena had a nut. Then Lena"
