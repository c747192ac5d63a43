"""Quiz, prediction and figure in a real JupyterLab, by keyboard alone, light and dark."""

import json

import pytest

pytestmark = pytest.mark.browser

QUIZ = """from widgets import Option, Question, Quiz
quiz = Quiz("{name}", [
    Question("How many key/value heads has the 8B?", [
        Option("8", "Every size has 8.", True),
        Option("32", "Those are its query heads."),
        Option("1", "That would be multi-query attention."),
    ], "§3.2, Table 3"),
    Question("Is <b>this</b> shown as text?", [
        Option("yes", "Nothing is read as HTML.", True), Option("no", "Look again."),
    ], "ours"),
])
quiz"""
PREDICT = """from widgets import predict
guess = predict("{name}.1", "How large is the cache at 131,072 tokens?", unit="GiB", low=0)
guess"""
CHOICE = """pick = predict("{name}.2", "Does the 8B tie its embeddings?", choices=["yes", "no"])
pick"""
FIGURE = """import plotly.graph_objects as go
from widgets import live_figure
figure = go.Figure([go.Scatter(x=[1, 2, 3], y=[3, 2, n], name=f"run {n}") for n in (1, 2)])
figure.update_layout(xaxis_title="steps", yaxis_title="loss (nats per token)")
live_figure(figure, title="Loss falls", alt="Two falling lines.", table=[{"steps": 1, "loss": 3}])
"""
VIEW = """from widgets.core.widget import CourseWidget, css
class Small(CourseWidget):
    _esm = "export default { render({ el }) { el.innerHTML = '<p class=l3>live</p>'; } };"
    _css = css("predict")
    def table(self):
        return [{"part": "attention", "share": "17%"}]
Small()
"""
PANEL = """from ipywidgets import HBox, VBox, interactive
from widgets import RooflineDot
pair = [RooflineDot(setting=setting) for setting in ("8B BF16", "405B BF16")]
def set_batch(size):
    for view in pair:
        view.move(batch=size)
wide = RooflineDot()
VBox([interactive(set_batch, size=[1, 64]), HBox(pair), wide])"""
# what has the focus, whether its ring can be seen, and which cell JupyterLab has selected
FOCUS = """() => { const it = document.activeElement, style = getComputedStyle(it);
  return { type: it.type ?? it.tagName, value: it.value, ring: parseFloat(style.outlineWidth),
    drawn: style.outlineStyle !== 'none' && it.matches(':focus-visible'),
    cell: window.jupyterapp.shell.currentWidget.content.activeCellIndex }; }"""


def focus(page):
    found = page.page.evaluate(FOCUS)
    assert found["drawn"], found
    assert found["ring"] >= 2, found
    return found


def press(page, *keys):
    for key in keys:
        page.page.keyboard.press(key)


def places(page, number):
    """Where the right option of a question is, and where a wrong one is."""
    shown = json.loads(page.python(f"__import__('json').dumps(quiz.questions[{number}])")[1:-1])
    right = [option["correct"] for option in shown["options"]]
    return right.index(True), right.index(False)


def in_both_themes(page, name, selector):
    """The focus ring is seen on both; pictures for the eye."""
    at = page.page.evaluate_handle("() => document.activeElement")
    for theme in ("dark", "light"):
        page.set_theme(theme)
        at.evaluate("(it) => it.focus()")  # the cover that Lab lays over the page may take it
        focus(page)
        page.screenshot(f"{name}-{theme}", selector)


def test_quiz_by_keyboard(open_notebook):
    page = open_notebook([QUIZ.format(name="q"), "1 + 1"])
    radios = page.locator(".l3-quiz input[type=radio]")
    radios.first.wait_for()
    right, wrong = places(page, 0)
    page.locator(".l3-quiz-nav button").first.focus()
    press(page, "Tab", "Tab", "Space")  # past the second number, to the choices
    cell = focus(page)["cell"]
    place = int(focus(page)["value"])
    press(page, *["ArrowDown"] * ((wrong - place) % 3))  # wraps, as radio buttons do
    assert focus(page)["value"] == str(wrong)
    assert focus(page)["cell"] == cell  # JupyterLab did not take the arrow keys
    press(page, "Tab", "Enter")
    why = page.locator(".l3-quiz-why")
    page.page.wait_for_function(
        "() => document.querySelector('.l3-quiz-why').textContent.startsWith('✗')"
    )
    assert page.locator(".l3-quiz-nav button").first.inner_text() == "1 ✗"
    radios.nth(right).focus()  # and try again
    press(page, "Space", "Tab", "Enter")
    page.page.wait_for_function(
        "() => document.querySelector('.l3-quiz-why').textContent.startsWith('✓')"
    )
    page.python_becomes("quiz.score", "(1, 2)")
    page.python_becomes("quiz.answers", f"{{'0': {right}}}")
    assert "Every size has 8." in why.inner_text()
    page.page.wait_for_function(
        "() => document.querySelector('.l3-voice').textContent.startsWith('✓')"
    )
    in_both_themes(page, "quiz", ".l3-quiz")
    press(page, "Tab", "Enter")  # the next question
    legend = page.locator(".l3-quiz legend")
    assert "<b>this</b>" in legend.inner_text()
    press(page, "ArrowDown")
    assert page.page.evaluate(FOCUS)["cell"] == cell


