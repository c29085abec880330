"""The commands: pseudo-masks out, corrected ones back in, and what write_pseudo_masks makes of them."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from cpal.data.dataset import Dataset
from cpal.data.images import read_image
from cpal.data.masks import VOID, LabelMaps, read_mask, write_mask
from cpal.errors import UserError
from cpal.evaluation.score_files import read_scores
from cpal.exports.dispatch import Format
from cpal.exports.predicted import read_predicted
from cpal.maps.cams import CamFile, map_size, write_cam
from cpal.maps.refined import Refined, write_crf
from cpal.settings.config import load_config
from stages import evaluate_pseudo_mask, export_masks, import_masks, train_segmentation, write_pseudo_masks
from stages.job.exporting import PIXELS, outlines
from stages.job.job import Job
from stages.job.network import NetworkJob

ROOT = Path(__file__).parents[2]
CORRECTED = Path("data/corrected_masks")


@pytest.fixture
def here(tmp_path: Path, tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """The tiny data set in a folder of its own, with the settings of this project and walked labels: its own masks."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_dataset.mask_root, "data/dataset")
    shutil.copyfile(ROOT / "params.yaml", "params.yaml")
    shutil.copytree(ROOT / "data/corrected_masks", CORRECTED, ignore=shutil.ignore_patterns("*.png"))
    Path("data/affinity").mkdir()
    for record in tiny_dataset.split("train"):
        labels = read_mask(tiny_dataset.mask_path(record))
        confidence = np.full(labels.shape, 255, np.uint8)
        confidence[0] = 0
        write_crf(Path("data/affinity") / f"{record.image_id}.npz", Refined(labels, confidence))
    return tiny_dataset


def write_masks(*, corrected: bool) -> dict[str, np.ndarray]:
    """Run write_pseudo_masks -> its masks by id."""
    text = Path("params.yaml").read_text(encoding="utf-8")
    Path("params.yaml").write_text(text.replace("corrected: false", f"corrected: {str(corrected).lower()}"))
    work = Path("work/one")
    work.mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stages.job.job.work_folder", lambda *_, **__: work)
        write_pseudo_masks.main(Job("write_pseudo_masks", load_config(Path("params.yaml")), workers=1))
    return {path.stem: read_mask(path) for path in Path("data/pseudo_masks").glob("*.png")}


def put_unsure_background(value: str) -> None:
    text = Path("params.yaml").read_text(encoding="utf-8")
    Path("params.yaml").write_text(
        text.replace("unsure_background: ", f"unsure_background: {value} "), encoding="utf-8"
    )


def export(format: Format, out: str, **options: Any) -> None:
    shape = {} if format in PIXELS else {"tolerance": 0.0}
    defaults: dict[str, Any] = {"source": "pseudo_masks", "pictures": True} | shape
    export_masks.main(format, Path(out), **(defaults | options))


def take(format: Format, path: str, **options: Any) -> None:
    defaults: dict[str, Any] = {"only": None, "add": None, "void_unlabeled": False}
    import_masks.main(Path(path), format, **(defaults | options))


