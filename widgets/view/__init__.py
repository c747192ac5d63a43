"""The layer all views stand on: `View`, its controls, and the paper it draws on."""

from widgets.view.controls import Choice, Pick, Slider, Text, Toggle
from widgets.view.paper import Paper
from widgets.view.plot import Category, Linear, Log, Plot
from widgets.view.scene import Scene
from widgets.view.view import View

__all__ = [
    "Category",
    "Choice",
    "Linear",
    "Log",
    "Paper",
    "Pick",
    "Plot",
    "Scene",
    "Slider",
    "Text",
    "Toggle",
    "View",
]
