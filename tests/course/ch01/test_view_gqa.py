"""The GQA explorer: formula against a real cache, state, wires, words."""

import re

import pytest

from llama3lib.model import get_preset
from widgets.ch01.views.gqa import GQAExplorer, cache_cost, kv_head_choices, sharing

GIB = 2**30


@pytest.mark.parametrize(
    "name, per_token, at_8k, at_128k, mha",
    [
        ("8B", 131_072, 1.0, 16.0, 64.0),
        ("70B", 327_680, 2.5, 40.0, 320.0),
        ("405B", 516_096, 3.9375, 63.0, 1008.0),
    ],
)
def test_cache_of_the_released_models(name, per_token, at_8k, at_128k, mha):
    args = get_preset(name)
    assert cache_cost(args, 8, 1024).bytes_per_token == per_token
    assert cache_cost(args, 8, 8192).cache_bytes / GIB == at_8k
    assert cache_cost(args, 8, 131_072).cache_bytes / GIB == at_128k
    assert cache_cost(args, args.n_heads, 131_072).cache_bytes / GIB == mha


def test_weights_read_are_those_of_the_model_without_its_input_embedding():
    args = get_preset("8B")
    assert cache_cost(args, 8, 1).weight_bytes == 2 * (8_030_261_248 - 128_256 * 4096)
    fewer = cache_cost(args, 8, 1).weight_bytes - cache_cost(args, 4, 1).weight_bytes
    assert fewer == 2 * 2 * 4 * 32 * 4096 * 128  # 2 bytes; wk and wv; 4 heads; 32 layers
    tied = get_preset("1B")
    assert cache_cost(tied, 8, 1).weight_bytes == 2 * 1_235_814_400


def test_neighbours_share_and_every_kv_head_serves_as_many():
    assert sharing(8, 2) == [0, 0, 0, 0, 1, 1, 1, 1]
    assert kv_head_choices(12) == [1, 2, 3, 4, 6, 12]
    for kv_heads in kv_head_choices(128):
        heads = sharing(128, kv_heads)
        assert {heads.count(kv) for kv in range(kv_heads)} == {128 // kv_heads}


def test_bad_numbers_of_heads_are_refused():
    with pytest.raises(ValueError, match="kv_heads=3 is not allowed: one of 1, 2, 4, 8"):
        sharing(8, 3)
    with pytest.raises(ValueError, match="kv_heads=0"):
        cache_cost(get_preset("8B"), 0, 1)
    with pytest.raises(ValueError, match="n_heads=0"):
        kv_head_choices(0)


def test_state_follows_the_model():
    view = GQAExplorer()
    assert (view.model, view.kv_heads, view.cost().cache_bytes / GIB) == ("405B", 8, 63.0)
    for field, wrong in (("kv_heads", 3), ("model", "9B"), ("context", 1000)):
        with pytest.raises(ValueError, match=f"{field}={wrong!r} is not allowed: one of"):
            setattr(view, field, wrong)
    with pytest.raises(ValueError, match="model='9B' is not allowed: one of 8B, 70B, 405B"):
        GQAExplorer("9B")
    view.kv_heads = 128
    view.model = "8B"
    assert view.kv_heads == 32  # the 8B has no 128 heads
    assert "no sharing" in view.summary()
    own = GQAExplorer("mine", sizes={"mine": get_preset("tiny")})
    assert own.kv_heads == 2


def test_picture_and_table_tell_the_same():
    view = GQAExplorer()
    frame = view.frame()
    assert frame["title"].startswith("405B: 16 query heads share each KV head")
    assert frame["facts"] == {"cache": str(63 * GIB)}
    picture = "".join(frame["pieces"])
    assert "63.0 GiB" in picture and "1,008 GiB" in picture
    rows = view.table()
    assert [row["cache"] for row in rows] == ["1,008 GiB", "63.0 GiB", "63.0 GiB", "7.875 GiB"]
    assert frame["notes"][0].endswith("63.0 GiB of cache + 752 GiB of weights = 815 GiB.")


@pytest.mark.parametrize("kv_heads", kv_head_choices(128))
def test_every_query_head_is_wired_to_its_kv_head(kv_heads):
    picture = "".join(GQAExplorer(kv_heads=kv_heads).frame()["pieces"])
    wires = re.findall(r'd="M([\d.]+) 45L([\d.]+) 130"', picture)
    keys = sorted({float(key) for _, key in wires})
    assert len(wires) == 128 and len(keys) == kv_heads
    assert [keys.index(float(key)) for _, key in wires] == sharing(128, kv_heads)
    assert f"query head 127 reads KV head {kv_heads - 1}" in picture


@pytest.mark.parametrize("kv_heads", [1, 8, 16, 128])
def test_groups_have_hues_of_their_own(kv_heads):
    """Up to eight groups differ in hue; of more, those of one hue are solid and hollow in turn."""
    picture = "".join(GQAExplorer(kv_heads=kv_heads).frame()["pieces"])
    looks = [
        re.search(rf'rx="2" fill="(\S+)" stroke="(\S+)"[^>]*data-key="KV {kv}"', picture).groups()
        for kv in range(kv_heads)
    ]
    assert len({stroke for _, stroke in looks}) == min(kv_heads, 8)
    assert len(set(looks[:16])) == min(kv_heads, 16)
    wires = re.findall(r'45L[\d.]+ 130" stroke="(\S+)"', picture)
    assert wires == [looks[kv][1] for kv in sharing(128, kv_heads)]


def test_the_slider_goes_from_few_to_many():
    stops = [stop for stop, _ in GQAExplorer().frame()["stops"]["kv_heads"]]
    assert (stops[0], stops[-1]) == (1, 128) and stops == sorted(stops)
