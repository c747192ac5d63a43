"""Rotary embedding against closed forms: lengths, distances, the released scaling, both layouts."""

import math

import pytest
import torch

from llama3lib.model import rope
from llama3lib.model.args import RopeScaling
from llama3lib.model.rope import (
    apply_rotary_emb,
    half_to_interleaved,
    interleaved_to_half,
    precompute_freqs_cis,
    rope_frequencies,
)


def test_frequencies_are_powers_of_theta():
    got = rope_frequencies(8, 10_000.0)
    want = torch.tensor([10_000.0 ** (-2 * i / 8) for i in range(4)], dtype=torch.float64)
    assert torch.allclose(got, want, rtol=1e-15)


def test_released_scaling_keeps_29_blends_6_divides_29():
    plain = rope_frequencies(128, 500_000.0)
    scaled = rope_frequencies(128, 500_000.0, RopeScaling())
    ratio = plain / scaled
    kept, divided = ratio == 1, torch.isclose(ratio, torch.tensor(8.0, dtype=torch.float64))
    blended = ~kept & ~divided
    assert (kept.sum(), blended.sum(), divided.sum()) == (29, 6, 29)
    assert blended.nonzero().flatten().tolist() == [29, 30, 31, 32, 33, 34]
    waves = (2 * math.pi / plain[blended]).round().long().tolist()
    assert waves == [2402, 2948, 3619, 4443, 5454, 6695]


def test_scaling_equals_the_wavelength_rule_written_out():
    scaling = RopeScaling(factor=32.0)
    for freq, got in zip(
        rope_frequencies(64, 5e5), rope_frequencies(64, 5e5, scaling), strict=True
    ):
        wave = 2 * math.pi / float(freq)
        if wave < 8192 / 4:
            want = float(freq)
        elif wave > 8192:
            want = float(freq) / 32
        else:
            smooth = (8192 / wave - 1) / (4 - 1)
            want = (1 - smooth) * float(freq) / 32 + smooth * float(freq)
        assert float(got) == pytest.approx(want, rel=1e-12)


def test_turning_keeps_lengths_and_scores_see_only_distance():
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 1, 1, 3, 16, generator=generator, dtype=torch.float64)
    table = precompute_freqs_cis(16, 500, 10_000.0, dtype=torch.complex128)

    def score(at_q, at_k):
        turned_q = apply_rotary_emb(q, table[torch.tensor([[at_q]])])
        turned_k = apply_rotary_emb(k, table[torch.tensor([[at_k]])])
        assert torch.allclose(turned_q.norm(), q.norm(), rtol=1e-12)
        return (turned_q * turned_k).sum(-1)

    assert torch.allclose(score(30, 10), score(320, 300), atol=1e-12)
    assert not torch.allclose(score(30, 10), score(31, 10), atol=1e-3)


def test_neighbours_are_paired_and_turned_anticlockwise():
    x = torch.tensor([1.0, 0.0, 0.0, 2.0]).view(1, 1, 1, 4)
    angles = torch.tensor([[[0.3, 1.1]]], dtype=torch.float64)
    got = apply_rotary_emb(x, torch.polar(torch.ones_like(angles), angles).to(torch.complex64))
    want = [math.cos(0.3), math.sin(0.3), -2 * math.sin(1.1), 2 * math.cos(1.1)]
    assert torch.allclose(got.flatten(), torch.tensor(want), atol=1e-6)


def test_the_two_layouts_differ_by_a_row_permutation_only():
    n_heads, head_dim, dim = 3, 8, 5
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(n_heads * head_dim, dim, generator=generator, dtype=torch.float64)
    x = torch.randn(1, 7, dim, generator=generator, dtype=torch.float64)
    table = precompute_freqs_cis(head_dim, 7, 10_000.0, dtype=torch.complex128)
    neighbours = apply_rotary_emb((x @ weight.T).unflatten(-1, (n_heads, -1)), table[None])

    halves = (x @ interleaved_to_half(weight, n_heads).T).unflatten(-1, (n_heads, -1))
    cos, sin = (part.repeat(1, 2)[None, :, None] for part in (table.real, table.imag))
    first, second = halves.chunk(2, -1)
    halves = halves * cos + torch.cat([-second, first], -1) * sin
    # the same numbers, in another order
    back = halves.unflatten(-1, (2, -1)).transpose(-1, -2).flatten(-2)
    assert torch.allclose(neighbours, back, atol=1e-12)
    assert torch.equal(half_to_interleaved(interleaved_to_half(weight, n_heads), n_heads), weight)
    assert not torch.equal(interleaved_to_half(weight, n_heads), weight)


@pytest.mark.parametrize("head_dim, theta", [(7, 1e4), (0, 1e4), (8, 0.0), (8, -1.0)])
def test_bad_sizes_are_refused(head_dim, theta):
    with pytest.raises(ValueError, match="is not allowed"):
        rope_frequencies(head_dim, theta)


def test_rows_that_do_not_split_into_heads_are_refused():
    for convert in (interleaved_to_half, half_to_interleaved):
        with pytest.raises(ValueError, match="n_heads=5"):
            convert(torch.zeros(16, 4), 5)


def test_far_positions_keep_float32_accuracy():
    table = precompute_freqs_cis(128, 131_072, 500_000.0)
    angle = 131_071 * float(rope_frequencies(128, 500_000.0)[1])
    assert abs(float(table[-1, 1].real) - math.cos(angle)) < 1e-6


def test_the_turn_written_out_is_the_same():
    x = torch.randn(2, 5, 3, 8, dtype=torch.float64)
    turn = precompute_freqs_cis(8, 16, 1e4, None, dtype=torch.complex128)[:5].unsqueeze(0)
    written_out = rope._turn_real(x, torch.view_as_real(turn))
    torch.testing.assert_close(written_out, apply_rotary_emb(x, turn), rtol=1e-12, atol=1e-12)
