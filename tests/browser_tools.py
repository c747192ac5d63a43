"""A real JupyterLab in a real Chromium: start both, open notebooks, move controls, measure."""

import contextlib
import json
import os
import secrets
import shutil
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parent.parent
_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome", "chrome.exe", "msedge.exe")
_MAC = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"
_FLAGS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
)
# a panel's kernel is ready once its session says so and the kernel is idle
_READY = """() => { const panel = window.jupyterapp?.shell.currentWidget;
  const session = panel?.context?.sessionContext;
  return !!(panel?.context.isReady && session?.isReady
    && session.session?.kernel?.status === 'idle'); }"""
# the result is stored and polled: waiting inside the page would have no time limit
_RUN_ALL = """() => { window.l3ran = null;
  window.jupyterapp.commands.execute('notebook:run-all-cells')
    .then(() => { window.l3ran = 'ok'; }, (error) => { window.l3ran = 'error: ' + error; }); }"""
_THEME = """(theme) => { window.l3theme = null;
  window.jupyterapp.commands.execute('apputils:change-theme', { theme })
    .then(() => { window.l3theme = 'ok'; }, (e) => { window.l3theme = 'error: ' + e; }); }"""
_BACK = {
    "ArrowRight": "ArrowLeft",
    "ArrowLeft": "ArrowRight",
    "ArrowDown": "ArrowUp",
    "ArrowUp": "ArrowDown",
}
# anywidget gives up on a widget after two seconds, which a busy machine needs for a long page
_PATIENT = """const limit = AbortSignal.timeout.bind(AbortSignal);
AbortSignal.timeout = (ms) => limit(30 * ms);"""
# from the key press to the frame after the redraw
_MEASURE = """(element) => { const root = element.closest('.l3'); root.l3times = []; let start = 0;
  element.addEventListener('keydown', () => { start = performance.now(); }, true);
  root.addEventListener('l3-drawn', () => {
    requestAnimationFrame(() => {
      if (start) { root.l3times.push(performance.now() - start); start = 0; }
    }); }); }"""


def missing(what: str) -> None:
    """Skip on a learner's machine; fail where REQUIRE_BROWSER=1, so that no gate is open."""
    text = f"browser tests need {what}"
    if os.environ.get("REQUIRE_BROWSER") == "1":
        pytest.fail(text)
    pytest.skip(text)


def find_chromium() -> str | None:
    """Path of an installed Chromium or Chrome, or None. CHROMIUM_PATH goes first."""
    for name in (os.environ.get("CHROMIUM_PATH"), *_NAMES, _MAC):
        if name and (path := shutil.which(name)):
            return path
    return None


def _is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


class Browser:
    """A Chromium driven by playwright."""

    @staticmethod
    @contextlib.contextmanager
    def open() -> Iterator[object]:
        try:
            from playwright.sync_api import sync_playwright
        except ImportError:
            missing("the package playwright")
        path = find_chromium() or missing("Chromium or Chrome (CHROMIUM_PATH names it)")
        flags = [*_FLAGS, *(["--no-sandbox"] if _is_root() else [])]
        with sync_playwright() as play:
            browser = play.chromium.launch(executable_path=path, args=flags)
            yield browser
            browser.close()


class Lab:
    """A JupyterLab with folders of its own, so that the user's settings play no part."""

    def __init__(self, url: str, token: str, root: Path) -> None:
        self.url, self.token, self.root = url, token, root

    @classmethod
    @contextlib.contextmanager
    def start(cls, home: Path) -> Iterator["Lab"]:
        root, token = home / "root", secrets.token_hex(16)
        root.mkdir()
        settings = home / "settings" / "@jupyterlab"
        _write(
            settings / "apputils-extension" / "notification.jupyterlab-settings",
            {
                "fetchNews": "false",
                "checkForUpdates": False,
                "doNotDisturbMode": True,
            },
        )
        names = ("CONFIG", "DATA", "RUNTIME")
        env = os.environ | {f"JUPYTER_{n}_DIR": str(home / n.lower()) for n in names}
        env |= {
            "IPYTHONDIR": str(home / "ipython"),
            "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "LLAMA3_COURSE_PROGRESS": str(home / "progress.json"),
            "CI": os.environ.get("CI", ""),
        }
        command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", "--port=0"]
        command += [f"--ServerApp.root_dir={root}", f"--IdentityProvider.token={token}"]
        command += ["--LabApp.expose_app_in_browser=True"]
        command += ["--allow-root"] if _is_root() else []
        with open(home / "lab.log", "w", encoding="utf-8") as log:
            server = subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT)
            try:
                yield cls(_wait(server, home, token), token, root)
            finally:
                server.terminate()
                try:
                    server.wait(15)
                except subprocess.TimeoutExpired:
                    server.kill()

    def open(self, browser: object, notebook: Path | list[str], *, theme: str = "light") -> "Page":
        """Copy a notebook (or make one of these cells), open it alone, run all its cells."""
        name = f"{secrets.token_hex(4)}.ipynb"
        if isinstance(notebook, list):
            cells = [nbformat.v4.new_code_cell(source) for source in notebook]
            kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
            nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), self.root / name)
        else:
            shutil.copy(notebook, self.root / name)
        dark = "JupyterLab Dark" if theme == "dark" else "JupyterLab Light"
        settings = self.root.parent / "settings" / "@jupyterlab" / "apputils-extension"
        _write(settings / "themes.jupyterlab-settings", {"theme": dark})
        return Page(browser, self, name)


