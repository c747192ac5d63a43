"""A lazy package has the names of its modules, and imports a module when one is asked for."""

import subprocess
import sys

import pytest

import llama3lib.checkpoint
import llama3lib.inference


@pytest.mark.parametrize("package", [llama3lib.checkpoint, llama3lib.inference])
def test_every_name_is_found_and_no_other(package):
    for name in package.__all__:
        assert getattr(package, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        package.nonsense  # noqa: B018


def test_a_module_is_imported_when_its_name_is_asked_for():
    code = "import sys, llama3lib.inference as i; i.SamplingParams(); print('torch' in sys.modules)"
    code += "; i.sample; print('torch' in sys.modules)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.split() == ["False", "True"]
