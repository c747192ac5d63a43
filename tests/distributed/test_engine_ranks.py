"""An engine on several processes writes what one process writes, and leaves none behind."""

import functools
import multiprocessing

import engine_checks as checks
import pytest
from engine_checks import Loaded, Prompts, Workloads
from rank_tools import name_of, run_checks

pytestmark = pytest.mark.distributed

LOADS = [(2, 1, range(25)), (1, 2, range(25, 50))], [(2, 2, range(50, 58)), (1, 4, range(58, 62))]
PROMPTS = [(2, 1), (1, 2)], [(2, 2)]
WORLDS = (2, 4)


@functools.cache
def outcome(world, folder):
    """What passed in one launch of all checks, and why it ended."""
    some = [Workloads(*load) for load in LOADS[WORLDS.index(world)]]
    for tp, pp in PROMPTS[WORLDS.index(world)]:
        some += [Prompts(tp, pp), Loaded(tp, pp, folder)]
    some += [checks.wrong_numbers_are_refused] if world == 2 else []
    try:
        return run_checks(some, world, seconds=240), ""
    except (AssertionError, TimeoutError) as error:
        return {}, str(error)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(tmp_path_factory.mktemp("folders"))


NAMES = [
    (world, str(check(*numbers)))
    for world, loads, prompts in zip(WORLDS, LOADS, PROMPTS, strict=True)
    for check, some in ((Workloads, loads), (Prompts, prompts))
    for numbers in some
]
NAMES += [(2, "a folder on tp 2 pp 1"), (2, "a folder on tp 1 pp 2"), (4, "a folder on tp 2 pp 2")]


@pytest.mark.parametrize(("world", "name"), [*NAMES, (2, "wrong_numbers_are_refused")])
def test_ranks(world, name, folder):
    passed, wrong = outcome(world, folder)
    assert name in passed, wrong


@pytest.mark.parametrize("check", [checks.one_dies, checks.one_hangs], ids=name_of)
def test_a_lost_rank_is_told_of(check):
    before = {child.pid for child in multiprocessing.active_children()}
    with pytest.raises(AssertionError, match=r"exit codes|9"):
        run_checks([check], 2, seconds=60)
    left = [child for child in multiprocessing.active_children() if child.pid not in before]
    assert not [child for child in left if child.name != "forkserver"]