class Page:
    """A notebook in the browser. Everything of playwright's page is at `.page`."""

    def __init__(self, browser: object, lab: Lab, name: str) -> None:
        self.name = name
        self.page = browser.new_page(viewport={"width": 1280, "height": 1000})
        self.page.set_default_timeout(60_000)
        self.page.add_init_script(_PATIENT)
        self.errors: list[str] = []
        self.outside: list[str] = []
        own = (lab.url, "data:", "blob:", "ws:")
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on(
            "request", lambda r: None if r.url.startswith(own) else self.outside.append(r.url)
        )
        self.page.goto(f"{lab.url}doc/tree/{name}?token={lab.token}")
        self.page.wait_for_function(_READY)
        self.page.evaluate(_RUN_ALL)
        self.page.wait_for_function("() => window.l3ran", timeout=600_000)
        assert self.page.evaluate("() => window.l3ran") == "ok"
        error = ".jp-RenderedText[data-mime-type='application/vnd.jupyter.error']"
        assert self.page.locator(error).count() == 0, self.page.locator(error).first.inner_text()

    def locator(self, selector: str) -> object:
        """Playwright's locator."""
        return self.page.locator(selector)

    def set_theme(self, theme: str) -> None:
        """Switch the open page to "light" or "dark"."""
        self.page.evaluate(_THEME, f"JupyterLab {theme.title()}")
        # Lab covers the page meanwhile; a second switch before the cover is gone fails inside Lab
        self.page.wait_for_function(
            """(light) => window.l3theme && !document.getElementById('jupyterlab-splash')
            && document.body.dataset.jpThemeLight === light""",
            arg=str(theme != "dark").lower(),
        )
        assert self.page.evaluate("() => window.l3theme") == "ok"

    def python(self, expression: str) -> str:
        """repr of an expression in the notebook's kernel."""
        return self.page.evaluate(
            """async (code) => {
            const session = window.jupyterapp.shell.currentWidget.context.sessionContext.session;
            const reply = await session.kernel.requestExecute(
              { code: '', user_expressions: { it: code } }).done;
            const it = reply.content.user_expressions.it;
            return it.status === 'ok' ? it.data['text/plain'] : 'error: ' + it.evalue; }""",
            expression,
        )

    def python_becomes(self, expression: str, want: str, seconds: float = 10) -> None:
        """Wait until the kernel agrees: moves reach it a moment after the picture has changed."""
        deadline = time.monotonic() + seconds
        while (told := self.python(expression)) != want and time.monotonic() < deadline:
            self.page.wait_for_timeout(50)
        assert told == want, f"{expression} is {told}, not {want}"

    def median_move_ms(self, control: object, key: str = "ArrowRight", moves: int = 20) -> float:
        """Median time from a key press on a control to the frame after its widget was redrawn.

        Ends `moves` steps along. A control with fewer than 20 steps is moved there and back
        first, so that the median is always over 20 moves or more.
        """
        control.evaluate(_MEASURE)
        control.focus()
        there_and_back = [key, _BACK.get(key, key)] * ((max(0, 20 - moves) + 1) // 2)
        for done, pressed in enumerate([*there_and_back, *[key] * moves], start=1):
            self.page.keyboard.press(pressed)
            self.page.wait_for_function(
                "([element, n]) => element.closest('.l3').l3times.length >= n",
                arg=[control.element_handle(), done],
                timeout=10_000,
            )
        times = control.evaluate("(element) => element.closest('.l3').l3times")
        median = statistics.median(times)
        print(f"median of {len(times)} moves: {median:.1f} ms (slowest {max(times):.1f})")
        return median

    def screenshot(self, name: str, selector: str | None = None) -> Path:
        """A picture in the folder LLAMA3_SCREENSHOTS, or nowhere if that is not set."""
        folder = Path(os.environ.get("LLAMA3_SCREENSHOTS") or os.devnull)
        if folder == Path(os.devnull):
            return folder
        folder.mkdir(parents=True, exist_ok=True)
        target = self.page.locator(selector).first if selector else self.page
        target.screenshot(path=str(folder / f"{name}.png"))
        return folder / f"{name}.png"

    def finish(self) -> None:
        """Free the kernel's memory; fail on page errors and on requests that left the machine."""
        with contextlib.suppress(Exception):
            self.page.evaluate(
                "() => window.jupyterapp.shell.currentWidget.context.sessionContext.shutdown()"
            )
        self.page.close()
        assert not self.errors, self.errors
        assert not self.outside, f"the notebook reached for the network: {self.outside}"


def _write(path: Path, data: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data), encoding="utf-8")


def _wait(server: subprocess.Popen, home: Path, token: str, seconds: float = 90) -> str:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and server.poll() is None:
        for info in (home / "runtime").glob("jpserver-*.json"):
            with contextlib.suppress(OSError, ValueError):
                url = json.loads(info.read_text(encoding="utf-8"))["url"]
                urllib.request.urlopen(f"{url}api/status?token={token}", timeout=5).close()
                return url
        time.sleep(0.1)
    log = (home / "lab.log").read_text(encoding="utf-8")
    pytest.fail("JupyterLab did not start:\n" + log[-3000:])
