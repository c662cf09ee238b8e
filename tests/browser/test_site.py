"""The documentation: built strictly without a network, and every page read without one."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROOT = Path(__file__).resolve().parents[2]
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if importlib.util.find_spec("mkdocs_jupyter") is None:
        pytest.skip("no mkdocs: pip install 'fluxforge[docs]'")
    folder = tmp_path_factory.mktemp("site")
    nbconvert = importlib.util.find_spec("nbconvert")
    assert nbconvert is not None
    environment = {
        **os.environ, "NO_MKDOCS_2_WARNING": "1", "http_proxy": NOWHERE, "https_proxy": NOWHERE,
        # Where packages come from another environment, their templates lie in it, too.
        "JUPYTER_PATH": str(Path(nbconvert.origin or "").parents[4] / "share" / "jupyter"),
    }  # fmt: skip
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return folder


def test_every_page_shows_with_the_network_cut(site: Path, browser: Browser) -> None:
    page, trouble = browser.new_page(offline=True), []
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on(
        "request", lambda one: one.url.startswith(("file:", "data:")) or trouble.append(one.url)
    )
    page.on("requestfailed", lambda one: trouble.append(f"{one.url}: {one.failure}"))
    pages = sorted(path for path in site.rglob("*.html") if path.name != "404.html")
    assert len(pages) > 20
    for path in pages:
        page.goto(path.as_uri())
        assert page.locator("article").inner_text().strip(), path
        links = page.eval_on_selector_all("a[href]", "all => all.map(one => one.href)")
        broken = [one for one in links if one.startswith("file:") and not there(one)]
        assert (broken, trouble) == ([], []), path
    page.close()


def there(link: str) -> bool:
    return Path(link.removeprefix("file://").partition("#")[0].partition("?")[0]).exists()
