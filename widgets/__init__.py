"""The course machinery: exercises, quizzes, predictions, progress, and views of real models."""

from widgets.exercises import check, fill, hint, solutions_from
from widgets.figure import live_figure
from widgets.predict import predict, reveal
from widgets.progress import use_ledger
from widgets.quiz import Option, Question, Quiz
from widgets.report import report
from widgets.source import show_source

__all__ = [
    "Option",
    "Question",
    "Quiz",
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
