"""Build the report's folder: judge every image, draw the chosen ones, render the page and the README's pictures."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from cpal.data.dataset import Dataset, Record
from cpal.evaluation.doubt import ClassDoubt, judge_classes
from cpal.report.gallery import embed, make_card, samples, save_layers, spread_over_ranks, strip_rows
from cpal.report.image_results import (
    Each,
    ImageResult,
    Results,
    choose,
    compare_results,
    found_by_model,
    truth_tells_the_worst,
    worst_first,
)
from cpal.report.page import Layer, Prototypes, Report, render_page, summarize
from cpal.report.prototypes import draw_sources

ROWS = 5  # of the README's picture
EMBEDDED = 15_000_000  # bytes of all pictures, up to which they lie in the page itself


def build_report(
    folder: Path, dataset: Dataset, results: Results, figures: dict[str, Any], each: Each, *, images: int, seed: int
) -> Sequence[ClassDoubt]:
    """Write index.html, its pictures, strips.png and samples.png into an empty folder; returns what it says of classes.

    `figures`: the fields of Report that come from files of the run. At most `images` images are shown; `seed` draws the
    random ones among them.
    """
    bare = replace(dataset, records=())  # what a process needs of the data set: it is sent with each image
    compared = each("compare results", lambda record: compare_results(bare, record, results), dataset.records)
    by_truth = truth_tells_the_worst(compared)
    compared = worst_first(compared, by_truth=by_truth)
    chosen, choice = choose(compared, images, seed=seed)
    report = Report(
        classes=dataset.classes,
        sentence=summarize(dataset),
        verdicts=judge_classes([seen.for_classes for seen in compared], dataset.classes),
        by_truth=by_truth,
        choice=choice,
        unseen=found_by_model(compared),
        **draw_pictures(folder, dataset, results, chosen, figures["prototypes"] or (), each),
        **figures,
    )
    (folder / "index.html").write_text(render_page(report), encoding="utf-8")
    ranked = [seen for seen in compared if seen.record.split == "train" and seen.miou is not None][::-1]
    shown = spread_over_ranks(ranked, ROWS) or dataset.split("train", ROWS)
    for name, picture in {"strips.png": strip_rows(dataset, shown, results), "samples.png": samples(dataset)}.items():
        Image.fromarray(picture).save(folder / name, optimize=True)
    return report.verdicts


def draw_pictures(
    folder: Path,
    dataset: Dataset,
    results: Results,
    chosen: Sequence[ImageResult],
    prototypes: Sequence[Prototypes],
    each: Each,
) -> dict[str, Any]:
    """The fields of Report that hold pictures; those that do not lie in the page are written into folder/images."""
    (folder / "images").mkdir()
    bare = replace(dataset, records=())

    def draw(record: Record, path: Path) -> tuple[tuple[int, ...], dict[str, Layer]]:
        return save_layers(bare, record, results, path)

    paths = [folder / "images" / f"{place:05}" for place in range(len(chosen))]
    drawn = each("draw images", draw, [seen.record for seen in chosen], paths)
    sources = draw_sources(folder, dataset, results, prototypes, each)
    of_prototypes = [sources[key] for row in prototypes for key in row.sources]
    of_images = [layer for _, layers in drawn for layer in layers.values()]
    placed = embed([*of_images, *of_prototypes], folder, largest=EMBEDDED)
    cards = [
        make_card(index, seen, classes, {title: placed[layer] for title, layer in layers.items()})
        for index, (seen, (classes, layers)) in enumerate(zip(chosen, drawn, strict=True))
    ]
    return {"cards": cards, "sources": {key: placed[layer] for key, layer in sources.items()}}