def test_quiz_remembers_when_opened_again(open_notebook):
    code = QUIZ.format(name="again")
    first = open_notebook([code, "quiz.answers = {'1': 0}"])
    first.locator(".l3-quiz").wait_for()
    assert first.python("len(quiz.answers)") == "1"
    again = open_notebook([code])
    again.page.wait_for_function(
        "() => /[✓✗]/.test(document.querySelectorAll('.l3-quiz-nav button')[1]?.textContent)"
    )


def test_prediction_by_keyboard_locks_once(open_notebook):
    page = open_notebook([PREDICT.format(name="p"), CHOICE.format(name="p")])
    number = page.locator(".l3-predict input[type=number]")
    number.wait_for()
    number.focus()
    cell = focus(page)["cell"]
    press(page, "-", "3", "Enter")
    note = page.locator(".l3-predict .l3-note").first
    assert "A number of at least 0" in note.inner_text()
    assert number.is_enabled()
    press(page, "Backspace", "Backspace", "9", "9", "ArrowUp")
    assert focus(page)["value"] == "100"  # the arrow key moved the number, not the notebook
    assert focus(page)["cell"] == cell
    in_both_themes(page, "predict-open", ".l3-predict")
    press(page, "Enter")
    page.page.wait_for_function("() => document.querySelector('.l3-predict input').disabled")
    assert "Locked: 100 GiB" in note.inner_text()
    page.python_becomes("guess.value, guess.locked", "(100, True)")
    kept = "__import__('widgets').core.progress.ledger().prediction(guess.name)['value']"
    page.python_becomes(kept, "100")
    assert "is locked" in page.python("guess.lock(3)")

    page.locator(".l3-predict input[type=radio]").first.focus()
    press(page, "Space", "ArrowDown")
    assert focus(page)["value"] == "no"
    press(page, "Tab", "Enter")
    page.page.wait_for_function(
        "() => document.querySelectorAll('.l3-predict')[1].querySelector('button').disabled"
    )
    page.python_becomes("pick.value", "'no'")
    for theme in ("dark", "light"):
        page.set_theme(theme)
        page.screenshot(f"predict-number-{theme}", ".l3-predict")
        page.screenshot(f"predict-choice-{theme}", ".l3-predict:has(input[type=radio])")


def test_a_card_answers_in_the_view_of_the_prediction(open_notebook):
    choices = ["None: floating point is never exact", "All of them"]
    asks = f"""from widgets import predict, reveal
pick = predict("P05.5", "How many losses are equal?", choices={choices}, again=True)
pick"""
    page = open_notebook([asks, f'pick.lock({choices[0]!r})\nreveal("P05.5", {choices[1]!r})'])
    card = page.locator(".l3-predict:has(.l3-predict-told)")
    card.wait_for()
    told = card.inner_text()
    assert "How many losses are equal?" in told and "not what you predicted" in told
    assert "✗ None: floating point is never exact (your guess): The same operations" in told
    assert "✓ All of them: The checkpoint holds everything" in told
    for theme in ("dark", "light"):
        page.set_theme(theme)
        page.screenshot(f"reveal-{theme}", ".l3-predict:has(.l3-predict-told)")


def test_views_move_beside_ordinary_widgets(open_notebook):
    page = open_notebook([PANEL])
    drawn = "() => document.querySelectorAll('.l3-view svg:has(text)').length === 3"
    page.page.wait_for_function(drawn)
    page.locator(".widget-dropdown select").select_option(label="64")
    page.python_becomes("[view.batch for view in pair]", "[64, 64]")
    page.page.wait_for_function(
        """() => [...document.querySelectorAll('.l3-view .l3-title')].filter(
        (title) => title.textContent.includes('batch 64')).length === 2"""
    )
    for theme in ("dark", "light"):
        page.set_theme(theme)
        page.screenshot(f"panel-{theme}", ".jp-OutputArea-output:has(.l3-view)")


def test_nothing_is_cut_off_on_a_narrow_page(open_notebook):
    page = open_notebook([QUIZ.format(name="narrow"), PREDICT.format(name="narrow"), VIEW, FIGURE])
    page.page.set_viewport_size({"width": 700, "height": 1400})
    page.locator(".js-plotly-plot").wait_for()
    wide = page.page.evaluate(
        "() => [...document.querySelectorAll('.l3')].filter(e => e.scrollWidth > e.clientWidth + 1"
        " || e.getBoundingClientRect().right > innerWidth).map(e => e.className)"
    )
    assert wide == []
    for theme in ("dark", "light"):
        page.set_theme(theme)
        page.screenshot(f"narrow-{theme}")
    assert page.locator(".js-plotly-plot .gtitle").first.text_content() == "Loss falls"
    assert page.locator("details:has-text('words and numbers') td").count() == 2
    # a live view hides its stored table; the notebook holds it for readers without a kernel
    assert page.locator(".l3-static-table").count() == 1
    assert not page.locator(".l3-static-table").is_visible()
