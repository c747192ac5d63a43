"""Run the arithmetic of a widget in Node, so that it can be held against Python's."""

import json
import subprocess
from pathlib import Path

from widgets.base import esm


def run_js(node: str, folder: Path, widget: str, function: str, *cases: list) -> list:
    """Results of one exported function of a widget's module, one for each list of arguments."""
    module = folder / f"{widget}.mjs"  # Node takes .mjs for a module, whatever stands around it
    module.write_text(esm(widget), encoding="utf-8")
    code = (
        f"import * as widget from {json.dumps(module.as_uri())};\n"
        f"const cases = {json.dumps(list(cases))};\n"
        f"const found = cases.map((given) => widget[{json.dumps(function)}](...given));\n"
        "console.log(JSON.stringify(found));"
    )
    done = subprocess.run(
        [node, "--input-type=module", "-e", code],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