def test_corrected_masks_take_the_place_of_pseudo_masks(here: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    before = write_masks(corrected=False)
    assert set(before) == {"a", "b", "c", "d", "empty"} and (before["a"][0] == VOID).all()
    export(Format.cvat, "out")
    assert "out: 5 image(s) of 3 class(es), 6 region(s), 0 of them with holes" in capsys.readouterr().out
    text = Path("out/annotations.xml").read_text(encoding="utf-8")
    text = text.replace('points="', 'points="0.00,0.00;')  # of every polygon: a corner more
    Path("out/annotations.xml").write_text(text, encoding="utf-8")
    Path("list.txt").write_text("a\nempty\n")
    take(Format.cvat, "out", only=Path("list.txt"))
    assert "2 mask(s) imported, 2 there" in capsys.readouterr().out
    assert sorted(path.name for path in CORRECTED.iterdir()) == [".gitignore", "README.md", "a.png", "empty.png"]
    after = write_masks(corrected=True)
    assert "data/pseudo_masks: 2 of 5 masks corrected" in capsys.readouterr().out
    np.testing.assert_array_equal(after["a"], read_mask(CORRECTED / "a.png"))
    assert VOID not in after["a"] and not after["empty"].any() and (after["a"] != before["a"])[1:].any()
    for name in ("b", "c", "d"):
        np.testing.assert_array_equal(after[name], before[name])


def test_what_lies_there_changes_nothing_unless_asked_for(here: Dataset) -> None:
    before = write_masks(corrected=False)
    write_mask(CORRECTED / "a.png", np.zeros((40, 33), np.uint8))
    after = write_masks(corrected=False)
    for name, labels in before.items():
        np.testing.assert_array_equal(after[name], labels)


def test_unsure_background_is_void_for_the_training_alone(here: Dataset) -> None:
    """The maps are 0.4 everywhere: no seed, whose threshold is 0.5, but more than 0.35."""
    put_unsure_background("0.35")
    Path("data/cams").mkdir()
    for record in here.split("train"):
        maps = np.full((len(record.labels), *map_size(record.size)), 0.4, np.float32)
        content = CamFile(np.array(record.labels, int), {"cam": maps, "taught": maps}, record.size)
        write_cam(Path(f"data/cams/{record.image_id}.npz"), content)
    write_mask(CORRECTED / "a.png", np.zeros((40, 33), np.uint8))
    written = write_masks(corrected=True)
    learned = {path.stem: read_mask(path) for path in Path("data/pseudo_masks/training").iterdir()}
    assert set(learned) == set(written) == {"a", "b", "c", "d", "empty"}
    for record in here.split("train"):
        expected = written[record.image_id].copy()
        if record.image_id in ("b", "c", "d"):  # the others are corrected, or show no class
            assert {*record.labels, 0, VOID} == set(np.unique(expected).tolist())
            expected[expected == 0] = VOID
        np.testing.assert_array_equal(learned[record.image_id], expected)
    shutil.copytree("data/affinity", "data/crf")
    evaluate_pseudo_mask.main(Job("evaluate_pseudo_mask", load_config(Path("params.yaml")), workers=1))
    figures = read_scores(Path("data/metrics"), "pseudo_mask")[0]["without_truth"]
    for key, masks in {"void": written, "void_training": learned}.items():
        pixels = np.concatenate([mask.ravel() for mask in masks.values()])
        assert figures[key] == pytest.approx(100 * np.mean(pixels == VOID), abs=0.001)
    assert figures["void"] < figures["void_training"]


@pytest.mark.parametrize(("format", "exported"), [(Format.png, "masks"), (Format.voc, "SegmentationClass")])
def test_the_masks_to_learn_from_keep_their_void(here: Dataset, format: Format, exported: str) -> None:
    learned = Path("data/pseudo_masks/training")
    for record in here.split("train"):
        labels = read_mask(here.mask_path(record))
        write_mask(Path(f"data/pseudo_masks/{record.image_id}.png"), labels)
        write_mask(learned / f"{record.image_id}.png", np.where(labels == 0, VOID, labels))
    export(format, "out", source="training_masks")
    for record in here.split("train"):
        mask = np.asarray(Image.open(Path("out") / exported / f"{record.image_id}.png"))
        np.testing.assert_array_equal(mask, read_mask(learned / f"{record.image_id}.png"))
        assert VOID in mask


@pytest.mark.parametrize(("value", "folder"), [("", "data/pseudo_masks"), ("0.35", "data/pseudo_masks/training")])
def test_training_reads_the_masks_made_for_it(
    here: Dataset, monkeypatch: pytest.MonkeyPatch, value: str, folder: str
) -> None:
    text = Path("params.yaml").read_text(encoding="utf-8")
    Path("params.yaml").write_text(
        text.replace("unsure_background: ", f"unsure_background: {value} "), encoding="utf-8"
    )
    asked: list[Path] = []

    def trained(dataset: Dataset, records: Any, masks: LabelMaps, *_: Any) -> None:
        asked.append(masks.folder)
        raise UserError("asked")

    monkeypatch.setattr("cpal.segmentation.deeplab.train_segmentation", trained)
    monkeypatch.setattr("stages.job.job.work_folder", lambda *_, **__: Path("work"))
    job = NetworkJob("train_segmentation", load_config(Path("params.yaml")), device_name="cpu", loaders_asked=0)
    with pytest.raises(UserError, match="asked"):
        train_segmentation.main(job)
    assert asked == [Path(folder)]


@pytest.mark.parametrize(
    ("name", "mask", "message"),
    [
        (None, None, "data/corrected_masks: holds no masks; import the corrected masks again"),
        ("e", np.zeros((37, 41), np.uint8), "e.png is of no training image; move the file away"),
        ("a", np.zeros((33, 40), np.uint8), r"a.png: is of \(33, 40\), but the image is of \(40, 33\); import"),
        ("a", np.full((40, 33), 2, np.uint8), r"a.png: shows \[2\], which are no labels of this image; import"),
    ],
)
def test_corrected_masks_that_do_not_fit(here: Dataset, name: str | None, mask: Any, message: str) -> None:
    if name is not None:
        write_mask(CORRECTED / f"{name}.png", mask)
    with pytest.raises(UserError, match=message):
        write_masks(corrected=True)


def test_a_second_import_adds_or_replaces(here: Dataset) -> None:
    write_masks(corrected=False)
    export(Format.png, "out")
    files = {record.image_id: record.image for record in here.records}
    for name, options, there in (("a", {}, "a"), (files["b"], {"add": True}, "ab"), ("c", {"add": False}, "c")):
        Path("list.txt").write_text(name)
        if there != "a":
            with pytest.raises(UserError, match=r"holds . mask\(s\) of earlier imports; say --add to keep those"):
                take(Format.png, "out", only=Path("list.txt"))
        take(Format.png, "out", only=Path("list.txt"), **options)
        assert sorted(path.stem for path in CORRECTED.glob("*.png")) == list(there)
    Path("list.txt").write_text("nobody")
    with pytest.raises(UserError, match="out: has no image nobody, which --only names"):
        take(Format.png, "out", only=Path("list.txt"), add=True)
    Path("list.txt").write_text("e")
    with pytest.raises(UserError, match="--only names e: a validation image, which has no pseudo-mask to correct"):
        take(Format.png, "out", only=Path("list.txt"), add=True)
    assert [path.stem for path in CORRECTED.glob("*.png")] == ["c"]


def test_a_list_of_file_names_in_other_letters(here: Dataset) -> None:
    write_masks(corrected=False)
    export(Format.png, "out")
    Path("list.txt").write_text("A.PNG\nB\n", encoding="utf-8")
    take(Format.png, "out", only=Path("list.txt"))
    assert {path.stem for path in CORRECTED.glob("*.png")} == {"a", "b"}


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_mask_that_a_paint_program_saved_in_colors(here: Dataset, mode: str) -> None:
    write_masks(corrected=False)
    export(Format.png, "out")
    before = read_mask(Path("out/masks/a.png"))
    with Image.open("out/masks/a.png") as mask:
        colored = mask.convert(mode)
    colored.save("out/masks/a.png")
    Path("list.txt").write_text("a\n", encoding="utf-8")
    take(Format.png, "out", only=Path("list.txt"))
    np.testing.assert_array_equal(read_mask(CORRECTED / "a.png"), before)
    colored.putpixel((0, 0), (1, 2, 3))
    colored.save("out/masks/a.png")
    with pytest.raises(UserError, match=r"a.png: 1 pixel\(s\) of 1 color.* classes.json does not name \(most: 1,2,3 "):
        take(Format.png, "out", only=Path("list.txt"), add=True)


def test_validation_images_are_left_out(here: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree("data/dataset/masks", "data/predictions")
    export(Format.coco, "out", source="predictions")
    take(Format.coco, "out")
    assert "2 image(s) left out, which are not trained on" in capsys.readouterr().out
    assert len(list(CORRECTED.glob("*.png"))) == 5


def predicted(folder: Path) -> None:
    """A folder as stages.predict writes it, of two photographs."""
    rows: list[dict[str, Any]] = []
    for name in ("a", "deep/ü"):
        image, mask = Path("photos") / f"{name}.jpg", folder / "masks" / f"{name}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (30, 20)).save(image)
        labels = np.zeros((20, 30), np.uint8)
        labels[4:9, 3:28] = 1
        write_mask(mask, labels)
        rows.append({"file": str(image), "width": 30, "height": 20, "mask": str(mask)})
        rows[-1]["classes"] = {"background": {"confidence": 90.0}, "cow": {"confidence": 62.5}}
    classes = [{"id": n, "name": name} for n, name in enumerate(["background", "cow"])]
    (folder / "summary.json").write_text(json.dumps({"classes": classes, "images": rows}), encoding="utf-8")


def test_a_folder_of_predictions_that_was_moved(here: Dataset) -> None:
    predicted(Path("first"))
    Path("first").rename("second")
    items, classes = read_predicted(Path("second"))
    assert [item.name for item in items] == ["a", "deep/ü"] and classes == ("cow",)
    export(Format.coco, "out", source="second")
    content = json.loads(Path("out/annotations/instances_default.json").read_text(encoding="utf-8"))
    assert [image["file_name"] for image in content["images"]] == ["a.jpg", "deep/ü.jpg"]
    assert [(entry["area"], entry["score"], entry["bbox"]) for entry in content["annotations"]] == [
        (125, 0.625, [3, 4, 25, 5])
    ] * 2
    assert Path("out/images/default/deep/ü.jpg").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": "nowhere", "out": "out"}, "nowhere/summary.json: no such file; name a folder of stages.predict"),
        ({"source": "predictions", "out": "out"}, "data/predictions: holds no masks .* dvc repro predict_segmentation"),
        (
            {"source": "pseudo_masks", "out": "data/pseudo_masks/coco"},
            "lies in data/pseudo_masks, which results replace",
        ),
    ],
)
def test_exports_that_cannot_be(here: Dataset, options: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        export(Format.coco, **options)
    assert not Path("out").exists()


def test_mmsegmentation_reads_the_masks_as_the_page_says(here: Dataset) -> None:
    from mmseg.datasets import BaseSegDataset

    written = write_masks(corrected=False)
    export(Format.voc, "out")
    endings = {path.suffix for path in Path("out/JPEGImages").iterdir()}
    read = BaseSegDataset(
        data_root="out",
        ann_file="ImageSets/Segmentation/default.txt",
        data_prefix={"img_path": "JPEGImages", "seg_map_path": "SegmentationClass"},
        metainfo={"classes": ("background", *here.classes)},
        img_suffix=endings.pop(),
        seg_map_suffix=".png",
        pipeline=[{"type": "mmseg.LoadAnnotations"}],
    )
    assert not endings and len(read) == len(written)
    for sample in read:
        np.testing.assert_array_equal(sample["gt_seg_map"], written[Path(sample["img_path"]).stem])


def test_masks_to_learn_from_that_cannot_be_exported(here: Dataset) -> None:
    with pytest.raises(UserError, match="training: holds no masks .* dvc repro write_pseudo_masks"):
        export(Format.png, "out", source="training_masks")
    write_masks(corrected=False)
    with pytest.raises(UserError, match="unsure_background is null; take --from pseudo_masks"):
        export(Format.png, "out", source="training_masks")
    with pytest.raises(UserError, match="coco keeps no void, which is what they add; take voc or png"):
        export(Format.coco, "out", source="training_masks")


def test_damaged_summaries(here: Dataset) -> None:
    predicted(Path("first"))
    path = Path("first/summary.json")
    content = json.loads(path.read_text(encoding="utf-8"))
    changes: list[dict[str, Any]] = [{"classes": None}, {"images": [{"mask": 3}]}, {"images": []}]
    for change in changes:
        path.write_text(json.dumps(content | change))
        with pytest.raises(UserError, match="summary.json: .*; label the photographs again"):
            read_predicted(Path("first"))


def test_a_summary_does_not_lead_out_of_its_folder(here: Dataset) -> None:
    predicted(Path("first"))
    path = Path("first/summary.json")
    content = json.loads(path.read_text(encoding="utf-8"))
    row = next(iter(content["images"]))
    shutil.copy(next(Path("first/masks").rglob("*.png")), "first/notes.png")
    path.write_text(json.dumps(content | {"images": [row | {"mask": "masks/../notes.png"}]}))
    with pytest.raises(UserError, match=r"masks/\.\./notes.png: no such mask in first"):
        read_predicted(Path("first"))


def test_pictures_lie_beside_their_outlines(here: Dataset) -> None:
    """Outlines drawn on the exported picture enclose its colored boxes."""
    write_masks(corrected=False)
    export(Format.labelme, "out")
    content = json.loads(Path("out/a.json").read_text(encoding="utf-8"))
    picture = read_image(Path("out") / content["imagePath"])
    (shape,) = content["shapes"]
    mask = Image.new("1", picture.shape[1::-1])
    ImageDraw.Draw(mask).polygon([tuple(np.floor(point)) for point in shape["points"]], fill=1, outline=1)
    np.testing.assert_array_equal(np.array(mask), (picture == (200, 30, 30)).all(axis=2))


@pytest.mark.parametrize("format", [None, *PIXELS])
@pytest.mark.parametrize("given", [(0.0, None), (None, 20)])
def test_options_of_outlines_are_refused_where_there_are_none(
    format: Format | None, given: tuple[float | None, int | None]
) -> None:
    with pytest.raises(UserError, match="--tolerance and --min-area shape outlines, and there are none with"):
        outlines(format, *given, pictures=True)
