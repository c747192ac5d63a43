"""The architecture tracer: hooks against a pass by hand, hooks gone, the view, JupyterLab."""

import html
import itertools
import re
import threading

import pytest
import torch
import torch.nn.functional as F

from llama3lib.model import Transformer, get_preset
from llama3lib.model.rope import apply_rotary_emb
from widgets.ch01.views.cells import squares
from widgets.ch01.views.diagram import boxes, role_of
from widgets.ch01.views.trace import PARTS, _Seen, attention_pattern, part_source, trace
from widgets.ch01.views.tracer import (
    SENTENCES,
    ArchitectureTracer,
    about,
    headline,
    run,
    shown_of,
    shrink,
    statistics,
    token_label,
)
from widgets.core.colours import colour
from widgets.view.record import record as recorded

IDS = [1, 7, 42, 7, 300]


class Letters:
    """A tokenizer of single letters, enough for a view."""

    def encode(self, text, *, bos=False):
        return [256] * bos + list(text.encode())

    def decode(self, ids):
        return "".join("<|begin_of_text|>" if i == 256 else chr(i % 128) for i in ids)


@pytest.fixture
def model():
    made = Transformer(get_preset("tiny"))
    made.init_weights(torch.Generator().manual_seed(1))
    return made


def hooks_of(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def by_key(records):
    return {(record.part, record.layer): record for record in records}


def test_every_record_equals_the_pass_by_hand(model):
    found = by_key(trace(model, IDS))
    want = {}
    with torch.no_grad():
        h = want["tok_embeddings", None] = model.tok_embeddings.weight[IDS]
        turn = model.freqs_cis[torch.arange(len(IDS))].unsqueeze(0)
        for i, block in enumerate(model.layers.values()):
            a, ffn = block.attention, block.feed_forward
            x = want["attention_norm", i] = block.attention_norm(h)
            for key in ("wq", "wk", "wv"):
                want[key, i] = getattr(a, key)(x).unflatten(-1, (-1, a.head_dim))
            q, k = (apply_rotary_emb(want[key, i][None], turn)[0] for key in ("wq", "wk"))
            want["rope_q", i], want["rope_k", i] = q, k
            k, v = (t.repeat_interleave(2, dim=1) for t in (k, want["wv", i]))
            scores = torch.einsum("tnh,snh->nts", q, k) / a.head_dim**0.5
            causal = torch.ones(len(IDS), len(IDS)).tril().bool()
            pattern = scores.masked_fill(~causal, float("-inf")).softmax(-1)
            want["inner_attention", i] = torch.einsum("nts,snh->tnh", pattern, v)
            assert torch.allclose(found["inner_attention", i].pattern, pattern, atol=1e-6)
            want["wo", i] = a.wo(want["inner_attention", i].flatten(1))
            h = want["attention_add", i] = h + want["wo", i]
            x = want["ffn_norm", i] = block.ffn_norm(h)
            want["w1", i], want["w3", i] = ffn.w1(x), ffn.w3(x)
            want["gated", i] = F.silu(want["w1", i]) * want["w3", i]
            want["w2", i] = ffn.w2(want["gated", i])
            h = want["ffn_add", i] = h + want["w2", i]
        want["norm", None] = model.norm(h)
        want["output", None] = model.output(want["norm", None])
    assert set(found) == set(want)
    for key, value in want.items():  # same operations, other order of sums: float32 rounding
        assert found[key].shape == tuple(value.shape), key
        assert torch.allclose(found[key].values, value, atol=1e-5), key


def test_records_end_in_the_models_own_logits(model):
    with torch.no_grad():
        logits = model(torch.tensor([IDS]))[0]
    assert torch.equal(trace(model, IDS)[-1].values, logits)


def test_parameters_add_up_to_the_model(model):
    assert sum(r.parameters for r in trace(model, IDS)) == sum(
        p.numel() for p in model.parameters()
    )


def test_names_are_paths_in_the_model(model):
    for record in trace(model, IDS):
        if record.part not in ("attention_add", "ffn_add"):
            model.get_submodule(record.name)


def test_rows_of_a_pattern_add_up_to_one_and_mix_the_values(model):
    found = by_key(trace(model, IDS))
    q, k = found["rope_q", 1].values, found["rope_k", 1].values
    pattern = attention_pattern(q, k)
    assert torch.allclose(pattern.sum(-1), torch.ones(4, len(IDS)))
    assert pattern.triu(1).abs().max() == 0


def test_the_model_is_left_without_hooks(model):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trace(model, IDS)
    assert hooks_of(model) == 0
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_the_model_is_left_without_hooks_after_an_error(model):
    def fail(*_):
        raise RuntimeError("broken part")

    handle = model.layers["1"].feed_forward.w3.register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="broken part"):
        trace(model, IDS)
    assert hooks_of(model) == 1
    handle.remove()
    with pytest.raises(ValueError, match="token_ids=512 is not allowed: 0 to 511"):
        trace(model, [512])
    with pytest.raises(ValueError, match="tokens are not allowed"):
        trace(model, [0] * 513)
    model.layers["1"].attention.wq = None
    with pytest.raises((AttributeError, TypeError)):
        trace(model, IDS)
    assert hooks_of(model) == 0


