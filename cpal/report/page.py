"""One HTML page of a run, from plain data and the templates beside this file: no network and no time of day.

Equal input gives equal bytes. Charts are SVG in the page; the only script is templates/browse.js.
"""

import base64
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cpal.data.dataset import Dataset
from cpal.evaluation.doubt import SIGNALS, ClassDoubt
from cpal.maps.drawing import RAMP, class_palette
from cpal.method.groups import Group
from cpal.report import words
from cpal.report.charts import Chart, Curve, line_chart
from cpal.running.times import Taken, duration

STEPS = {"seed": "Seeds", "crf": "CRF", "pseudo_mask": "Pseudo-masks", "segmentation": "Segmentation"}
FIRST = 12  # images to look at first
LARGEST = 6  # prototypes of a class that are shown
TEMPLATES = Path(__file__).with_name("templates")


@dataclass(frozen=True)
class Layer:
    """A picture of one image: its address, relative to the page or a data URI, and its size in pixels."""

    url: str
    width: int
    height: int


@dataclass(frozen=True)
class Card:
    """An image of the page. `classes`: mask values seen in it; `result` is the title of the layer shown first.

    `miou` is None without ground truth; `doubt` is 0 to 100, for the `reasons`.
    """

    index: int
    image_id: str
    split: str
    classes: tuple[int, ...]
    miou: float | None
    doubt: float
    reasons: Sequence[str]
    layers: Mapping[str, Layer]
    result: str


@dataclass(frozen=True)
class Scores:
    """`metrics` as evaluate writes them, without `miou` where there is no ground truth; `iou` in percent by class;
    `rows` of the table of scores; `reliability`: accuracy over confidence of the pixels in percent, where scored."""

    metrics: Mapping[str, Any]
    iou: Mapping[str, float]
    rows: Sequence["ScoreRow"] = ()
    reliability: Curve | None = None


@dataclass(frozen=True)
class ScoreRow:
    """A row of the table of scores. `kind`: step | part; `miou` is None where there is no ground truth."""

    kind: str
    name: str
    note: str = ""
    miou: float | None = None
    accuracy: float | None = None
    split: str = ""


@dataclass(frozen=True)
class Prototypes:
    """The context prototypes of a class, those of most instances first; `label` 0 is background."""

    label: int
    groups: Sequence[Group]

    @property
    def instances(self) -> int:
        """How many instances the bank has."""
        return sum(group.members for group in self.groups)

    @property
    def largest(self) -> Sequence[Group]:
        """The prototypes that are shown."""
        return self.groups[:LARGEST]

    @property
    def sources(self) -> list[tuple[str, int]]:
        """Image and class of each picture that is shown."""
        return [(like.image_id, self.label) for group in self.largest for like in group.nearest]


@dataclass(frozen=True)
class Report:
    """What the page shows. `scores` has the keys of STEPS; `labels` are the metrics of our classifier, if there is one;
    `cards` are in the order of looking at them, which is `by_truth` where most training images have ground truth;
    `choice` says which of all images they are; `outs` are stage, path and hash;
    `facts` name what the result depends on besides data and settings; `times` are what each stage took, by its name;
    `confused` is the mAP of a classifier that needs more training, None of a good one or if the mAP does not tell;
    `prototypes` is None where maps are imported, `sources` are pictures of images behind them, by image and class;
    `unseen`: for each label, validation images in which the model finds it, and validation images with it."""

    classes: Sequence[str]
    sentence: str
    scores: Mapping[str, Scores]
    labels: Mapping[str, Any] | None
    verdicts: Sequence[ClassDoubt]
    curves: Mapping[str, Sequence[Curve]]
    cards: Sequence[Card]
    by_truth: bool
    choice: str
    params: str
    facts: Mapping[str, str]
    outs: Sequence[tuple[str, str, str]]
    times: Mapping[str, Taken] = field(default_factory=dict)
    confused: float | None = None
    prototypes: Sequence[Prototypes] | None = None
    sources: Mapping[tuple[str, int], Layer] = field(default_factory=dict)
    unseen: Mapping[int, tuple[int, int]] = field(default_factory=dict)

    @property
    def scored(self) -> bool:
        """Whether the pseudo-masks could be compared with ground truth."""
        return "miou" in self.scores["pseudo_mask"].metrics

    @property
    def first(self) -> Sequence[Card]:
        """The images to look at first: those of the worst results or else of masks that can be corrected."""
        masks = [card for card in self.cards if card.split == "train"]
        return (self.cards if self.by_truth or not masks else masks)[:FIRST]

    @property
    def card_of(self) -> dict[str, int]:
        """Number of each image's card, by its id."""
        return {card.image_id: card.index for card in self.cards}

    @property
    def titles(self) -> list[str]:
        """Titles of the layers that some image has."""
        return [title for title in words.LAYERS if any(title in card.layers for card in self.cards)]

    @property
    def free_rows(self) -> list[tuple[str, str, list[float | None]]]:
        """Title, meaning and a value for each step, of the figures without ground truth that some step has."""
        steps = [self.scores[step].metrics["without_truth"] for step in STEPS]
        rows = words.WITHOUT_TRUTH.items()
        return [(*text, [step.get(key) for step in steps]) for key, text in rows if any(key in step for step in steps)]

    @property
    def score_rows(self) -> list[ScoreRow]:
        return [row for step in STEPS for row in self.scores[step].rows]


