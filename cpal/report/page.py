"""One self-contained HTML page of a run, from plain data: no network, no script, no time of day.

Equal input gives equal bytes. All pictures are data URIs, all charts inline SVG.
"""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from cpal.data.dataset import Dataset
from cpal.data.masks import VOID
from cpal.maps.cams import MAP_NAMES
from cpal.maps.drawing import RAMP, class_palette
from cpal.report.charts import bar, line_chart
from cpal.report.css import STYLE

STEPS = {"seed": "Seeds", "crf": "CRF", "pseudo_mask": "Pseudo-masks", "segmentation": "Segmentation"}

# Names of classes and images come from data sets. They are escaped; should that fail once, a browser runs and fetches
# nothing nevertheless: it takes the page's own styles and pictures inside the page.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


@dataclass(frozen=True)
class Strip:
    """One image's way through the pipeline. `classes`: mask values seen in it; panels uint8 (H, W, 3) by title."""

    image_id: str
    score: str
    classes: tuple[int, ...]
    panels: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Gallery:
    title: str
    strips: Sequence[Strip]


@dataclass(frozen=True)
class Curve:
    name: str
    steps: Sequence[float]
    values: Sequence[float]


@dataclass(frozen=True)
class Scores:
    """`metrics` as evaluate writes them, without `miou` where there is no ground truth; `iou` in percent by class."""

    metrics: Mapping[str, Any]
    iou: Mapping[str, float]


@dataclass(frozen=True)
class Report:
    """What the page shows. `scores` has the keys of STEPS; `labels` are the metrics of our classifier, if there is one;
    `outs` are stage, path and hash; `facts` name what the result depends on besides data and settings."""

    classes: Sequence[str]
    sentence: str
    seed_source: str
    scores: Mapping[str, Scores]
    labels: Mapping[str, Any] | None
    curves: Mapping[str, Sequence[Curve]]
    galleries: Sequence[Gallery]
    params: str
    facts: Mapping[str, str]
    outs: Sequence[tuple[str, str, str]]


def summarize(dataset: Dataset) -> str:
    """The page's first sentence."""
    train, val, classes = len(dataset.split("train")), len(dataset.split("val")), dataset.classes
    names = f" ({', '.join(classes)})" if len(classes) <= 20 else ""
    return (
        f"From image-level labels to a segmentation model of {len(classes)} classes{names}: {train} training and {val} "
        "validation images, and no network that learned from a ground-truth mask."
    )


def render_page(report: Report) -> str:
    """The whole page."""
    sections = [
        ("Mean IoU", _scores(report)),
        ("IoU of each class", _class_table(report)),
        ("Without ground truth", _without_truth(report)),
        ("Training", _curves(report.curves)),
        ("Images", _galleries(report)),
        ("Settings and versions", _provenance(report)),
    ]
    body = "".join(f"<section><h2>{title}</h2>\n{content}</section>\n" for title, content in sections)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"><title>CPAL report</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" '
        f'content="light dark">\n<style>{STYLE}</style></head>\n<body><main>\n<header><h1>CPAL report</h1>'
        f"<p>{html.escape(report.sentence)}</p></header>\n{body}</main></body></html>\n"
    )


def _scores(report: Report) -> str:
    """The four steps, and within the seeds each map at each threshold."""
    rows = []
    for step, name in STEPS.items():
        metrics = report.scores[step].metrics
        note = f"made from {report.seed_source}" if step == "seed" else ""
        if "void" in metrics:
            note = f"{metrics['void']:.1f}% of the pixels void"
        if "miou" in metrics:
            rows.append(
                _row("step", name, note, metrics["miou"], metrics["pixel_accuracy"], metrics["scored"]["split"])
            )
        else:
            rows.append(f'<tr class="step"><th>{name}</th><td colspan="4" class="absent">{NOT_SCORED}</td></tr>\n')
        for source, map_name in {**MAP_NAMES, "walk": "WALK"}.items():
            part = metrics.get(source, {})
            for kind, name_of in (("", "threshold"), ("_otsu", "Otsu's threshold"), ("_oracle", "oracle threshold")):
                if part:
                    note = f"{name_of} {part[f'threshold{kind}']:.4g}"
                    rows.append(
                        _row(f"part{kind}", map_name, note, part[f"miou{kind}"], None, metrics["scored"]["split"])
                    )
        if "on_train" in metrics:
            part = metrics["on_train"]
            rows.append(
                _row("part", "on images it learned from", "", part["miou"], part["pixel_accuracy"], part["split"])
            )
    head = "<tr><th>Step</th><th></th><th>mIoU</th><th>Pixel accuracy</th><th>Split</th></tr>"
    return (
        "<p>In percent, over background and all classes. Pixels that are void in the ground truth do not count; void "
        "in a pseudo-mask counts as a miss. Otsu's threshold is read off the maps alone; the oracle's is the best on "
        "this ground truth: an upper bound.</p>"
        f'<div class="wide"><table class="scores"><thead>{head}</thead>\n<tbody>{"".join(rows)}</tbody></table></div>\n'
    )


