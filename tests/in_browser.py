"""What tests of a page in a real browser share; they are skipped, with the reason, where a part is missing."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SCREENS = [(width, scheme) for width in (400, 1200) for scheme in ("light", "dark")]
Visit = Callable[..., Any]  # (path, width=, scheme=) -> Playwright's page


@contextmanager
def chromium() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="needs: pip install playwright")
    if CHROMIUM is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@contextmanager
def visits(browser: Any) -> Iterator[Visit]:
    """A function that opens a page; at the end, no page may have written to the console or missed a file."""
    console: list[str] = []
    pages = []

    def visit(path: Path, *, width: int = 1200, scheme: str = "light") -> Any:
        size = {"width": width, "height": 800}
        page = browser.new_page(viewport=size, color_scheme=scheme, reduced_motion="reduce")
        pages.append(page)
        page.on("console", lambda message: console.append(message.text))
        page.on("pageerror", lambda error: console.append(str(error)))
        page.on("requestfailed", lambda request: console.append(request.url))
        page.goto(path.as_uri())
        return page

    yield visit
    for page in pages:
        page.close()
    assert console == []


def violations(page: Any) -> list[str]:
    """What axe-core finds wrong with the page as it is now."""
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="needs: pip install axe-playwright-python"
    )
    found = axe.Axe().run(page).response["violations"]
    return [f"{rule['id']}: {node['html']}" for rule in found for node in rule["nodes"]]
