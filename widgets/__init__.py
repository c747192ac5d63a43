"""The course machinery: exercises, quizzes, predictions, progress, and views of real models."""

import importlib

from widgets.exercises import check, fill, hint, solutions_from
from widgets.figure import live_figure
from widgets.predict import predict, reveal
from widgets.progress import use_ledger
from widgets.quiz import Option, Question, Quiz
from widgets.report import report
from widgets.source import show_source

# views build real models: they are imported when first asked for
_VIEWS = {
    "ArchitectureTracer": "tracer",
    "AveragingLine": "averaging",
    "BandView": "band",
    "BatchingTimeline": "batching",
    "ChatPanel": "chat",
    "FP8Grid": "fp8",
    "FunnelExplorer": "funnel",
    "GQAExplorer": "gqa",
    "IsoFlopExplorer": "isoflop",
    "Landscape": "landscape",
    "LatencyCurve": "latency",
    "LawSlider": "law",
    "MixtureExplorer": "mixture",
    "NeedleMap": "needles",
    "OvertrainingCost": "overtraining",
    "PagingBoard": "paging",
    "ParameterTreemap": "treemap",
    "RooflineDot": "roofline",
    "RopeExplorer": "rope",
    "SCurve": "scurve",
    "SamplingExplorer": "sampling",
    "ScheduleDesigner": "schedule",
    "TokenizerCompare": "tokenizers",
    "TwoStepsView": "twosteps",
}


def __getattr__(name: str) -> object:
    if name not in _VIEWS:
        raise AttributeError(f"module 'widgets' has no attribute {name!r}")
    return getattr(importlib.import_module(f"widgets.{_VIEWS[name]}"), name)


__all__ = [
    "ArchitectureTracer",
    "AveragingLine",
    "BandView",
    "BatchingTimeline",
    "ChatPanel",
    "FP8Grid",
    "FunnelExplorer",
    "GQAExplorer",
    "IsoFlopExplorer",
    "Landscape",
    "LatencyCurve",
    "LawSlider",
    "MixtureExplorer",
    "NeedleMap",
    "Option",
    "OvertrainingCost",
    "PagingBoard",
    "ParameterTreemap",
    "Question",
    "Quiz",
    "RooflineDot",
    "RopeExplorer",
    "SCurve",
    "SamplingExplorer",
    "ScheduleDesigner",
    "TokenizerCompare",
    "TwoStepsView",
    "check",
    "fill",
    "hint",
    "live_figure",
    "predict",
    "report",
    "reveal",
    "show_source",
    "solutions_from",
    "use_ledger",
]