def test_one_layer_alone(model):
    records = trace(model, IDS, layers=[1])
    assert {r.layer for r in records} == {None, 1}
    with pytest.raises(ValueError, match="layer=2 is not allowed: one of 0, 1"):
        trace(model, IDS, layers=[2])


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.key)
def test_source_is_the_librarys_and_the_line_is_marked(model, part):
    source = part_source(model, part.key)
    assert source.place.startswith("llama3lib/model/")
    assert source.text.startswith("def ")
    assert part.marker in source.text.splitlines()[source.lines[0]]


def test_small_helpers():
    values = torch.arange(12.0).reshape(2, 6)
    assert shrink(values, 6).equal(values)
    assert shrink(values, 4).tolist() == [[0.5, 2.5, 4.5], [6.5, 8.5, 10.5]]
    assert statistics(torch.tensor([3.0, -4.0])) == {
        "mean": -0.5,
        "size": pytest.approx(12.5**0.5),
        "smallest": -4.0,
        "largest": 3.0,
    }
    assert [token_label(t) for t in (" a\n", "", "\t")] == ["␣a⏎", "∅", "⇥"]


def test_key_values_are_shown_once_for_all_heads_that_share_them(model):
    traced = run(model, Letters(), "abc")
    shown = [shown_of(traced, "wk", 0, head, group=2) for head in range(4)]
    assert shown[0].cells == shown[1].cells
    assert shown[0].cells != shown[2].cells
    assert "KV head 1, read by query heads 2 to 3" in shown[3].note


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.key)
def test_picture_of_every_part(model, part):
    view = ArchitectureTracer(
        model, Letters(), "ab <b>", part=part.key, layer=1, head=3, max_tokens=5
    )
    traced = run(model, Letters(), "ab <b>", max_tokens=5)
    shown = shown_of(traced, part.key, 1, 3, group=2)
    frame, tokens = view.frame(), ["<|begin_of_text|>", "a", "b", "␣", "<"]
    assert frame["title"] == headline(traced, shown.record, shown.head)
    picture = "".join(frame["pieces"])
    assert "<|" not in picture  # escaped
    if part.key != "output":
        assert [row["token"] for row in frame["table"]] == tokens
        assert {len(row) for row in shown.cells} == {len(shown.columns)}
        assert len(shown.columns) <= 32
        hue = colour(role_of(part.key))
        above = re.findall(rf'<path d="([^"]+)" fill="{hue}" data-key="sign 1"', picture)
        values = [value for row in shown.cells for value in row]
        assert sum(d.count("M") for d in above) == sum(value > 0 for value in values)
    words = html.unescape(" ".join(re.findall(r">([^<]+)</text>", picture)))
    for line in about(shown):
        assert line in words
    place, text, lines = frame["code"]
    assert place.startswith("llama3lib/model/")
    assert part.marker in text.splitlines()[lines[0]]
    assert view.head == 3 and view.layer == 1