def _row(kind: str, name: str, note: str, miou: float, accuracy: float | None, split: str) -> str:
    return (
        f'<tr class="{kind}"><th>{html.escape(name)}<small>{html.escape(note)}</small></th><td>{bar(miou)}</td>'
        f"<td>{miou:.1f}</td><td>{'' if accuracy is None else f'{accuracy:.1f}'}</td><td>{html.escape(split)}</td>"
        "</tr>\n"
    )


def _class_table(report: Report) -> str:
    shown = {step: report.scores[step] for step in STEPS if "miou" in report.scores[step].metrics}
    if not shown:
        return f'<p class="absent">{NOT_SCORED}</p>'
    head = "".join(
        f"<th>{STEPS[s]}<small>{html.escape(v.metrics['scored']['split'])}</small></th>" for s, v in shown.items()
    )
    rows = []
    for value, name in enumerate(("background", *report.classes)):
        cells = "".join(_cell(scores.iou.get(name)) for scores in shown.values())
        rows.append(f"<tr><th>{_chip(value, name)}</th>{cells}</tr>\n")
    mean = "".join(_cell(scores.metrics["miou"]) for scores in shown.values())
    complete = all(len(scores.iou) == len(rows) for scores in shown.values())
    return (
        f'<div class="wide"><table class="classes"><thead><tr><th>Class</th>{head}</tr></thead>\n<tbody>{"".join(rows)}'
        f"</tbody><tfoot><tr><th>mean</th>{mean}</tr></tfoot></table></div>"
        f"{'' if complete else '<p>–: neither in the ground truth nor found.</p>'}\n"
    )


def _without_truth(report: Report) -> str:
    """What cpal/evaluation/without_truth.py and cpal/evaluation/image_labels.py say."""
    titles = {
        "images": "Images",
        "coverage": "Pixels with a class",
        "void": "Void pixels",
        "labels_found": "Labels found",
        "label_f1": "F1 of the labels",
        "agreement": "Agreement",
        "confidence": "Confidence",
    }
    rows = []
    for step, name in STEPS.items():
        figures = report.scores[step].metrics["without_truth"]
        cells = "".join(f"<td>{_plain(figures.get(key))}</td>" for key in titles)
        rows.append(f"<tr><th>{name}</th>{cells}</tr>\n")
    head = "".join(f"<th>{title}</th>" for title in titles.values())
    return (
        f"<p>{WITHOUT_TRUTH}</p>"
        f'<div class="wide"><table class="plain"><thead><tr><th>Step</th>{head}</tr></thead>\n'
        f"<tbody>{''.join(rows)}</tbody></table></div>\n{_labels(report.labels) if report.labels else ''}"
    )


def _labels(labels: Mapping[str, Any]) -> str:
    return (
        f"<p>Classifier, image-level labels of {labels['images']} images of {html.escape(labels['split'])}: mAP "
        f"{_plain(labels['map'])}, F1 {_plain(labels['f1'])} as the mean over {labels['classes']} classes that occur, "
        f"{_plain(labels['f1_micro'])} over all their pairs of image and class.</p>\n"
    )


def _plain(figure: float | None) -> str:
    if figure is None:
        return "–"
    return str(figure) if isinstance(figure, int) else f"{figure:.1f}"


def _cell(iou: float | None) -> str:
    """A number whose background is a bar."""
    if iou is None:
        return '<td class="absent">–</td>'
    return f'<td style="--share:{iou:.1f}%">{iou:.1f}</td>'


