"""Build the report's folder: judge every image, draw the chosen ones, render the page and the README's pictures."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from cpal.data.dataset import Dataset, Record
from cpal.evaluation.doubt import judge_classes
from cpal.report.gallery import embed, make_card, samples, save_layers, spread_over_ranks, strip_rows
from cpal.report.looks import Results, choose, look, worst_first
from cpal.report.page import Report, render_page, summarize

ROWS = 5  # of the README's picture
EMBEDDED = 15_000_000  # bytes of all pictures, up to which they lie in the page itself
Each = Callable[[str, Callable[[Record], Any], Sequence[Record]], list[Any]]  # results by record, and a title to show


def build_report(
    folder: Path, dataset: Dataset, results: Results, figures: dict[str, Any], each: Each, *, images: int, seed: int
) -> None:
    """Write index.html, its pictures, strips.png and samples.png into an empty folder.

    `figures`: the fields of Report that come from files of the run. `each` calls a function with each record. At most
    `images` images are shown; `seed` draws the random ones among them.
    """
    (folder / "images").mkdir()
    scored = "miou" in figures["scores"]["pseudo_mask"].metrics
    bare = replace(dataset, records=())  # what a process needs of the data set: it is sent with each image
    looks = each("compare results", lambda record: look(bare, record, results), dataset.records)
    looks = worst_first(looks, scored=scored)
    chosen, choice = choose(looks, images, seed=seed)
    names = {seen.record.image_id: f"{place:05}" for place, seen in enumerate(chosen)}

    def draw(record: Record) -> Any:
        return save_layers(bare, record, results, folder / "images" / names[record.image_id])

    layers = each("draw images", draw, [seen.record for seen in chosen])
    cards = [make_card(index, seen, *parts) for index, (seen, parts) in enumerate(zip(chosen, layers, strict=True))]
    report = Report(
        classes=dataset.classes,
        sentence=summarize(dataset),
        verdicts=judge_classes([seen.for_classes for seen in looks], dataset.classes),
        cards=embed(cards, folder, largest=EMBEDDED),
        choice=choice,
        **figures,
    )
    (folder / "index.html").write_text(render_page(report), encoding="utf-8")
    ranked = [seen for seen in looks if seen.record.split == "train" and seen.miou is not None][::-1]
    shown = spread_over_ranks(ranked, ROWS) or dataset.split("train", ROWS)
    for name, picture in {"strips.png": strip_rows(dataset, shown, results), "samples.png": samples(dataset)}.items():
        Image.fromarray(picture).save(folder / name, optimize=True)
