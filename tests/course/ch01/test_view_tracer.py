"""The architecture tracer: hooks against a pass by hand, hooks gone, the view, JupyterLab."""

import pytest
import torch
import torch.nn.functional as F
import traitlets
from view_tools import kernel_says, run_js

from llama3lib.model import Transformer, get_preset
from llama3lib.model.rope import apply_rotary_emb
from widgets.ch01.views.trace import PARTS, attention_pattern, part_source, trace
from widgets.ch01.views.tracer import (
    BOXES,
    ArchitectureTracer,
    draw_tracer,
    run,
    shrink,
    squares,
    statistics,
    table_rows,
    token_label,
    view_of,
)

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
    views = [view_of(model, traced, "wk", 0, head) for head in range(4)]
    assert views[0]["cells"] == views[1]["cells"]
    assert views[0]["cells"] != views[2]["cells"]
    assert "KV head 1, read by query heads 2 to 3" in views[3]["note"]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.key)
def test_view_of_every_part(model, part):
    traced = run(model, Letters(), "ab <b>", max_tokens=5)
    view = view_of(model, traced, part.key, 1, 3)
    assert view["rows"] == ["<|begin_of_text|>", "a", "b", "␣", "<"]
    assert len(view["cells"]) == 5
    assert {len(row) for row in view["cells"]} == {len(view["columns"])}
    assert len(view["columns"]) <= 32
    assert len(table_rows(view)) == 5
    svg = draw_tracer(view, 2)
    assert svg.count("<rect") >= 18
    assert "<|" not in svg  # escaped


def test_values_that_are_not_numbers_are_said_so(model):
    with torch.no_grad():
        model.layers["0"].feed_forward.w2.weight[0, 0] = float("nan")
    view = view_of(model, run(model, Letters(), "ab"), "w2", 0, 0)
    assert any(None in row for row in view["cells"])
    assert "not a number" in str(table_rows(view))
    assert draw_tracer(view, 2)


def test_state_is_checked_and_the_view_follows(model):
    view = ArchitectureTracer(model, Letters(), "abc")
    assert view.view["part"] == "inner_attention"
    view.part, view.layer = "w1", 1
    assert (view.view["name"], view.view["parameters"]) == ("layers.1.feed_forward.w1", 64 * 192)
    view.text = "xy"
    assert view.view["rows"] == ["<|begin_of_text|>", "x", "y"]
    for field, wrong in (("layer", 2), ("head", 4)):
        with pytest.raises(traitlets.TraitError, match=f"{field}={wrong} is not allowed: 0 to"):
            setattr(view, field, wrong)
    with pytest.raises(traitlets.TraitError):
        view.part = "w9"
    view.part = "output"
    assert view.summary().startswith("After “y” this model expects")
    assert hooks_of(model) == 0


def test_boxes_of_the_diagram_do_not_overlap():
    assert set(BOXES) == {part.key for part in PARTS}
    boxes = list(BOXES.values())
    for i, (x, y, width, height) in enumerate(boxes):
        for left, top, wide, high in boxes[i + 1 :]:
            apart = left >= x + width or x >= left + wide or top >= y + height or y >= top + high
            assert apart


def test_javascript_agrees_with_python(node, tmp_path):
    cases = [
        [[[0.5, -1.0], [None, 0.25]], 500, 400],
        [[[0.0]], 30, 30],
        [[[1.0] * 32] * 5, 510, 400],
    ]
    for js, case in zip(run_js(node, tmp_path, "tracer", "squares", *cases), cases, strict=True):
        for square, want in zip(js, squares(*case), strict=True):
            assert square == pytest.approx(vars(want))


TINY = """import torch
from llama3lib.checkpoint import load_model, load_tokenizer
from widgets.ch01.views.tracer import ArchitectureTracer
view = ArchitectureTracer(load_model("tiny-base"), load_tokenizer("tiny-base"), "A cat <b>sat</b>")
view"""


@pytest.mark.browser
def test_in_jupyterlab(open_notebook):
    page = open_notebook([TINY])
    root = page.locator(".l3-tracer")
    root.wait_for()
    assert root.get_attribute("data-part") == "inner_attention"
    assert page.locator(".l3-tracer b").count() == 0  # the text stays text
    page.screenshot("tracer-light", ".l3-tracer")

    parts = page.locator(".l3-tracer [role=listbox]")
    parts.focus()
    page.page.keyboard.press("ArrowDown")
    page.page.wait_for_function("() => document.querySelector('.l3-tracer').dataset.part === 'wo'")
    kernel_says(page, "view.part, view.view['part']", "('wo', 'wo')")
    size = page.python("view.view['parameters']")
    assert f"{int(size):,}" in page.locator(".l3-tracer .facts").inner_text()
    chosen = page.locator(".l3-tracer [aria-selected=true]")
    assert chosen.get_attribute("data-key") == "wo"
    assert parts.get_attribute("aria-activedescendant") == chosen.get_attribute("id")
    assert page.locator(".l3-tracer input[data-trait=head]").is_disabled()

    page.locator(".l3-tracer [data-key=wk]").click()
    page.page.wait_for_function("() => document.querySelector('.l3-tracer').dataset.part === 'wk'")
    layer = page.locator(".l3-tracer input[data-trait=layer]")
    layer.focus()
    page.page.keyboard.press("ArrowRight")
    page.page.wait_for_function(
        "() => document.querySelector('.l3-tracer .facts').textContent.includes('layers.1.')"
    )
    kernel_says(page, "view.layer", "1")
    cells = page.locator(".l3-tracer path.cell.plus").get_attribute("d").count("M")
    kernel_says(page, "sum(v >= 0 for row in view.view['cells'] for v in row)", str(cells))
    parts.focus()
    page.page.keyboard.press("Home")
    page.page.wait_for_function(
        "() => document.querySelector('.l3-tracer').dataset.part === 'tok_embeddings'"
    )
    assert page.median_move_ms(parts, "ArrowDown", 17) <= 100
    page.locator(".l3-tracer [data-key=inner_attention]").click()
    page.page.wait_for_function(
        "() => document.querySelector('.l3-tracer').dataset.part === 'inner_attention'"
    )
    assert (
        page.median_move_ms(page.locator(".l3-tracer input[data-trait=head]"), "ArrowRight", 5)
        <= 100
    )


@pytest.mark.browser
def test_dark_theme(open_notebook):
    page = open_notebook([TINY.replace('</b>")', '</b>", part="w1")')], theme="dark")
    page.locator(".l3-tracer .cell").first.wait_for(state="attached")
    page.locator(".l3-tracer .source summary").click()
    page.screenshot("tracer-dark", ".l3-tracer")
    assert "self.w1(x)" in page.locator(".l3-tracer mark").inner_text()
