"""The tools of the tests themselves: shapes are checked, a missing browser fails where it must."""

import jaxtyping
import pytest
import torch
from browser_tools import missing

from llama3lib.model import get_preset
from llama3lib.model.rope import apply_rotary_emb
from widgets.core.progress import default_path


def test_a_wrong_shape_or_dtype_is_found():
    turns = torch.ones(1, 3, 2, dtype=torch.complex64)
    assert apply_rotary_emb(torch.ones(1, 3, 2, 4), turns).shape == (1, 3, 2, 4)
    for wrong in (torch.ones(3, 2, 4), torch.ones(1, 3, 2, 4, dtype=torch.long)):
        with pytest.raises(jaxtyping.TypeCheckError):
            apply_rotary_emb(wrong, turns)


def test_values_are_left_to_the_library():
    """The checker must not answer in place of the library's own ValueError."""
    with pytest.raises(ValueError, match="dim"):
        get_preset("tiny").replace(dim="wide")


def test_a_missing_browser_skips_or_fails(monkeypatch):
    monkeypatch.delenv("REQUIRE_BROWSER", raising=False)
    with pytest.raises(pytest.skip.Exception, match="need Chromium"):
        missing("Chromium")
    monkeypatch.setenv("REQUIRE_BROWSER", "1")
    with pytest.raises(pytest.fail.Exception, match="need Chromium"):
        missing("Chromium")


def test_no_test_touches_the_progress_of_whoever_runs_it(tmp_path):
    assert default_path().is_relative_to(tmp_path)


def test_one_thread():
    assert torch.get_num_threads() == 1