def test_the_output_matrix_shows_the_ten_likeliest_next_tokens(model):
    view = ArchitectureTracer(model, Letters(), "abc", part="output")
    with torch.no_grad():
        chances = model(torch.tensor([Letters().encode("abc", bos=True)]))[0, -1].softmax(-1)
    want = chances.topk(10)
    rows = view.table()
    shown = [float(row["probability"].removesuffix("%")) / 100 for row in rows]
    assert shown == pytest.approx(want.values.tolist(), rel=5e-3)
    names = [token_label(Letters().decode([i])) for i in want.indices.tolist()]
    assert [row["next token"] for row in rows] == names
    bars = re.findall(
        rf'<rect x="\S+" y="\S+" width="(\S+)" \S+ fill="{colour("output")}"',
        "".join(view.frame()["pieces"]),
    )
    widths = [float(one) for one in bars]
    ratios = [wide / widths[0] for wide in widths]
    assert ratios == pytest.approx((want.values / want.values[0]).tolist(), rel=0.01)


def test_lines_are_as_wide_as_the_share_of_attention(model):
    view = ArchitectureTracer(model, Letters(), "ab", layer=1, head=3)
    pattern = run(model, Letters(), "ab").records["inner_attention", 1].pattern[3].tolist()
    picture = "".join(view.frame()["pieces"])
    found = re.findall(r"<path [^>]* takes [^>]*>", picture)
    lines = [re.search(r'stroke-width="([\d.]+)"', one)[1] for one in found]
    want = [6 * share for row in pattern for share in row if share >= 0.02]
    assert [float(one) for one in lines] == pytest.approx(want, abs=0.006)
    view.text = "a text too long for both"
    narrow = "".join(view.frame(width=480)["pieces"])
    assert " takes " not in narrow and "area: share of attention" in narrow


def test_a_recording_offers_sentences():
    """What is hidden in a state, as the layer of a part that has none, makes no states."""
    import json
    from base64 import b64decode
    from gzip import decompress

    small = Transformer(get_preset("tiny"))
    small.init_weights(torch.Generator().manual_seed(2))
    view = ArchitectureTracer(small, Letters(), "ab", max_tokens=3)
    packed = re.search(r'octet-stream">([^<]+)<', recorded(view))[1]
    data = json.loads(decompress(b64decode(packed)))
    (text,) = (one for one in data["spec"]["controls"] if one["name"] == "text")
    assert text["kind"] == "choice"
    assert [words for _, words in text["stops"]] == ["ab", *SENTENCES]
    heads = 1 + (small.args.n_heads > 1)
    assert len(data["states"]) == len(text["stops"]) * (3 + 9 + 6 * heads)  # of one layer


def test_values_that_are_not_numbers_are_said_so(model):
    with torch.no_grad():
        model.layers["0"].feed_forward.w2.weight[0, 0] = float("nan")
    view = ArchitectureTracer(model, Letters(), "ab", part="w2")
    assert "not a number" in str(view.table())
    assert 'stroke-dasharray="2 2"' in "".join(view.frame()["pieces"])


def test_state_is_checked_and_the_view_follows(model):
    view = ArchitectureTracer(model, Letters(), "abc")
    assert view.frame()["facts"] == {"part": "inner_attention"}
    view.part, view.layer = "w1", 1
    picture = "".join(view.frame()["pieces"])
    assert "in the model: layers.1.feed_forward.w1" in picture and "12,288 parameters" in picture
    assert view.frame()["stops"]["head"] == []  # it has none: the slider is hidden
    view.part = "wk"
    view.text = "xy"
    assert [row["token"] for row in view.table()] == ["<|begin_of_text|>", "x", "y"]
    for field, wrong in (("layer", 2), ("head", 4), ("part", "w9"), ("text", 3)):
        with pytest.raises(ValueError, match=f"{field}={wrong!r} is not allowed"):
            setattr(view, field, wrong)
    view.part = "output"
    assert view.summary().startswith("After “y” this model expects")
    assert hooks_of(model) == 0


