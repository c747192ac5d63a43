"""The model page against a reference written in loops, and its five seams."""

import inspect
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import llama3lib.model.transformer as page
from llama3lib.model import DocumentMask, ModelArgs, Transformer, get_preset
from llama3lib.model.flops import count_parameters

ARGS = ModelArgs(
    dim=24,
    n_layers=2,
    n_heads=6,
    n_kv_heads=2,
    ffn_dim=40,
    vocab_size=50,
    head_dim=8,
    max_seq_len=64,
)


def make(args=ARGS, dtype=torch.float64, seed=0):
    model = Transformer(args).to(dtype)
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():  # wide weights: a mistake shows far above rounding
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=dtype) * 0.3
    return model.eval()


def by_hand(model, tokens):
    """Scores of one row, head by head and position by position, float64, no shared code."""
    args, weights = model.args, {k: v.double() for k, v in model.state_dict().items()}

    def norm(x, name):
        return x / (x.pow(2).mean(-1, keepdim=True) + args.norm_eps).sqrt() * weights[name]

    def turn(vector, position):
        out = vector.clone()
        for i in range(args.head_dim // 2):
            angle = position * args.rope_theta ** (-2 * i / args.head_dim)
            c, s = math.cos(angle), math.sin(angle)
            a, b = vector[2 * i].clone(), vector[2 * i + 1].clone()
            out[2 * i], out[2 * i + 1] = a * c - b * s, a * s + b * c
        return out

    x = weights["tok_embeddings.weight"][tokens]
    group = args.n_heads // args.n_kv_heads
    for i in range(args.n_layers):
        w = {k.removeprefix(f"layers.{i}."): v for k, v in weights.items()}
        h = norm(x, f"layers.{i}.attention_norm.weight")
        q, k, v = (h @ w[f"attention.{n}.weight"].T for n in ("wq", "wk", "wv"))
        q, k, v = (t.view(len(tokens), -1, args.head_dim) for t in (q, k, v))
        mixed = torch.zeros_like(q)
        for head in range(args.n_heads):
            for t in range(len(tokens)):
                query = turn(q[t, head], t)
                keys = [turn(k[s, head // group], s) for s in range(t + 1)]
                scores = torch.stack([query @ key for key in keys]) / args.head_dim**0.5
                mixed[t, head] = scores.softmax(0) @ v[: t + 1, head // group]
        x = x + mixed.flatten(1) @ w["attention.wo.weight"].T
        h = norm(x, f"layers.{i}.ffn_norm.weight")
        gate = h @ w["feed_forward.w1.weight"].T
        up = h @ w["feed_forward.w3.weight"].T
        x = x + (gate * torch.sigmoid(gate) * up) @ w["feed_forward.w2.weight"].T
    return norm(x, "norm.weight") @ weights["output.weight"].T


@pytest.mark.parametrize("n_kv_heads", [1, 2, 6])
@pytest.mark.parametrize("tied", [True, False])
def test_logits_equal_the_reference_in_loops(n_kv_heads, tied):
    model = make(ARGS.replace(n_kv_heads=n_kv_heads, tie_embeddings=tied))
    tokens = torch.tensor([[3, 49, 0, 7, 7, 21]])
    assert torch.allclose(model(tokens)[0], by_hand(model, tokens[0]), atol=1e-10)


def test_float32_and_bfloat16_stay_near_float64():
    tokens = torch.randint(50, (2, 32), generator=torch.Generator().manual_seed(1))
    want = make()(tokens)
    scale = want.std()
    assert (make().float()(tokens) - want).abs().max() < 1e-4 * scale
    # bfloat16 has 8 bits: one rounding is 0.4 %, two blocks of them stay within a few per cent
    assert (make().bfloat16()(tokens) - want).pow(2).mean().sqrt() < 0.05 * scale


def test_packed_documents_equal_separate_runs_and_pass_no_gradient():
    model = make()
    first, second = torch.arange(1, 10), torch.arange(20, 33)
    ids = torch.tensor([[0] * len(first) + [1] * len(second)])
    mask = DocumentMask(ids)
    assert mask.positions().tolist()[0] == [*range(9), *range(13)]
    row = torch.cat([first, second])[None]
    packed = model(row, mask.positions(), mask)[0]
    alone = torch.cat([model(first[None])[0], model(second[None])[0]])
    assert torch.allclose(packed, alone, atol=1e-12)
    far = model(row, attn_metadata=mask)[0]  # positions that run on: only distances count
    assert torch.allclose(far, alone, atol=1e-10)
    assert not torch.allclose(model(row)[0], alone, atol=1e-3)

    stream = model.tok_embeddings(row).detach().requires_grad_()
    h = stream
    for layer in model.layers.values():
        h = layer(h, model.freqs_cis, mask.positions(), mask)
    h[0, len(first) :].sum().backward()
    assert stream.grad[0, : len(first)].abs().max() == 0
    assert stream.grad[0, len(first) :].abs().max() > 0


def test_no_token_sees_a_later_one():
    model, tokens = make(), torch.arange(12)[None]
    changed = tokens.clone()
    changed[0, 8] = 40
    difference = (model(tokens) - model(changed)).abs().amax(-1)[0]
    assert difference[:8].max() == 0 and difference[8:].min() > 0


@pytest.mark.parametrize("name", ["8B", "70B", "405B", "1B", "3B", "tiny", "small", "110m"])
def test_meta_device_builds_any_size_with_the_counted_parameters(name):
    with torch.device("meta"):
        model = Transformer(get_preset(name))
    assert all(p.device.type == "meta" for p in model.parameters())
    assert sum(p.numel() for p in model.parameters()) == count_parameters(model.args).total


def test_from_meta_to_real_weights():
    with torch.device("meta"):
        model = Transformer(ARGS.replace(tie_embeddings=True))
    model.to_empty(device="cpu")
    model.init_weights(torch.Generator().manual_seed(0))
    assert model.output.weight is model.tok_embeddings.weight
    again = Transformer(ARGS.replace(tie_embeddings=True))
    again.init_weights(torch.Generator().manual_seed(0))
    tokens = torch.arange(9)[None]
    assert torch.equal(model(tokens), again(tokens))
    assert model(tokens).std() > 0


def test_moving_the_model_never_rounds_the_position_table():
    model = make(dtype=torch.float32)
    table = model.freqs_cis.clone()
    assert table.dtype == torch.complex64
    assert torch.equal(model.bfloat16().freqs_cis, table)
    assert model.double().freqs_cis.dtype == torch.complex128
    assert "freqs_cis" not in model.state_dict()


@pytest.mark.parametrize(
    "tokens, positions, words",
    [
        (torch.zeros(1, 0, dtype=torch.long), None, "0 tokens"),
        (torch.zeros(1, 65, dtype=torch.long), None, "65 tokens"),
        (torch.zeros(1, 2, dtype=torch.long), torch.tensor([[0, 64]]), "position 64"),
        (torch.zeros(1, 2, dtype=torch.long), torch.tensor([[-1, 0]]), "position -1"),
    ],
)
def test_positions_outside_the_table_are_refused(tokens, positions, words):
    with pytest.raises(ValueError, match=words):
        make()(tokens, positions)


def test_seam_inner_attention_gets_ungrouped_heads_and_untouched_metadata():
    seen = []

    class Spy(nn.Module):
        def forward(self, q, k, v, attn_metadata):
            seen.append((q.shape, k.shape, v.shape, attn_metadata))
            return q

    model, note = make(), object()
    for layer in model.layers.values():
        layer.attention.inner_attention = Spy()
    model(torch.arange(5)[None], attn_metadata=note)
    assert seen == [((1, 5, 6, 8), (1, 5, 2, 8), (1, 5, 2, 8), note)] * 2


def test_seam_parts_may_be_missing_so_stages_chain_to_the_whole():
    model, tokens = make(), torch.arange(7)[None]
    want = model(tokens)
    first, last = make(), make()
    first.norm = first.output = None
    del first.layers["1"]
    last.tok_embeddings = None
    del last.layers["0"]
    assert torch.equal(last(first(tokens)), want)


def test_seam_half_the_heads_give_half_of_a_sum():
    model = make().layers["0"].attention
    table = make().freqs_cis
    x = torch.randn(1, 5, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    positions = torch.arange(5)[None]
    want, total = model(x, table, positions), 0
    for rank in range(2):
        part = make().layers["0"].attention
        for name in ("wq", "wk", "wv"):
            weight = getattr(model, name).weight
            getattr(part, name).weight = nn.Parameter(weight.chunk(2, 0)[rank])
        part.wo.weight = nn.Parameter(model.wo.weight.chunk(2, 1)[rank])
        total = total + part(x, table, positions)
    assert torch.allclose(total, want, atol=1e-12)


def test_rms_norm_is_the_formula():
    norm = nn.RMSNorm(4, eps=1e-5)
    x = torch.tensor([[1.0, -2.0, 3.0, -4.0]])
    assert torch.allclose(norm(x), x / math.sqrt(7.5 + 1e-5))


def test_initial_loss_is_near_the_uniform_guess():
    model = Transformer(get_preset("tiny"))
    model.init_weights(torch.Generator().manual_seed(0))
    tokens = torch.randint(512, (4, 33), generator=torch.Generator().manual_seed(1))
    loss = F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
    assert abs(loss.item() - math.log(512)) < 0.1


def test_the_page_stays_a_page():
    assert len(inspect.getsource(page).splitlines()) <= 350