def _curves(curves: Mapping[str, Sequence[Curve]]) -> str:
    parts = []
    for name, group in curves.items():
        charts = "".join(line_chart(c.name, c.steps, c.values) for c in group if len(c.steps))
        content = f'<div class="charts">{charts}</div>' if charts else '<p class="absent">No curve was recorded.</p>'
        parts.append(f"<h3>{html.escape(name)}</h3>{content}\n")
    return "".join(parts)


def _galleries(report: Report) -> str:
    chips = "".join(_chip(value, name) for value, name in enumerate(report.classes, start=1))
    ramp = f"linear-gradient(to right,{','.join(f'rgb({r},{g},{b})' for r, g, b in RAMP.tolist())})"
    scale = f'<span class="chip"><i class="ramp" style="background:{ramp}"></i>heat</span>'
    parts = [f'{CHOICE}<p class="legend">{chips}{_chip(VOID, "void")}{scale}</p>\n']
    for gallery in report.galleries:
        size = "long" if max(len(strip.panels) for strip in gallery.strips) > 3 else "short"
        strips = "".join(_strip(strip, report.classes) for strip in gallery.strips)
        parts.append(f'<h3>{html.escape(gallery.title)}</h3>\n<div class="gallery {size}">{strips}</div>\n')
    return "".join(parts)


def _strip(strip: Strip, classes: Sequence[str]) -> str:
    chips = "".join(_chip(value, classes[value - 1]) for value in strip.classes)
    panels = "".join(
        f'<figure><img src="{data_uri(picture)}" width="{picture.shape[1]}" height="{picture.shape[0]}" '
        f'alt="{html.escape(f"{title} of {strip.image_id}")}"><figcaption>{html.escape(title)}</figcaption></figure>'
        for title, picture in strip.panels.items()
    )
    heading = f'<b>{html.escape(strip.image_id)}</b> {html.escape(strip.score)} <span class="seen">{chips}</span>'
    return f'<article class="strip"><p>{heading}</p><div class="panels">{panels}</div></article>\n'


def _chip(value: int, name: str) -> str:
    red, green, blue = class_palette()[value].tolist()
    return f'<span class="chip"><i style="background:rgb({red},{green},{blue})"></i>{html.escape(name)}</span>'


def _provenance(report: Report) -> str:
    facts = "".join(f"<tr><th>{html.escape(k)}</th><td>{html.escape(v)}</td></tr>" for k, v in report.facts.items())
    outs = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in out)}</tr>" for out in report.outs)
    hashes = '<p class="absent">There is no dvc.lock: the stages did not run under DVC.</p>'
    if outs:
        head = "<tr><th>Stage</th><th>Output</th><th>MD5</th></tr>"
        hashes = f'<table class="plain hashes"><thead>{head}</thead>\n<tbody>{outs}</tbody></table>'
    return (
        f"<details><summary>params.yaml</summary><pre>{html.escape(report.params)}</pre></details>\n"
        f'<h3>Versions</h3><div class="wide"><table class="plain hashes"><tbody>{facts}</tbody></table></div>\n'
        f'<h3>Hashes in dvc.lock</h3><div class="wide">{hashes}</div>\n'
    )


def data_uri(picture: np.ndarray) -> str:
    """JPEG of uint8 (H, W, 3) as a data URI, colors at full resolution."""
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, format="JPEG", quality=88, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"


NOT_SCORED = "Not scored: the data set has no ground truth for these images."
WITHOUT_TRUTH = """In percent; none of it needs a mask, and none of it says that a mask is right. Labels found:
image-level labels with a pixel. F1 of the labels: the classes that cover a hundredth of an image, against its labels.
Agreement: equal pixels, of the CRF with the seeds, of the pseudo-masks with the CRF, of the segmentation with the
pseudo-masks of training images. All else of the segmentation is of the validation images, of the other steps of the
training images."""
CHOICE = """<p>The best and the worst of each split, by the image's own mIoU over the classes in its ground truth or
its result: of the pseudo-mask for training images, of the prediction for validation images. Images without any class
are left out; a split without ground truth shows its first images.</p>
<p>Heat shows the strongest class at each pixel, stretched so that the background threshold is the middle of the
scale; the white lines border the seeds of each class. Masks tint their classes and hatch what is void.</p>
"""