def test_the_model_runs_once_for_each_text(model):
    calls = []
    model.register_forward_hook(lambda *_: calls.append(1))
    view = ArchitectureTracer(model, Letters(), "abc")
    for part in ("w1", "wq", "output"):
        view.part = part
        view.frame()
    assert len(view.records()) == 2 * 15 + 3 and len(calls) == 1
    view.text = "abd"
    view.frame()
    view.text = "abc"
    view.frame()
    assert len(calls) == 2
    view.refresh()
    view.frame()
    assert len(calls) == 3


def test_calls_from_other_threads_are_not_recorded(model):
    seen = _Seen()
    handle = model.norm.register_forward_hook(seen.keep)
    other = threading.Thread(target=model, args=(torch.tensor([IDS]),))
    other.start()
    other.join()
    assert seen.output.numel() == 0
    model(torch.tensor([IDS]))
    assert seen.output.shape[0] == len(IDS)
    handle.remove()


@pytest.mark.parametrize("width", [200, 270, 470])
def test_boxes_of_the_diagram_do_not_overlap(width):
    found = boxes(width)
    assert set(found) == {part.key for part in PARTS}
    for (x, y, wide, high), (left, top, w, h) in itertools.combinations(found.values(), 2):
        assert left >= x + wide or x >= left + w or top >= y + high or y >= top + h
        assert max(x + wide, left + w) <= width


def test_squares_fill_their_places_by_area():
    found = squares([[0.5, -1.0], [None, 0.25]], 60, 100)
    assert [(one.x, one.y) for one in found] == [(15, 15), (45, 15), (15, 45), (45, 45)]
    assert [one.sign for one in found] == [1, -1, 0, 1]
    areas = [one.side**2 for one in found]
    assert areas[0] / areas[1] == pytest.approx(0.5)
    assert areas[3] / areas[1] == pytest.approx(0.25)
    assert found[1].side == pytest.approx(0.94 * 30) and found[2].side == 15
    assert squares([[0.0]], 30, 30)[0].side == 0


TINY = """from llama3lib.checkpoint import load_model, load_tokenizer
from widgets import ArchitectureTracer
view = ArchitectureTracer(load_model("tiny-base"), load_tokenizer("tiny-base"), "A cat <b>sat</b>")
view"""


@pytest.mark.browser
def test_the_diagram_is_walked_by_arrows(open_notebook):
    page = open_notebook([TINY])
    root = page.locator(".l3-view")
    root.locator("[data-key=inner_attention]").click()
    for key, part in (("ArrowDown", "wo"), ("ArrowUp", "inner_attention"), ("Home", PARTS[0].key)):
        page.page.keyboard.press(key)
        page.python_becomes("view.part", repr(part))
        page.page.wait_for_function(
            "(part) => document.querySelector('.l3-view').dataset.part === part", arg=part
        )
        assert root.locator("[aria-selected=true]").get_attribute("data-key") == part
    assert root.locator("input[data-trait=head]").is_hidden()
    assert root.locator(".l3-picture b").count() == 0  # the text stays text
    root.locator("[data-key=w1]").click()
    root.locator(".l3-code summary").click()
    root.locator(".l3-code mark").filter(has_text="self.w1(x)").wait_for()
    text = root.locator("input[data-trait=text]")
    text.fill("Lena")
    page.python_becomes("view.text, view.table()[-1]['token'][-1]", "('Lena', 'a')")
    root.locator(".l3-picture text").filter(has_text="ena").first.wait_for()
