"""The chat panel in JupyterLab: it appears, writes, and stops."""

import pytest
from view_tools import kernel_says


def becomes(page, root, name, want):
    page.page.wait_for_function(
        "([root, name, want]) => document.querySelector(root).dataset[name] === want",
        arg=[root, name, want],
    )


def shot(page, name):
    """The widget in both themes; ends in the light one."""
    page.set_theme("dark")
    page.screenshot(f"{name}-dark", f".l3-{name}")
    page.set_theme("light")
    page.screenshot(f"{name}-light", f".l3-{name}")


CHAT = """
import torch
torch.set_num_threads(1)
from llama3lib.checkpoint import load_model, load_tokenizer
from llama3lib.inference import LLMEngine
from widgets import ChatPanel
engine = LLMEngine(load_model("tiny-base"), load_tokenizer("tiny-base"), num_blocks=64)
view = ChatPanel(engine, max_tokens=60, temperature=0.0)
view"""
# the next texts are written slowly, so that the test can look on
SLOWER = """
import time
fast = engine.step
def slow():
    time.sleep(0.05)
    return fast()"""


def refuses_and_closes(page, box):
    """Too long a text, another temperature, and the end of the panel while it writes."""
    page.python("setattr(engine, 'step', fast)")
    box.fill("Omar had a cup. " * 120)
    page.page.keyboard.press("Enter")
    page.locator(".l3-chat .trouble").filter(has_text="Not sent: too long").wait_for()
    heat = page.locator(".l3-chat input[data-trait=temperature]")
    heat.focus()
    page.page.keyboard.press("ArrowRight")
    kernel_says(page, "view.temperature", "0.1")
    page.python("setattr(engine, 'step', slow)")
    box.fill("Omar had a cup.")
    box.press("Enter")
    becomes(page, ".l3-chat", "writing", "true")
    page.python("view.close()")
    assert page.python("view._thread.is_alive(), engine.blocks.num_free_blocks") == "(False, 64)"


@pytest.mark.browser
def test_chat_in_jupyterlab(open_notebook):
    page = open_notebook([CHAT, SLOWER])
    root = page.locator(".l3-chat")
    root.wait_for()
    assert page.locator(".l3-chat .log").get_attribute("aria-live") == "polite"
    page.screenshot("chat-empty", ".l3-chat")
    box, stop = (
        page.locator(".l3-chat textarea"),
        page.locator(".l3-chat button").filter(has_text="Stop"),
    )
    send = page.locator(".l3-chat button").filter(has_text="Send")
    box.focus()
    page.page.keyboard.type("One sunny day")
    page.page.keyboard.press("Shift+Enter")
    assert box.input_value() == "One sunny day\n"  # and Lab did not run the cell
    page.page.keyboard.press("Backspace")
    page.page.keyboard.press("Enter")
    becomes(page, ".l3-chat", "turns", "1")
    becomes(page, ".l3-chat", "writing", "false")
    assert box.input_value() == "" and stop.is_disabled()
    answer = page.locator(".l3-chat .answer").inner_text()
    assert answer.startswith(" Ines went to the garden.")
    kernel_says(page, f"view.turns[0]['answer'].strip() == {answer.strip()!r}", "True")
    assert "tokens/s" in page.locator(".l3-chat .state").inner_text()

    page.python("setattr(engine, 'step', slow)")
    box.fill("<b>Omar</b> had a red kite.")
    send.click()
    becomes(page, ".l3-chat", "writing", "true")
    page.page.wait_for_function(
        "() => Number(document.querySelector('.l3-chat').dataset.pieces) > 5"
    )
    assert send.is_disabled() and stop.is_enabled()
    assert page.locator(".l3-chat .log").get_attribute("aria-busy") == "true"
    assert page.python("6 * 7") == "42"  # the kernel answers while the panel writes
    assert page.python("view.writing") == "True"
    box.fill("More")
    page.page.keyboard.press("Enter")
    page.locator(".l3-chat .trouble").filter(has_text="Still writing").wait_for(timeout=2000)
    page.screenshot("chat-writing", ".l3-chat")
    stop.click()
    becomes(page, ".l3-chat", "writing", "false")
    assert page.locator(".l3-chat .trouble").inner_text() == ""  # no longer true
    assert "stopped" in page.locator(".l3-chat .turn").nth(1).inner_text()
    assert page.locator(".l3-chat .turn").nth(1).locator("b").count() == 0
    assert page.locator(".l3-chat .prompt").nth(1).inner_text() == "<b>Omar</b> had a red kite."
    kernel_says(page, "len(view.turns), engine.blocks.num_free_blocks", "(2, 64)")
    shot(page, "chat")
    refuses_and_closes(page, box)


@pytest.mark.browser
def test_a_dialog_in_jupyterlab(open_notebook):
    code = CHAT.replace("temperature=0.0)", "temperature=0.0, chat=True)")
    page = open_notebook([code], theme="dark")
    page.locator(".l3-chat textarea").fill("Who is <i>Omar</i>?")
    page.locator(".l3-chat textarea").press("Enter")
    becomes(page, ".l3-chat", "turns", "1")
    becomes(page, ".l3-chat", "writing", "false")
    assert page.locator(".l3-chat .said").first.inner_text() == "you: Who is <i>Omar</i>?"
    assert page.locator(".l3-chat .who").nth(1).inner_text().strip() == "model:"
    page.screenshot("chat-dialog-dark", ".l3-chat")
