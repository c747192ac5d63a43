"""For tests of widgets: run a script's function in Node, and wait for the kernel's copy."""

import json
import subprocess
from pathlib import Path


def run_js(node: str, folder: Path, text: str, function: str, *cases: list) -> list:
    """Results of one exported function of a module's text, one for each list of arguments."""
    module = folder / "widget.mjs"  # Node takes .mjs for a module, whatever stands around it
    module.write_text(text, encoding="utf-8")
    code = (
        'import { readFileSync } from "node:fs";\n'
        f"import * as widget from {json.dumps(module.as_uri())};\n"
        'const cases = JSON.parse(readFileSync(0, "utf-8"));\n'
        f"const found = cases.map((given) => widget[{json.dumps(function)}](...given));\n"
        "console.log(JSON.stringify(found));"
    )
    done = subprocess.run(
        [node, "--input-type=module", "-e", code],
        input=json.dumps(list(cases)),
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def kernel_says(page: object, expression: str, want: str, tries: int = 50) -> None:
    """Wait until the kernel agrees: moves reach it a moment after the picture has changed."""
    for _ in range(tries):
        if (told := page.python(expression)) == want:
            return
        page.page.wait_for_timeout(100)
    assert told == want
