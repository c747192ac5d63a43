"""Quiz and prediction in a real JupyterLab, by keyboard alone, light and dark."""

import pytest

pytestmark = pytest.mark.browser

QUIZ = """from widgets import Option, Question, Quiz
quiz = Quiz("99", [
    Question("How many key/value heads has the 8B?", [
        Option("8", "Every size has 8.", True), Option("32", "Those are its query heads."),
        Option("1", "That would be multi-query attention.")], "§3.2, Table 3"),
    Question("Is <b>this</b> shown as text?", [
        Option("yes", "Nothing is read as HTML.", True), Option("no", "Look again.")], "ours"),
])
quiz"""
PREDICT = """from widgets import predict
guess = predict("99.cache", "How large is the cache of the 405B at 131,072 tokens?", unit="GiB", low=0)
guess"""
CHOICE = """pick = predict("99.tied", "Does the 8B tie its embeddings?", choices=["yes", "no"])
pick"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_quiz_by_keyboard(open_notebook, theme):
    page = open_notebook([QUIZ], theme=theme)
    options = page.locator(".l3-quiz input[type=radio]")
    options.first.wait_for()
    assert options.count() == 3
    options.first.focus()
    page.page.keyboard.press("ArrowDown")  # JupyterLab would take this key from a plain control
    page.page.keyboard.press("Tab")
    page.page.keyboard.press("Enter")
    page.page.wait_for_function(
        "() => document.querySelector('.l3-quiz-why').textContent.length > 5"
    )
    page.page.wait_for_function(
        "() => document.querySelector('.l3-quiz-nav button').textContent != '1'"
    )
    assert page.python("quiz.answers") == "{'0': 1}"
    told = page.locator(".l3-quiz-why").inner_text()
    right = page.python("quiz.score[0]") == "1"
    assert told.startswith("✓ Right" if right else "✗ Not this one")
    page.screenshot(f"quiz-{theme}", ".l3-quiz")
    page.locator(".l3-quiz-nav button").nth(1).click()
    assert "<b>this</b>" in page.locator(".l3-quiz legend").inner_text()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_prediction_locks_once(open_notebook, theme):
    page = open_notebook(
        [PREDICT.replace("99.cache", f"99.{theme}"), CHOICE.replace("99.", f"98{theme}.")],
        theme=theme,
    )
    number = page.locator(".l3-predict input[type=number]")
    number.wait_for()
    number.fill("-3")
    number.press("Enter")
    assert "A number from 0" in page.locator(".l3-predict .l3-note").first.inner_text()
    number.fill("100")
    number.press("Enter")
    page.page.wait_for_function("() => document.querySelector('.l3-predict input').disabled")
    assert page.python("guess.value, guess.locked") == "(100, True)"
    assert (
        page.python("__import__('widgets').progress.ledger().prediction(guess.name)['value']")
        == "100"
    )
    page.locator(".l3-predict input[type=radio]").nth(1).check()
    page.screenshot(f"predict-{theme}", ".l3-predict")
    page.locator(".l3-predict button").nth(1).click()
    page.page.wait_for_function("() => document.querySelectorAll('.l3-predict button')[1].disabled")
    assert page.python("pick.value") == "'no'"
