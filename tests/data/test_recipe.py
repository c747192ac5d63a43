"""Recipes: what is refused and how it is told, and what a recipe says of itself."""

import json

import pytest

from llama3lib.data.document import CorpusStep, DocumentStep
from llama3lib.data.recipe import (
    STEPS,
    WEB,
    load_recipe,
    make_recipe,
    make_step,
    settings_of,
    web_recipe,
)

MODELS = {"quality", "quality_rank", "kind"}  # need a trained classifier


def refused(told, *parts):
    with pytest.raises(ValueError) as caught:
        make_recipe(told)
    for part in parts:
        assert part in str(caught.value)


def step(**settings):
    return {"steps": [settings]}


def test_the_web_recipe_is_in_the_order_of_the_paper():
    order = "extract url_dedup strip_markdown language minhash_dedup line_dedup repetition"
    order += " word_list gopher outliers pii"
    assert [one.name for one in web_recipe().steps] == order.split()
    assert web_recipe().title.startswith("Web pages")


def test_every_step_can_be_made_by_its_name_and_told_again():
    for name, kind in STEPS.items():
        settings = {"model": "folder"} if name in MODELS else {}
        made = make_step({"use": name, **settings})
        assert type(made) is kind and isinstance(made, DocumentStep | CorpusStep)
        assert made.name == name and kind.__doc__
        assert make_step({"use": name, **settings_of(made)}) == made


def test_describe_round_trip_straight_and_through_json():
    recipe = web_recipe(gopher={"word_length": (2, 9)}, language={"keep": ["en", "de"]})
    for told in (recipe.describe(), json.loads(json.dumps(recipe.describe()))):
        again = make_recipe({"title": recipe.title, "steps": told})
        assert again == recipe and again.describe() == recipe.describe()


def test_describe_has_all_settings_and_no_more():
    rows = {row["use"]: row for row in web_recipe().describe()}
    assert rows["line_dedup"] == {
        "use": "line_dedup",
        "most": 6,
        "buckets": 1,
        "per_language": True,
        "least_characters": 1,
    }
    assert rows["minhash_dedup"]["bands"] == 20 and rows["gopher"]["least_words"] == 30


def test_web_recipe_with_changes():
    recipe = web_recipe(word_list={"words": ["a", "b"]}, minhash_dedup={"bands": 20})
    by_name = {one.name: one for one in recipe.steps}
    assert by_name["word_list"].words == ("a", "b") and by_name["minhash_dedup"].bands == 20
    assert by_name["minhash_dedup"].per_language is True
    with pytest.raises(ValueError, match="'gophers' is not known: did you mean 'gopher'"):
        web_recipe(gophers={})
    with pytest.raises(ValueError, match="did you mean 'bands'"):
        web_recipe(minhash_dedup={"band": 3})