def summarize(dataset: Dataset) -> str:
    """The page's first sentence."""
    train, val, classes = len(dataset.split("train")), len(dataset.split("val")), dataset.classes
    names = f" ({', '.join(classes)})" if len(classes) <= 20 else ""
    return (
        f"From image-level labels to a segmentation model of {len(classes)} classes{names}: {train} training and {val} "
        "validation images."
    )


def render_page(report: Report) -> str:
    """The whole page. Without ground truth of most training images it begins with which classes to trust."""
    scores = {"scores": "Mean IoU", "classes": "IoU of each class"}
    doubts = {"trust": "Which classes to trust", "first": "Look at these first"}
    rest = {"images": "Images", "prototypes": "Prototypes", "without_truth": "Without ground truth"}
    rest |= {"training": "Training"} | ({"times": "Time and memory"} if report.times else {})
    sections = (scores | doubts if report.by_truth else doubts | scores) | rest | {"settings": "Settings and versions"}
    script = (TEMPLATES / "browse.js").read_text(encoding="utf-8")
    values = {"report": report, "steps": STEPS, "signals": SIGNALS, "duration": duration}
    values |= {"classes": report.classes}
    values |= {"charts": {title: [_chart(curve) for curve in group] for title, group in report.curves.items()}}
    return render("CPAL report", report.sentence, sections, values, script=script)


def _chart(curve: Curve) -> Chart:
    title, note = words.CURVES.get(curve.name, (curve.name, ""))
    return Chart(title, note, curve)


def render(
    title: str,
    sentence: str,
    sections: Mapping[str, str],
    values: Mapping[str, Any],
    *,
    script: str | None = None,
    templates: Sequence[Path] = (),
) -> str:
    """A page of these sections, by name of their template, which lies here or in one of the folders `templates`.

    `values` are what these templates take, and the `classes` of the colors. Without a script the page has no enlarged
    view.
    """
    return fill(
        "page.html",
        templates,
        title=title,
        sentence=sentence,
        sections=sections,
        words={
            "layers": words.LAYERS,
            "good_map": words.GOOD_MAP,
        },
        policy=policy(script),
        script=script,
        line_chart=line_chart,
        **values,
    )


def fill(name: str, folders: Sequence[Path], **values: Any) -> str:
    """Fill a template, which lies here or in one of `folders`, with `values`, `style`, `color` and `ramp`."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader([TEMPLATES, *folders]), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    return environment.get_template(name).render(style=style, color=color, ramp=ramp(), **values)


def policy(script: str | None = None) -> str:
    """The Content-Security-Policy of a page with this script; None: of a page that holds all its pictures.

    Names of classes and images come from data sets. They are escaped; should that fail once, a browser runs and fetches
    nothing nevertheless: it takes the page's own styles and pictures, and the one script that has this hash.
    """
    scripts, pictures = "", "data:"
    if script is not None:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
        scripts, pictures = f"script-src 'sha256-{digest}'; ", "data: 'self' file:"
    own = f"{scripts}style-src 'unsafe-inline'; img-src {pictures}"
    return f"default-src 'none'; {own}; base-uri 'none'; form-action 'none'"


def color(value: int) -> str:
    """The color of a mask value in CSS."""
    return "rgb({},{},{})".format(*class_palette()[value].tolist())


def ramp() -> str:
    """The colors of a map in CSS, from low to high."""
    return f"linear-gradient(to right,{', '.join('rgb({},{},{})'.format(*stop) for stop in RAMP.tolist())})"


def embedded(picture: np.ndarray, *, quality: int = 75, method: int = 2) -> Layer:
    """A picture uint8 (H, W, 3) as a layer that lies in the page itself."""
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "WEBP", quality=quality, method=method)
    return Layer(data_uri(stream.getvalue()), picture.shape[1], picture.shape[0])


def data_uri(webp: bytes) -> str:
    """The content of a WebP file as an address."""
    return f"data:image/webp;base64,{base64.b64encode(webp).decode('ascii')}"
