"""A real JupyterLab and a headless Chromium that reaches nothing but this machine."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}
_OFFLINE = "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"
_CONNECTED = """async () => {
  const context = window.jupyterapp.shell.currentWidget.sessionContext;
  await context.ready;
  while (context.session?.kernel?.connectionStatus !== "connected")
    await new Promise((resolve) => setTimeout(resolve, 50));
}"""
WAIT = 300_000
"""Milliseconds after which something counts as never coming."""


class Lab:
    """A page of JupyterLab with one notebook at a time."""

    def __init__(self, page: Any, folder: Path, screenshots: Path) -> None:
        self.page = page
        self._folder = folder
        self._screenshots = screenshots

    def run(self, name: str, *cells: str) -> None:
        """Open a notebook of these cells, and run them all."""
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(cell) for cell in cells],
            metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
        )
        nbformat.write(notebook, self._folder / f"{name}.ipynb")
        self._command("docmanager:open", {"path": f"{name}.ipynb"})
        self.page.wait_for_selector(".jp-Notebook .jp-Cell")
        self.page.evaluate(_CONNECTED)
        for _ in cells:
            self._command("notebook:run-cell-and-select-next")

    def clear(self) -> None:
        """Close the notebook."""
        self._command("docmanager:save")
        self._command("application:close-all")

    def _command(self, name: str, options: dict[str, str] | None = None) -> None:
        call = f"window.jupyterapp.commands.execute({name!r}, {json.dumps(options or {})})"
        self.page.evaluate(f"async () => {{ await {call}; return null }}")

    def use_theme(self, name: str) -> None:
        """Change the theme, and wait until the page has it."""
        self._command("apputils:change-theme", {"theme": name})
        self.until(f"() => document.body.dataset.jpThemeName === {name!r}")

    def see(self, selector: str) -> Any:
        """Return what a selector finds, once it is visible; say which cell failed instead."""
        error = "[data-mime-type='application/vnd.jupyter.stderr'] .ansi-red-fg"
        self.page.wait_for_selector(f"{selector}, {error}")
        failed = self.page.query_selector(error)
        if failed is not None:
            pytest.fail(failed.evaluate("e => e.closest('.jp-OutputArea').innerText"))
        return self.page.locator(selector)

    def until(self, script: str) -> None:
        """Wait for a JavaScript expression to be true."""
        self.page.wait_for_function(script)

    def screenshot(self, name: str) -> Path:
        """Keep a picture of the notebook."""
        path = self._screenshots / f"{name}.png"
        self.page.locator(".jp-NotebookPanel").screenshot(path=path)
        return path


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    """Return what runs a module that serves pages, and returns its address once it answers."""
    with ExitStack() as stack:

        def start(module: str, *options: object, **process: Any) -> str:
            with closing(socket.socket()) as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            log = tmp_path_factory.mktemp("log") / module
            command = [sys.executable, "-m", module, *map(str, options), f"--port={port}"]
            with log.open("wb") as output:
                server = subprocess.Popen(
                    command, stdout=output, stderr=subprocess.STDOUT, **process
                )
            stack.callback(server.wait, 60)
            stack.callback(server.terminate)
            url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 120
            while True:
                try:
                    urllib.request.urlopen(url).read()
                    return url
                except OSError:
                    assert server.poll() is None, log.read_text()
                    assert time.monotonic() < deadline, log.read_text()
                    time.sleep(0.2)

        yield start


@pytest.fixture(scope="module")
def lab_server(
    serve: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """Run JupyterLab over an empty folder; return its address and the folder."""
    jupyterlab = pytest.importorskip(
        "jupyterlab", reason="no JupyterLab: pip install 'fluxforge[browser]'"
    )
    home = tmp_path_factory.mktemp("lab")
    folder = home / "notebooks"
    folder.mkdir()
    for name, settings in _SETTINGS.items():
        path = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings))
    options = [
        "--no-browser", "--allow-root", "--ip=127.0.0.1", "--ServerApp.token=",
        "--expose-app-in-browser", "--ServerApp.disable_check_xsrf=True",
        f"--ServerApp.root_dir={folder}", "--LabApp.extension_manager=readonly",
    ]  # fmt: skip
    own = {
        "JUPYTERLAB_SETTINGS_DIR": home / "settings", "JUPYTERLAB_WORKSPACES_DIR": home / "work",
        "JUPYTER_CONFIG_DIR": home / "config", "JUPYTER_RUNTIME_DIR": home / "runtime",
        "PYTHONPATH": Path(__file__).parents[2],
        # Where packages come from another environment, their extensions lie in it, too.
        "JUPYTER_PATH": Path(jupyterlab.__file__).parents[4] / "share" / "jupyter",
    }  # fmt: skip
    environment = {**os.environ, **{name: str(path) for name, path in own.items()}}
    return serve("jupyterlab", *options, env=environment, cwd=folder), folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Run a headless Chromium that knows no other host than this one."""
    api = pytest.importorskip(
        "playwright.sync_api", reason="no playwright: pip install 'fluxforge[browser]'"
    )
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("no Chromium: apt-get install chromium")
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", _OFFLINE]
        )
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def page(lab_server: tuple[str, Path], browser: Any) -> Iterator[Any]:
    """Open JupyterLab: it takes its time."""
    context = browser.new_context(
        viewport={"width": 1100, "height": 5200}, timezone_id="America/New_York"
    )
    context.set_default_timeout(WAIT)
    opened = context.new_page()
    opened.goto(f"{lab_server[0]}/lab?reset", wait_until="commit")
    opened.wait_for_function("() => window.jupyterapp")
    opened.evaluate("async () => { await window.jupyterapp.restored; return null }")
    opened.evaluate("() => window.jupyterapp.commands.execute('application:toggle-left-area')")
    yield opened
    context.close()


@pytest.fixture
def lab(
    lab_server: tuple[str, Path], page: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Lab]:
    """Return JupyterLab with nothing open, whose pictures are kept beside the test run."""
    kept = Path(
        os.environ.get("FLUXFORGE_SCREENSHOTS") or tmp_path_factory.getbasetemp() / "screenshots"
    )
    kept.mkdir(parents=True, exist_ok=True)
    lab = Lab(page, lab_server[1], kept)
    yield lab
    lab.clear()
    kernels = f"{lab_server[0]}/api/kernels"
    for kernel in json.loads(urllib.request.urlopen(kernels).read()):
        end = urllib.request.Request(f"{kernels}/{kernel['id']}", method="DELETE")
        urllib.request.urlopen(end).read()