@pytest.mark.parametrize(
    ("told", "parts"),
    [
        ({}, ["steps", "empty"]),
        ({"steps": []}, ["steps", "empty"]),
        ({"steps": "pii"}, ["steps"]),
        ({"steps": {"use": "pii"}}, ["steps"]),
        ({"steps": ["pii"]}, ["'pii'", "use = NAME"]),
        ({"steps": [{}]}, ["use = NAME"]),
        ({"steps": [{"use": 3}]}, ["use = NAME"]),
        ({"title": "x", "step": [{"use": "pii"}]}, ["'step'", "did you mean 'steps'"]),
        (step(use="goper"), ["'goper'", "did you mean 'gopher'"]),
        (step(use="zzzz"), ["'zzzz'", "one of", "minhash_dedup"]),
        (step(use="pii", most_fre=3), ["pii", "'most_fre'", "did you mean 'most_free'"]),
        (step(use="pii", xyzzy=3), ["'xyzzy'", "one of", "most_free"]),
        (step(use="pii", name="other"), ["'name'"]),
        (step(use="quality"), ["quality.model is missing"]),
        (step(use="kind"), ["kind.model is missing"]),
        ({"steps": [{"use": "pii"}, {"use": "pii", "most_free": 1}]}, ["'pii'", "twice"]),
    ],
)
def test_unknown_names_are_told_with_the_nearest(told, parts):
    refused(told, *parts)


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({"use": "line_dedup", "most": "six"}, ["line_dedup.most='six'", "int"]),
        ({"use": "line_dedup", "most": 6.0}, ["line_dedup.most=6.0", "int"]),
        ({"use": "line_dedup", "most": True}, ["line_dedup.most=True", "int"]),
        ({"use": "line_dedup", "per_language": 1}, ["per_language=1", "bool"]),
        ({"use": "language", "least": "x"}, ["language.least='x'", "float"]),
        ({"use": "language", "least": True}, ["language.least=True", "float"]),
        ({"use": "language", "least": float("nan")}, ["language.least=nan"]),
        ({"use": "language", "keep": "en"}, ["language.keep='en'", "a list"]),
        ({"use": "language", "keep": [1]}, ["language.keep=1", "str"]),
        ({"use": "word_list", "words": ["a", 2]}, ["word_list.words=2", "str"]),
        ({"use": "repetition", "top": ["a"]}, ["repetition.top='a'", "float"]),
        ({"use": "gopher", "word_length": ["a", "b"]}, ["gopher.word_length='a'"]),
        ({"use": "gopher", "word_length": [1.0]}, ["word_length=[1.0]", "a list of 2"]),
        ({"use": "gopher", "word_length": [1.0, 2.0, 3.0]}, ["a list of 2"]),
        ({"use": "quality", "model": 3}, ["quality.model=3", "str"]),
        # values that the step itself refuses; the message has the step's name
        ({"use": "line_dedup", "most": 0}, ["line_dedup: most=0"]),
        ({"use": "minhash_dedup", "bands": -1}, ["minhash_dedup: bands=-1"]),
        ({"use": "language", "least": 2}, ["language: least=2"]),
        ({"use": "downsample", "most_share": 0.0}, ["downsample: most_share=0.0"]),
    ],
)
def test_wrong_values_are_told(settings, parts):
    refused({"steps": [settings]}, *parts)


def test_lists_become_tuples_and_whole_numbers_do_for_fractions():
    made = make_step({"use": "gopher", "word_length": [2, 9.5], "letters": 1})
    assert made.word_length == (2, 9.5) and made.letters == 1
    assert make_step({"use": "language", "keep": []}).keep == ()
    assert make_step({"use": "outliers", "most_nats": float("inf")}).most_nats == float("inf")


def test_files(tmp_path):
    path = tmp_path / "web.toml"
    path.write_text(WEB, encoding="utf-8")
    assert load_recipe(path) == load_recipe(str(path)) == web_recipe()
    path.write_text('[[steps]]\nuse = "kind"\nmodel = "models/kind"\n', encoding="utf-8")
    assert load_recipe(path).steps[0].model == str(tmp_path / "models/kind")
    assert load_recipe(path).title == "Recipe"


@pytest.mark.parametrize(
    "raw", [b"", b"steps", b"\xff\xfe", b"steps = 3", b"title = 'x'", b"a = " + b"[" * 100_000]
)
def test_files_that_are_no_recipe(tmp_path, raw):
    path = tmp_path / "recipe.toml"
    path.write_bytes(raw)
    with pytest.raises(ValueError, match="recipe|steps"):
        load_recipe(path)


def test_missing_files_and_folders(tmp_path):
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(ValueError, match="cannot be read"):
            load_recipe(path)


def test_models_stay_where_they_are_told_without_a_folder(tmp_path):
    assert make_step({"use": "kind", "model": "here"}).model == "here"
    absolute = str(tmp_path / "model")
    assert make_step({"use": "kind", "model": absolute}, tmp_path / "other").model == absolute
