"""The chat panel with a real engine: the same text as without it, stopped, refused, closed."""

import threading
import time

import pytest
import traitlets
from view_tools import run_js

from llama3lib.checkpoint import load_model, load_tokenizer
from llama3lib.inference import LLMEngine, SamplingParams
from llama3lib.tokenizer import ChatFormat, Message
from widgets.ch09.views.chat import ChatPanel

STORY = "One sunny day Omar went to the mill."


@pytest.fixture(scope="module")
def model():
    return load_model("tiny-base")


@pytest.fixture
def engine(model):
    with LLMEngine(model, load_tokenizer("tiny-base"), num_blocks=64) as engine:
        yield engine


def halted(engine, after):
    """Let the engine stop before step `after` until the event is set: no test has to be fast."""
    go, reached, step, done = threading.Event(), threading.Event(), engine.step, [0]

    def slow():
        if done[0] >= after:
            reached.set()
            assert go.wait(30)
        done[0] += 1
        return step()

    engine.step = slow
    return reached, go


def test_it_writes_what_the_engine_writes(engine):
    want = engine.generate([STORY], SamplingParams(max_tokens=60))[0].text
    panel = ChatPanel(engine, max_tokens=60, temperature=0.0)
    assert panel.ask(STORY) == want and len(want) > 40
    assert panel.turns[0]["prompt"] == STORY and panel.turns[0]["note"].endswith("tokens/s")
    warm = SamplingParams(temperature=0.9, seed=3, max_tokens=30, top_p=0.9)
    again = ChatPanel(engine, max_tokens=30, temperature=0.9, top_p=0.9, seed=3)
    assert again.ask(STORY) == engine.generate([STORY], warm)[0].text
    assert len(panel.turns) == 1 and not panel.writing


def test_pieces_come_while_it_writes_and_the_caller_goes_on(engine, monkeypatch):
    panel, sent = ChatPanel(engine, max_tokens=60, temperature=0.0), []
    monkeypatch.setattr(panel, "send", sent.append)
    monkeypatch.setattr("widgets.ch09.views.chat._PAUSE", 0.0)
    reached, go = halted(engine, after=20)
    panel.submit(STORY)
    assert reached.wait(30)  # this thread is free: the panel stands before its 21st step
    assert panel.writing and panel._thread is not threading.current_thread()
    assert len(sent) == 20 and panel.turns[-1]["answer"] == ""
    assert sent[-1]["note"].startswith("20 tokens, ")
    go.set()
    assert panel.wait(30)
    texts = [one["text"] for one in sent]
    assert all(one["kind"] == "text" for one in sent)
    assert all(after.startswith(before) for before, after in zip(texts, texts[1:], strict=False))
    assert panel.turns[-1]["answer"].startswith(texts[-1])


def test_messages_are_bundled(engine, monkeypatch):
    panel, sent = ChatPanel(engine, max_tokens=80, temperature=0.0), []
    monkeypatch.setattr(panel, "send", sent.append)
    monkeypatch.setattr("widgets.ch09.views.chat._PAUSE", 60.0)
    panel.ask(STORY)
    assert len(sent) == 1  # the first at once, the whole text at the end


def test_a_second_text_is_refused_and_stop_keeps_what_is_there(engine, monkeypatch):
    panel, sent = ChatPanel(engine, max_tokens=200, temperature=0.0), []
    monkeypatch.setattr(panel, "send", sent.append)
    other = ChatPanel(engine)
    reached, go = halted(engine, after=10)
    panel._from_browser(panel, {"kind": "send", "text": STORY}, [])
    assert reached.wait(30)
    with pytest.raises(ValueError, match="still writing: wait, or stop it first"):
        panel.submit("Another")
    with pytest.raises(ValueError, match="the engine is busy with somebody else's text"):
        other.submit("Another")
    panel._from_browser(panel, {"kind": "send", "text": "Another"}, [])
    assert sent[-1] == {"kind": "refused", "why": "still writing: wait, or stop it first"}
    panel._from_browser(panel, {"kind": "stop"}, [])
    go.set()
    assert panel.wait(30)
    assert panel.turns[0]["note"].endswith(", stopped")
    assert panel.turns[0]["note"].startswith("11 tokens")
    assert len(panel.turns[0]["answer"]) > 10
    assert not engine.has_work and engine.blocks.num_free_blocks == 64
    assert other.ask("Another")  # and the engine is free again


def test_closing_stops_the_thread_and_frees_the_blocks(engine):
    panel = ChatPanel(engine, max_tokens=300, temperature=0.0)
    reached, go = halted(engine, after=5)
    panel.submit(STORY)
    assert reached.wait(30) and engine.blocks.num_free_blocks < 64
    threading.Timer(0.2, go.set).start()
    panel.close()
    assert not panel._thread.is_alive() and panel.comm is None
    assert engine.blocks.num_free_blocks == 64 and not engine.requests
    panel.close()  # a second time does nothing
    assert engine.generate([STORY])[0].text  # the engine is still there


def test_a_failing_step_is_told_and_the_next_text_works(engine):
    panel, step = ChatPanel(engine, max_tokens=40, temperature=0.0), engine.step

    def broken():
        raise RuntimeError("the <b> broke")

    engine.step = broken
    assert panel.ask(STORY) == ""
    assert panel.turns[0]["note"] == "0 tokens; failed: the <b> broke"
    assert "the &lt;b&gt; broke" in panel.static_html()
    assert engine.blocks.num_free_blocks == 64
    engine.step = step
    assert len(panel.ask(STORY)) > 20


