"""The page in a real browser: each control works, nothing is refused or written to the console."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cpal.evaluation.doubt import JudgedImage, judge_classes
from cpal.method.groups import Group, Likeness
from cpal.report.charts import Curve
from cpal.report.page import Card, Layer, Prototypes, Report, ScoreRow, Scores, render_page
from cpal.running.times import Taken
from in_browser import SCREENS, Visit, violations

TITLES = ("Image", "CAM", "Pseudo-mask")
FREE = {"images": 1, "coverage": 1.0, "void": 0.0, "labels_found": 1.0, "label_f1": 1.0}


@pytest.fixture
def report(tmp_path: Path) -> Path:
    """The page of four images of two classes, whose pictures lie in a folder beside it."""
    (tmp_path / "images").mkdir()
    cards = [_card(tmp_path, i, ["a", "b", "c", "d"][i], ((1,), (2,), (1, 2), (2,))[i]) for i in range(4)]
    curve = Curve("reliability", [30, 90], [25, 95])
    scores = {
        step: Scores(
            {"without_truth": FREE, "miou": 50.0, "ece": 5.0}, {}, [ScoreRow("step", step, "", 50.0, 80.0, "t")], curve
        )
        for step in ("seed", "crf", "pseudo_mask", "segmentation")
    }
    curves = {"Training": [Curve("loss", [1, 2, 3], [3, 2, 1])]}
    verdicts = judge_classes([JudgedImage((1, 2), {}, None)] * 20, ["cat", "dog"])
    rest: Any = (None, verdicts, curves, cards, True, "All 4 images.", "seed: 0", {"numpy": "2"}, [])
    groups = [Group(3, 5, (Likeness("c", 0.9), Likeness("a", 0.8))), Group(0, 1, (Likeness("elsewhere", 0.7),))]
    prototypes = [Prototypes(1, groups), Prototypes(0, [])]
    sources = {key: cards[0].layers["CAM"] for row in prototypes for key in row.sources}
    times = {"prepare": Taken(30.0, 45.0, 200_000_000, 1)}
    content = Report(["cat", "dog"], "A run.", scores, *rest)
    content = replace(
        content,
        times=times,
        prototypes=prototypes,
        sources=sources,
    )
    (tmp_path / "index.html").write_text(render_page(content), encoding="utf-8")
    return tmp_path / "index.html"


@pytest.fixture
def page(visit: Visit, report: Path) -> Any:
    return visit(report)


def _card(folder: Path, index: int, name: str, classes: tuple[int, ...]) -> Card:
    """Its mIoU rises and its doubt rises with the index; the second one is a validation image."""
    layers = {}
    for title in TITLES:
        url = f"images/{name}_{title}.webp"
        Image.fromarray(np.full((30, 40, 3), 60 * index, np.uint8)).save(folder / url)
        layers[title] = Layer(url, 40, 30)
    split = "val" if index == 1 else "train"
    return Card(index, name, split, classes, 10.0 * index, 5.0 * index, ["cat: not found"], layers, "Pseudo-mask")


def _names(page: Any) -> str:
    return "".join(page.locator("#cards li:visible .name").all_inner_texts())


def test_filters_and_orders(page: Any) -> None:
    assert _names(page) == "abcd" and page.locator("#count").inner_text() == "4 of 4 images"
    page.select_option("#order", "sure")
    assert _names(page) == "dcba"
    page.select_option("#class", label="dog")
    assert _names(page) == "dcb" and page.locator("#count").inner_text() == "3 of 4 images"
    page.select_option("#split", "val")
    assert _names(page) == "b"
    page.select_option("#split", "")
    page.select_option("#order", "name")
    assert _names(page) == "bcd"
    page.fill("#name", "C")
    assert _names(page) == "c"


def test_all_pictures_can_be_loaded_and_changed_at_once(page: Any) -> None:
    def shown() -> list[str]:
        return page.eval_on_selector_all("#cards img:not([hidden])", "all => all.map(i => i.dataset.layer)")

    assert shown() == ["Pseudo-mask"] * 4
    page.select_option("#show", "CAM")
    assert shown() == ["CAM"] * 4
    page.locator("#cards").scroll_into_view_if_needed()  # far below, they are loaded when someone comes near
    for _ in range(100):  # not wait_for_function, whose eval the page's policy forbids
        if page.eval_on_selector_all("#cards img:not([hidden])", "all => all.every(i => i.naturalWidth)"):
            return
        page.wait_for_timeout(50)
    pytest.fail("some pictures are not loaded")


def test_the_enlarged_view_works_by_keyboard_alone(page: Any) -> None:
    page.locator("#cards button").first.focus()
    page.keyboard.press("Enter")
    layer, name = page.locator("#viewer-layer"), page.locator("#viewer-name")
    assert (layer.inner_text(), name.inner_text()) == ("Pseudo-mask, 3 of 3", "a")
    page.keyboard.press("ArrowLeft")
    assert layer.inner_text() == "CAM, 2 of 3"
    assert page.locator("#layer").get_attribute("aria-valuetext") == "CAM"
    assert "class activation map" in page.locator("#viewer-words").inner_text().lower()
    page.keyboard.press("ArrowDown")
    assert (layer.inner_text(), name.inner_text()) == ("CAM, 2 of 3", "b"), "the layer stays from image to image"
    assert "not found" in page.locator("#viewer-facts").inner_text()
    page.keyboard.press("Escape")
    assert not page.locator("#viewer").is_visible()
    assert page.evaluate("document.activeElement.closest('li').dataset.name") == "a", "where it was opened"


def test_the_enlarged_view_works_by_mouse(page: Any) -> None:
    page.locator("a[data-card]").nth(2).click()
    assert page.locator("#viewer-name").inner_text() == "c"
    page.locator("#layer").fill("0")
    assert page.locator("#viewer-layer").inner_text() == "Image, 1 of 3"
    assert page.locator("#viewer-picture").get_attribute("src").endswith("images/c_Image.webp")
    page.click("#next")
    assert page.locator("#viewer-name").inner_text() == "d" and page.locator("#next").is_disabled()
    page.click("#previous")
    assert page.locator("#viewer-name").inner_text() == "c"
    page.click("#close")
    assert not page.locator("#viewer").is_visible()


def test_an_image_behind_a_prototype_is_enlarged(page: Any) -> None:
    """If it is on the page. Filters do not matter."""
    page.select_option("#class", label="cat")
    page.fill("#name", "a")
    links = page.locator("#prototypes a")
    assert links.all_inner_texts() == ["c", "a"] and page.locator("#prototypes li img").count() == 3
    links.first.click()
    assert page.locator("#viewer-name").inner_text() == "c"
    page.click("#close")
    page.locator("#prototypes summary").first.press("Enter")
    assert not links.first.is_visible()


@pytest.mark.parametrize(("width", "scheme"), SCREENS)
def test_anyone_can_read_it(visit: Visit, report: Path, width: int, scheme: str) -> None:
    page = visit(report, width=width, scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
    assert violations(page) == []
    page.locator("a[data-card]").first.click()
    assert violations(page) == []


def test_a_script_that_is_not_the_pages_own_does_not_run(browser: Any, page: Any) -> None:
    other = browser.new_page()
    text = page.content().replace("</body>", "<script>document.title = 'run'</script></body>")
    other.set_content(text)
    assert other.title() == "CPAL report"
    other.close()
