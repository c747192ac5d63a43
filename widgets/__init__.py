"""The course machinery: exercises, quizzes, predictions, progress, and views of real models."""

import importlib

from widgets.core.check import check, fill, hint, solutions_from
from widgets.core.figure import live_figure
from widgets.core.plots import bars, boxes, curves, panels, timeline
from widgets.core.predict import predict
from widgets.core.progress import use_ledger
from widgets.core.quiz import Option, Question, Quiz
from widgets.core.report import report
from widgets.core.reveal import reveal
from widgets.core.source import show_source

# views build real models: they are imported when first asked for
_VIEWS = {
    "ArchitectureTracer": "ch01.views.tracer",
    "AveragingLine": "ch05.views.averaging",
    "BandView": "ch05.views.band",
    "BatchingTimeline": "ch09.views.batching",
    "ChatPanel": "ch09.views.chat",
    "CheckpointInterval": "ch04.views.checkpoints",
    "ContextLoad": "ch04.views.context_load",
    "FP8Grid": "ch09.views.fp8",
    "FunnelExplorer": "ch02.views.funnel",
    "GQAExplorer": "ch01.views.gqa",
    "IsoFlopExplorer": "ch03.views.isoflop",
    "Landscape": "ch01.views.landscape",
    "LatencyCurve": "ch09.views.latency",
    "LawSlider": "ch03.views.law",
    "MixtureExplorer": "ch02.views.mixture",
    "NeedleMap": "ch05.views.needles",
    "OvertrainingCost": "ch03.views.overtraining",
    "PagingBoard": "ch09.views.paging",
    "ParameterTreemap": "ch01.views.treemap",
    "PipelineTimeline": "ch04.views.timeline",
    "RankMap": "ch04.views.ranks",
    "RankMemory": "ch04.views.memory",
    "RooflineDot": "ch09.views.roofline",
    "RopeExplorer": "ch01.views.rope",
    "SCurve": "ch02.views.scurve",
    "SamplingExplorer": "ch09.views.sampling",
    "ScheduleDesigner": "ch05.views.schedule",
    "TokenizerCompare": "ch02.views.tokenizers",
    "TwoStepsView": "ch03.views.twosteps",
}


def __getattr__(name: str) -> object:
    if name not in _VIEWS:
        raise AttributeError(f"module 'widgets' has no attribute {name!r}")
    return getattr(importlib.import_module(f"widgets.{_VIEWS[name]}"), name)


__all__ = [
    "Option",
    "Question",
    "Quiz",
    "bars",
    "boxes",
    "check",
    "curves",
    "fill",
    "hint",
    "live_figure",
    "panels",
    "predict",
    "report",
    "reveal",
    "show_source",
    "solutions_from",
    "timeline",
    "use_ledger",
]
__all__ += _VIEWS