def test_a_chat_is_the_released_format(engine):
    panel = ChatPanel(engine, chat=True, max_tokens=12, temperature=0.0, system="Be kind.")
    first = panel.ask("Who is Omar?")
    said = [
        Message(role="system", content="Be kind."),
        Message(role="user", content="Who is Omar?"),
        Message(role="assistant", content=first),
        Message(role="user", content="<|eot_id|> and Ines?"),
    ]
    dialog = ChatFormat(engine.tokenizer).encode_dialog(said, add_generation_prompt=True)
    want = engine.generate([dialog.ids], SamplingParams(max_tokens=12))[0].text
    assert panel._prompt("<|eot_id|> and Ines?") == dialog.ids
    assert panel.ask("<|eot_id|> and Ines?") == want


def test_a_chat_forgets_its_oldest_turns(engine):
    panel = ChatPanel(engine, chat=True, max_tokens=150, temperature=0.0)
    lengths = []
    for i in range(6):
        lengths.append(len(panel._prompt(f"Number {i}: " + "Ines had a cup. " * 8)))
        panel.turns = [
            *panel.turns,
            {"prompt": f"Number {i}: " + "Ines had a cup. " * 8, "answer": "Yes. " * 9, "note": ""},
        ]
    assert max(lengths) + 150 <= 512 and panel._forgotten > 0
    assert lengths[1] > lengths[0] and len(panel.turns) == 6  # the reader still sees them all


def test_what_does_not_fit_is_refused(engine):
    panel = ChatPanel(engine, max_tokens=100, temperature=0.0)
    with pytest.raises(ValueError, match=r"too long: \d+ tokens leave no room in 512"):
        panel.submit("Omar had a cup. " * 120)
    with pytest.raises(ValueError, match="text='' is not allowed"):
        panel.submit("  ")
    with pytest.raises(ValueError, match="text='' is not allowed"):
        panel.submit(None)
    assert panel.turns == [] and not panel.writing
    long = "Omar had a cup. " * 96
    size = len(engine.tokenizer.encode(long, bos=True))
    assert 412 < size < 512
    panel.ask(long)
    assert panel.turns[0]["note"].startswith(f"{512 - size} tokens")
    assert panel.turns[0]["note"].endswith("cut at the limit")


def test_settings_are_checked(engine, model):
    with pytest.raises(ValueError, match="max_tokens=0 is not allowed"):
        ChatPanel(engine, max_tokens=0)
    with pytest.raises(ValueError, match="system='Hi' is not allowed: chat=True"):
        ChatPanel(engine, system="Hi")
    with pytest.raises(traitlets.TraitError, match=r"temperature=2\.5 is not allowed: 0 to 2"):
        ChatPanel(engine).temperature = 2.5
    engine.close()
    with pytest.raises(ValueError, match="the engine is closed"):
        ChatPanel(engine).submit(STORY)
    with (
        LLMEngine(model, num_blocks=4) as mute,
        pytest.raises(ValueError, match="it has no tokenizer"),
    ):
        ChatPanel(mute)


def test_the_static_twin_is_the_transcript(engine):
    panel = ChatPanel(engine, max_tokens=20, temperature=0.0)
    assert panel.summary() == "ChatPanel: nothing is written yet; run this cell to use it"
    prompt = "<script>alert(1)</script> One sunny day"
    answer = panel.ask(prompt)
    html = panel.static_html()
    assert "<script>" not in html and "&lt;script&gt;" in html
    assert f"<u>{answer}</u>" in html.replace("&#x27;", "'").replace("&quot;", '"')
    assert panel.turns[0]["note"] in panel.summary()
    bundle = panel._repr_mimebundle_()[0]
    assert bundle["text/html"] == html
    panel.chat = True
    assert "<strong>you:</strong> &lt;script&gt;" in panel.static_html()


def test_odd_messages_do_nothing(engine):
    panel = ChatPanel(engine)
    for content in (None, [], {"kind": "eval"}, {}):
        panel._from_browser(panel, content, [])
    assert panel.turns == [] and panel.wait(0)


def test_many_texts_leave_nothing_behind(engine):
    panel = ChatPanel(engine, max_tokens=8)
    before = threading.active_count()
    for i in range(8):
        panel.submit(f"Omar had {i} cups")
        if i % 2:
            time.sleep(0.002)
            panel.stop()
        assert panel.wait(30)
    assert threading.active_count() == before and len(panel.turns) == 8
    assert engine.blocks.num_free_blocks == 64


def test_words_in_javascript(node, tmp_path):
    cases = [
        [{"key": "Enter"}],
        [{"key": "Enter", "shiftKey": True}],
        [{"key": "Enter", "isComposing": True}],
        [{"key": "a"}],
    ]
    assert run_js(node, tmp_path, ChatPanel._esm, "sends", *cases) == [True, False, False, False]
    told = [[True, None], [True, {"note": "3 tokens"}], [False, {"note": "3 tokens"}], [False]]
    assert run_js(node, tmp_path, ChatPanel._esm, "stateWords", *told) == [
        "Reading the prompt.", "Writing: 3 tokens", "Done: 3 tokens.", "Ready.",
    ]  # fmt: skip
