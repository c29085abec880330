"""The comparison in a real browser: what can be operated works, anyone can read it, the console is silent."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cpal.compare.changes import Gallery, Group, Pictures
from cpal.compare.comparison import Cell, Compared, Comparison, Row, render_comparison
from cpal.report.charts import Curve
from cpal.report.page import embedded
from in_browser import SCREENS, Visit, violations

RUNS = ("HEAD", "an-experiment-with-a-long-name", "workspace")
FILES = "9 files: cpal/method/prototypes.py, cpal/method/learner.py, stages/train_segmentation.py, ..."


@pytest.fixture
def comparison(tmp_path: Path) -> Path:
    """The page of three runs, two of which have changed images."""
    cells = [Cell("50.0", 50.0), Cell("47.5", 47.5, -2.5, "-2.5"), Cell("60.0", 60.0, 10.0, "+10.0", older=True)]
    rows = [Row(name, cells, "Equal pixels.") for name in ("background", "cat", "a class with a name of many words")]
    settings = [Row("segmentation.checkpoint_interval", [Cell(text) for text in ("50", "[1, 2, 3, 4]", "50")])]
    curves = [Curve(name, [1, 2, 3], [3, 2, 1]) for name in RUNS]
    picture = embedded(np.full((30, 40, 3), 120, np.uint8))
    layers = {name: picture for name in ("Image", "Ground truth", *RUNS)}
    notes = {name: "mIoU 80.1, -3.2, 12.5% of the pixels differ" for name in RUNS}
    images = [Pictures(name, layers, notes) for name in ("train_0001", "a_long_name_" * 8)]
    content = Comparison(
        runs=[Compared(name, "0123456789", FILES, "all there", "get them: dvc fetch --all-commits") for name in RUNS],
        notes=["Seeds: the mIoU is of other images in each run."],
        settings=settings,
        scores=rows,
        classes=[("Pseudo-masks", rows), ("Segmentation", rows)],
        figures=[("Seeds", rows), ("CRF", rows)],
        curves={"Segmentation: Loss": curves},
        gallery=Gallery(
            ["cat", "dog"], [Group("Pseudo-masks", ["HEAD: 2 of 5 images differ."], images)], ["Left out."]
        ),
    )
    (tmp_path / "comparison.html").write_text(render_comparison(content), encoding="utf-8")
    return tmp_path / "comparison.html"


@pytest.fixture
def page(visit: Visit, comparison: Path) -> Any:
    return visit(comparison)


def test_each_link_leads_to_its_section(page: Any) -> None:
    links = page.locator("nav a")
    assert links.count() == 7
    for place in range(7):
        links.nth(place).press("Enter")
        target = (links.nth(place).get_attribute("href") or "").removeprefix("#")
        top = page.locator(f"#title-{target}").evaluate("it => it.getBoundingClientRect().top")
        assert 0 <= top < 800 and page.locator(f"#title-{target}").inner_text() == links.nth(place).inner_text()
    page.keyboard.press("Home")
    page.locator(".skip").press("Enter")
    assert page.evaluate("location.hash") == "#main"


def test_tables_of_figures_open_by_keyboard_and_by_mouse(page: Any) -> None:
    tables, titles = page.locator("details table"), page.locator("summary")
    assert titles.all_inner_texts() == ["Seeds", "CRF"] and not tables.first.is_visible()
    titles.first.press("Enter")
    assert tables.first.is_visible() and not tables.nth(1).is_visible()
    titles.nth(1).click()
    titles.first.click()
    assert tables.nth(1).is_visible() and not tables.first.is_visible()


def test_all_pictures_can_be_loaded(page: Any) -> None:
    page.evaluate("for (const picture of document.images) picture.loading = 'eager'")
    page.wait_for_function("[...document.images].every(picture => picture.naturalWidth)")
    assert page.locator("img").count() == 2 * 5


@pytest.mark.parametrize(("width", "scheme"), SCREENS)
def test_anyone_can_read_it(visit: Visit, comparison: Path, width: int, scheme: str) -> None:
    page = visit(comparison, width=width, scheme=scheme)
    page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert violations(page) == []


def test_a_table_that_is_too_wide_is_scrolled_by_keyboard(visit: Visit, comparison: Path) -> None:
    page = visit(comparison, width=400)
    region = page.locator("#changed_settings .wide")
    region.focus()
    assert region.evaluate("it => it.scrollWidth > it.clientWidth")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("it => it.scrollLeft > 0", arg=region.element_handle())


def test_no_script_runs(browser: Any, comparison: Path) -> None:
    other = browser.new_page()
    text = comparison.read_text(encoding="utf-8")
    other.set_content(text.replace("</body>", "<script>document.title = 'run'</script></body>"))
    assert other.title() == "CPAL comparison"
    other.close()
