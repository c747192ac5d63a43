"""The trainer on meshes: any goes on from any, and what does not fit is said in one line."""

import pytest
import torch
from mesh_training import MESHES, Begun, Refused, Resumed, make_trainer, rows_of
from rank_tools import run_checks
from train_tools import sources

from llama3lib.train.mesh import mesh_changes

pytestmark = pytest.mark.distributed
WORLDS = sorted({mesh.dims.world for mesh in MESHES.values()})


def on_ranks(checks, world):
    """In this process where one is enough."""
    if world > 1:
        run_checks(checks, world)
    else:
        for check in checks:
            check()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """An undisturbed run, and one on each mesh that was left in its midst."""
    root = tmp_path_factory.mktemp("meshes")
    sources(root / "data")
    whole = make_trainer(root / "whole", root / "data")
    torch.save(rows_of(whole.fit), root / "rows.pt")
    for world in WORLDS:
        on_ranks([Begun(m, root) for m, mesh in MESHES.items() if mesh.dims.world == world], world)
    return root


@pytest.mark.parametrize("world", WORLDS)
def test_a_run_goes_on_from_any_mesh_on_any_other(root, world):
    here = [name for name, mesh in MESHES.items() if mesh.dims.world == world]
    pairs = [Resumed(old, new, root) for new in here for old in MESHES if old != new]
    on_ranks(pairs, world)


def test_what_does_not_fit_is_said_by_all_ranks(root):
    run_checks([Refused(root)], 2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("dp", "mesh='dp'"),
        ("dp=2,dp=2", "each once"),
        ("dp=", "mesh='dp='"),
        ("width=2", "width"),
    ],
)
def test_a_mesh_is_a_list_of_known_sizes(text, said):
    assert mesh_changes("dp=2, tp=4") == ["mesh.dp=2", "mesh.tp=4"]
    with pytest.raises(ValueError, match=said):
        mesh_changes(text)
