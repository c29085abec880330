"""Photographs through a trained model: files, figures, bands, names that clash, and the exported network."""

import json
import os
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps

from cpal.data.dataset import Dataset
from cpal.data.images import read_image
from cpal.data.masks import read_mask
from cpal.data.views import image_views
from cpal.errors import UserError
from cpal.exports.dispatch import Format
from cpal.maps import fonts
from cpal.maps.crf import refine_probabilities
from cpal.networks.weights import load_weights, save_weights
from cpal.segmentation import inference, onnx_export, photos
from cpal.segmentation.deeplab import build_segmentor, load_segmentor, probabilities, weights_meta
from cpal.segmentation.finished import FOLDERS, Finished
from cpal.segmentation.inference import Labeled, enlarged, label_photo
from cpal.segmentation.photos import find_photos
from cpal.settings.config import Config, load_config
from stages import export_onnx, predict_segmentation
from stages import predict as stage
from stages.job.network import NetworkJob

CLASSES = ("red", "green")
PAGE = Path(__file__).parents[2] / "docs/predict.md"


@pytest.fixture
def here(tmp_path: Path, settings: Callable[..., Config], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with params.yaml, weights of a network that learned nothing, and two photographs."""
    monkeypatch.chdir(tmp_path)
    params = (Path(__file__).parents[2] / "params.yaml").read_text(encoding="utf-8")
    Path("params.yaml").write_text(params, encoding="utf-8")
    Path("data").mkdir()
    save_model(settings(), CLASSES)
    rng = np.random.default_rng(0)
    Path("photos/deep").mkdir(parents=True)
    for name, size in {"a.jpg": (50, 64), "deep/b.PNG": (90, 41)}.items():
        coarse = Image.fromarray(rng.integers(0, 255, (6, 6, 3), dtype=np.uint8))
        coarse.resize((size[1], size[0])).save(Path("photos") / name)
    Path("photos/notes.txt").write_text("no picture")
    return tmp_path


def save_model(config: Config, classes: tuple[str, ...]) -> None:
    torch.manual_seed(4)  # gives a.jpg all three labels, and b.PNG two
    segmentor = build_segmentor(config.segmentation, len(classes) + 1)
    for branch in segmentor.decode_head.branches:
        torch.nn.init.normal_(branch.weight, std=0.02)
    meta = weights_meta(config.segmentation, classes) | {"long_side": 64}
    save_weights(Path("data/segmentation.safetensors"), {"segmentor": segmentor}, meta)


def set_crf(iterations: int) -> None:
    """Write final_test.crf.iterations into params.yaml."""
    before, section, after = Path("params.yaml").read_text(encoding="utf-8").partition("\nfinal_test:")
    after = after.replace("iterations: 0", f"iterations: {iterations}", 1)
    Path("params.yaml").write_text(before + section + after, encoding="utf-8")


def run(*paths: str, **options: Any) -> dict[str, Any]:
    stage.main([Path(path) for path in paths], out=Path("out"), device="cpu", **options)
    return json.loads(Path("out/summary.json").read_text(encoding="utf-8"))


def segmentor_of(config: Config, classes: tuple[str, ...] = CLASSES) -> Any:
    segmentor = build_segmentor(config.segmentation, len(classes) + 1, weights="none")
    meta = weights_meta(config.segmentation, classes)
    load_weights(Path("data/segmentation.safetensors"), {"segmentor": segmentor}, meta, stage="x")
    return segmentor


def test_photographs_without_a_class_are_counted(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("photos")
    assert "no class" not in capsys.readouterr().out
    run("photos", min_confidence=1.0)  # all is void
    assert "2 of them show no class: the model found nothing there; train it longer" in capsys.readouterr().out


def test_files_and_figures(here: Path, settings: Callable[..., Config]) -> None:
    summary = run("photos")
    assert [row["file"] for row in summary["images"]] == ["photos/a.jpg", "photos/deep/b.PNG"]
    assert [row["name"] for row in summary["classes"]] == ["background", "red", "green"]
    assert summary["long_side"] == 64 and summary["failed"] == []
    for row in summary["images"]:
        image, mask = read_image(Path(row["file"])), read_mask(Path(row["mask"]))
        assert mask.shape == image.shape[:2] == (row["height"], row["width"])
        shown = {summary["classes"][n]["name"]: (mask == n).mean() for n in np.unique(mask)}
        assert {name: row["classes"][name]["percent_of_pixels"] for name in row["classes"]} == {
            name: pytest.approx(100 * share, abs=0.001) for name, share in shown.items()
        }
        assert all(100 / 3 <= entry["confidence"] <= 100 for entry in row["classes"].values())
        overlay = read_image(Path(row["overlay"]))
        assert overlay.shape[1] == image.shape[1] and overlay.shape[0] >= image.shape[0]
        assert row["crf_size"] is None


@pytest.mark.parametrize("iterations", [0, 5])
def test_same_masks_as_predict_segmentation(
    here: Path, settings: Callable[..., Config], tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch, iterations: int
) -> None:
    save_model(settings(), tiny_dataset.classes)
    set_crf(iterations)
    shutil.copytree(tiny_dataset.mask_root, "data/dataset")
    work = here / "works/one"  # publishing drops the oldest of what lies beside it
    work.mkdir(parents=True)
    monkeypatch.setattr("stages.job.job.work_folder", lambda *_, **__: work)
    config = load_config(Path("params.yaml"))
    assert config.final_test.crf.iterations == iterations
    predict_segmentation.main(NetworkJob("predict_segmentation", config, workers=1, device_name="cpu", loaders_asked=0))
    summary = run("data/dataset/images")
    assert summary["final_test"] == json.loads(config.final_test.model_dump_json())
    compared = sorted(Path("data/predictions").glob("*.png"))
    assert len(compared) == 7
    segmentor, changed = segmentor_of(settings(), tiny_dataset.classes), 0
    for path in compared:
        mask = read_mask(path)
        np.testing.assert_array_equal(read_mask(Path("out/masks") / path.name), mask)
        ours, theirs = (
            read_mask(Path(folder, "confidence", path.name)).astype(int) for folder in ("out", "data/predictions")
        )
        assert np.abs(ours - theirs).max() <= 1
        assert iterations or ours.min() >= 255 / 4 - 1  # a CRF can choose another class than the likeliest
        size, views = views_of(Path("data/dataset/images") / path.name, settings())
        changed += int((probabilities(segmentor, size, views).argmax(dim=0).numpy() != mask).sum())
    # Folded batch norms round otherwise than this unfolded network, which may turn a pixel whose classes are level.
    assert changed > 20 if iterations else changed < 5


def views_of(photo: Path, config: Config) -> tuple[tuple[int, int], list[torch.Tensor]]:
    """Size and views of a photograph at its own size."""
    image = read_image(photo)
    pixels = torch.from_numpy(image).permute(2, 0, 1)
    views = image_views(pixels, config.final_test.scales, flip=config.final_test.flip, long_side=None)
    return (image.shape[0], image.shape[1]), views


def test_confidence_by_a_plain_loop(here: Path, settings: Callable[..., Config]) -> None:
    config = settings(**{"final_test.scales": [1.0], "final_test.flip": False})
    segmentor, image = segmentor_of(config), read_image(Path("photos/a.jpg"))
    labeled = label_photo(segmentor, image, config.final_test, long_side=64)
    with torch.no_grad():
        logits = segmentor(torch.from_numpy(image).permute(2, 0, 1)[None], mode="tensor")
    probability = F.interpolate(logits, size=(50, 64), mode="bilinear", align_corners=False).softmax(1)[0].numpy()
    for n in range(3):
        own = [probability[n, y, x] for y in range(50) for x in range(64) if labeled.labels[y, x] == n]
        assert labeled.class_confidence[n] == pytest.approx(100 * np.mean(own) if own else 0, abs=1e-3)
        assert labeled.share[n] == pytest.approx(100 * len(own) / 3200)


@pytest.mark.parametrize(("small", "large"), [((5, 7), (33, 50)), ((20, 9), (64, 64)), ((12, 12), (12, 12))])
@pytest.mark.parametrize("band", [1, 7, 100])
def test_bands_are_the_whole(small: tuple[int, int], large: tuple[int, int], band: int) -> None:
    maps = torch.rand(3, *small)
    whole = F.interpolate(maps[None], size=large, mode="bilinear", align_corners=False)[0]
    parts = list(enlarged(maps, large, band=band))
    assert [top for top, _ in parts] == list(range(0, large[0], band))
    torch.testing.assert_close(torch.cat([part for _, part in parts], dim=1), whole, atol=1e-5, rtol=1e-5)


def test_large_photographs_are_seen_small(here: Path, settings: Callable[..., Config]) -> None:
    """A photograph enlarged eight times, seen at its first size, has nearly the labels that it had."""
    config = settings().final_test
    segmentor, image = segmentor_of(settings()), read_image(Path("photos/a.jpg"))
    large = np.array(Image.fromarray(image).resize((512, 400), Image.Resampling.BICUBIC))
    plain = label_photo(segmentor, image, config, long_side=64).labels
    seen = label_photo(segmentor, large, config, long_side=64).labels
    assert seen.shape == (400, 512) and len(np.unique(plain)) == 3
    assert (seen[4::8, 4::8] == plain).mean() > 0.9


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_confidence_is_the_networks_in_the_crfs_labels(
    here: Path, settings: Callable[..., Config], temperature: float
) -> None:
    config = settings(**{"final_test.crf.iterations": 5, "final_test.temperature": temperature})
    segmentor, image = segmentor_of(config), read_image(Path("photos/a.jpg"))
    found = probabilities(segmentor, *views_of(Path("photos/a.jpg"), config))
    expected = refine_probabilities(image, found.numpy(), config.final_test.crf).argmax(axis=0)
    labeled = label_photo(segmentor, image, config.final_test, long_side=64)
    np.testing.assert_array_equal(labeled.labels, expected)
    assert (expected != found.argmax(dim=0).numpy()).any()
    tempered = (found.log() / temperature).softmax(dim=0).numpy()
    sure = sum((expected == n) * tempered[n] for n in range(3))
    np.testing.assert_allclose(labeled.confidence, 255 * sure, atol=0.51)
    own = [sure[expected == n] for n in range(3)]
    np.testing.assert_allclose(labeled.class_confidence, [100 * mean(of) for of in own], atol=1e-3)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_each_pixel_tells_how_sure_it_is(here: Path, settings: Callable[..., Config], temperature: float) -> None:
    config = settings(**{"final_test.temperature": temperature})
    segmentor, image = segmentor_of(config), read_image(Path("photos/a.jpg"))
    found = probabilities(segmentor, *views_of(Path("photos/a.jpg"), config))
    expected = (found.log() / temperature).softmax(dim=0).amax(dim=0).numpy()
    labeled = label_photo(segmentor, image, config.final_test, long_side=64)
    np.testing.assert_array_equal(labeled.labels, found.argmax(dim=0).numpy())
    np.testing.assert_allclose(labeled.confidence, 255 * expected, atol=0.51)
    own = [expected[labeled.labels == n] for n in range(3)]
    np.testing.assert_allclose(labeled.class_confidence, [100 * mean(of) for of in own], atol=1e-3)
    limit = float(np.median(expected))
    strict = label_photo(segmentor, image, config.final_test, long_side=64, min_confidence=limit)
    np.testing.assert_array_equal(strict.labels, np.where(expected < limit, 255, labeled.labels))
    np.testing.assert_array_equal(strict.confidence, labeled.confidence)
    assert strict.share == pytest.approx([100 * (strict.labels == n).mean() for n in range(3)])


def test_unsure_pixels_are_void_in_masks_and_exports(here: Path) -> None:
    sure = run("photos/a.jpg")["images"][0]
    certainty = read_mask(Path("out/confidence/a.png"))
    assert Path(sure["confidence_map"]) == Path("out/confidence/a.png") and sure["void_percent_of_pixels"] == 0
    limit = float(np.median(certainty)) / 255
    (row,) = run("photos/a.jpg", min_confidence=limit, format=Format.png)["images"]
    mask = read_mask(Path("out/masks/a.png"))
    void = mask == 255
    assert 0.1 < void.mean() < 0.9 and row["void_percent_of_pixels"] == pytest.approx(100 * void.mean(), abs=1e-3)
    assert certainty[void].max() <= certainty[~void].min()
    (exported,) = Path("out/png").rglob("a.png")
    np.testing.assert_array_equal(read_mask(exported), mask)


def mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else 0.0


@pytest.mark.parametrize(
    ("pixels", "long_side", "seen"),
    [
        (10**6, 64, None),  # few pixels
        (10**6, 16, None),  # the same, though the network sees fewer
        (800, 16, [32, 25]),  # too many
        (800, 40, [40, 31]),  # too many, but the network sees more than the CRF may
        (800, 64, None),  # the same: all of them
    ],
)
def test_crf_sees_large_photographs_small_and_says_so(
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    pixels: int,
    long_side: int,
    seen: list[int] | None,
) -> None:
    set_crf(5)
    sizes = []

    def spy(image: np.ndarray, probability: np.ndarray, crf: Any) -> np.ndarray:
        assert image.shape[:2] == probability.shape[1:]
        sizes.append([image.shape[1], image.shape[0]])
        return refine_probabilities(image, probability, crf)

    monkeypatch.setattr(inference, "CRF_PIXELS", pixels)
    monkeypatch.setattr(inference, "refine_probabilities", spy)
    (row,) = run("photos/a.jpg", long_side=long_side)["images"]
    assert row["crf_size"] == seen and sizes == [seen or [64, 50]]
    assert read_mask(Path("out/masks/a.png")).shape == (50, 64)
    assert ("1 of them too large for the CRF" in capsys.readouterr().out) == (seen is not None)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The photographs that are labeled; one called `stop.jpg` stops the command."""
    names: list[str] = []

    def read(path: Path) -> np.ndarray:
        if path.name == "stop.jpg":
            raise KeyboardInterrupt
        names.append(path.name)
        return read_image(path)

    monkeypatch.setattr(photos, "read_image", read)
    return names


def test_a_stopped_command_continues(here: Path, seen: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    whole = run("photos")
    Path("photos/deep/stop.jpg").write_bytes(b"")  # the last by name
    shutil.rmtree("out")
    seen.clear()
    with pytest.raises(KeyboardInterrupt):
        run("photos")
    assert not Path("out/summary.json").exists()
    with Path("out/.finished.jsonl").open("a", encoding="utf-8") as stream:
        stream.write('\n["cut')  # as by a kill in the middle of a line
    Path("photos/deep/stop.jpg").unlink()
    capsys.readouterr()
    assert run("photos") == whole
    assert seen == ["a.jpg", "b.PNG"], "each is labeled once"
    assert "2 of 2 photographs are labeled already" in capsys.readouterr().out
    assert sorted(path.name for path in Path("out").iterdir()) == ["confidence", "masks", "overlays", "summary.json"]


@pytest.mark.parametrize(("change", "kept"), [(None, True), ("size", False), ("time", False), ("gone", False)])
def test_a_photograph_that_changes_while_it_is_labeled_is_labeled_again(
    tmp_path: Path, change: str | None, kept: bool
) -> None:
    photo, rows = tmp_path / "a.jpg", tmp_path / ".finished.jsonl"
    photo.write_bytes(b"before")
    for folder in FOLDERS:
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.png").touch()
    finished = Finished(rows, "these weights")
    assert finished.row(photo, "a") is None
    match change:
        case "size":
            stamp = photo.stat().st_mtime_ns
            photo.write_bytes(b"another")
            os.utime(photo, ns=(stamp, stamp))
        case "time":
            os.utime(photo, ns=(1, 1))
        case "gone":
            photo.unlink()
    finished.add(photo, "a", {"n": 1})
    assert Finished(rows, "these weights").row(photo, "a") == ({"n": 1} if kept else None)
    assert Finished(rows, "other weights").row(photo, "a") is None


@pytest.mark.parametrize(("size", "drawn"), [((30, 60), (20, 40)), ((60, 30), (40, 20)), ((40, 40), (40, 40))])
def test_overlays_of_large_photographs_are_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], drawn: tuple[int, int]
) -> None:
    monkeypatch.setattr(photos, "OVERLAY_SIDE", 40)
    nothing = np.zeros(size, np.uint8)
    labeled = Labeled(nothing, nothing, np.array([100.0, 0, 0]), np.zeros(3), None)
    photos.write_result(tmp_path, "a", np.zeros((*size, 3), np.uint8), labeled, CLASSES)
    assert read_image(tmp_path / "overlays/a.png").shape[:2] == drawn


@pytest.mark.parametrize("change", ["photograph", "weights", "min_confidence", "mask"])
def test_what_has_changed_is_labeled_again(
    here: Path, settings: Callable[..., Config], seen: list[str], change: str
) -> None:
    Path("photos/deep/stop.jpg").write_bytes(b"")
    with pytest.raises(KeyboardInterrupt):
        run("photos")
    Path("photos/deep/stop.jpg").unlink()
    seen.clear()
    options = {}
    match change:
        case "photograph":
            Image.open("photos/deep/b.PNG").save("photos/a.jpg")
        case "weights":
            save_model(settings(), ("blue", "green"))
        case "min_confidence":
            options = {"min_confidence": 0.5}
        case "mask":
            Path("out/masks/a.png").unlink()
    again = run("photos", **options)
    assert seen == (["a.jpg"] if change in ("photograph", "mask") else ["a.jpg", "b.PNG"])
    shutil.rmtree("out")
    assert run("photos", **options) == again


def test_results_of_other_options_between_two_stops(here: Path, seen: list[str]) -> None:
    """The second command replaced the first one's files, so that the first starts again."""
    Path("photos/deep/stop.jpg").write_bytes(b"")
    for sure in (0.0, 0.9):
        with pytest.raises(KeyboardInterrupt):
            run("photos", min_confidence=sure)
    Path("photos/deep/stop.jpg").unlink()
    seen.clear()
    run("photos")
    assert seen == ["a.jpg", "b.PNG"]
    assert not any((read_mask(Path(f"out/masks/{name}.png")) == 255).any() for name in ("a", "deep/b"))


def test_unreadable_pictures_are_told_and_the_rest_is_done(here: Path) -> None:
    Path("photos/broken.jpg").write_bytes(b"no picture")
    with pytest.raises(UserError, match="1 of 3 file.*\n.*photos/broken.jpg: unreadable image"):
        run("photos")
    summary = json.loads(Path("out/summary.json").read_text(encoding="utf-8"))
    assert len(summary["images"]) == 2 and [row["file"] for row in summary["failed"]] == ["photos/broken.jpg"]
    assert sorted(path.name for path in Path("out/masks").rglob("*.png")) == ["a.png", "b.png"]


def test_pictures_that_are_not_read_are_named(here: Path) -> None:
    Image.open("photos/a.jpg").save("photos/c.gif")
    Image.open("photos/a.jpg").save("photos/d.jpg_large", format="JPEG")
    Path("photos/a.cr2").write_bytes(b"raw")  # beside a.jpg, as cameras write them
    Path("photos/IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(200))
    with pytest.raises(UserError) as error:
        run("photos")
    assert str(error.value).splitlines()[0] == "2 of 6 file(s) are no readable pictures:"
    summary = json.loads(Path("out/summary.json").read_text(encoding="utf-8"))
    assert [row["file"] for row in summary["failed"]] == ["photos/IMG_1.HEIC", "photos/a.cr2"]
    assert sorted(path.name for path in Path("out/masks").rglob("*.png")) == [
        *("a.png", "b.png", "c.png"),
        "d.jpg_large.png",
    ]


def test_a_class_name_that_no_font_has(
    here: Path, settings: Callable[..., Config], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("cpal.maps.fonts._font_files", lambda: ())
    fonts._system_font.cache_clear()
    save_model(settings(), ("猫", "green"))
    assert "猫" in run("photos")["images"][0]["classes"]
    assert "note: no font here has the characters of some classes: pictures show their numbers (1 猫)" in (
        capsys.readouterr().out
    )


def test_results_below_the_photographs_are_not_photographs(here: Path) -> None:
    for _ in range(2):
        stage.main([Path("photos")], out=Path("photos/results"), device="cpu")
    summary = json.loads(Path("photos/results/summary.json").read_text(encoding="utf-8"))
    assert len(summary["images"]) == 2


def test_nobody_elses_files_are_replaced(here: Path) -> None:
    """A project folder with ground truth in masks/ is no place for results."""
    Path("out/masks").mkdir(parents=True)
    Path("out/masks/a.png").write_bytes(b"drawn by hand")
    with pytest.raises(UserError, match="out: holds files that this command did not write"):
        run("photos")
    assert Path("out/masks/a.png").read_bytes() == b"drawn by hand"


@pytest.mark.parametrize("format", Format)
def test_also_for_an_annotation_tool(here: Path, format: Format, capsys: pytest.CaptureFixture[str]) -> None:
    summary = run("photos", format=format)
    out, lines = Path("out") / format, capsys.readouterr().out
    assert f"{out}: 2 image(s) of 2 class(es)" in lines and "out/summary.json: 2 image(s)" in lines
    names = [path.name for path in out.rglob("*") if path.suffix.lower() in (".jpg", ".png")]
    assert "a.jpg" in names and "b.PNG" in names
    if format == Format.coco:
        content = json.loads((out / "annotations/instances_default.json").read_text(encoding="utf-8"))
        shown = {row["file_name"]: row["id"] for row in content["images"]}
        for row in summary["images"]:
            mask = read_mask(Path(row["mask"]))
            for value, name in ((1, "red"), (2, "green")):
                number = shown[row["file"].removeprefix("photos/")]
                key = (number, value)
                own = [a for a in content["annotations"] if (a["image_id"], a["category_id"]) == key]
                assert sum(a["area"] for a in own) == (mask == value).sum()
                assert all(a["score"] == round(row["classes"][name]["confidence"] / 100, 4) for a in own)
    assert len(run("photos")["images"]) == 2  # pictures of the export are no photographs
    with pytest.raises(UserError, match=f"out/{format}: is there already"):
        run("photos", format=format)


def test_a_pipe_is_not_opened(here: Path) -> None:
    os.mkfifo("photos/pipe.jpg")
    assert len(run("photos")["images"]) == 2
    with pytest.raises(UserError, match="pipe.jpg: neither a file nor a folder"):
        run("photos/pipe.jpg")


def test_linked_folders_are_followed_but_not_in_circles(here: Path) -> None:
    for folder in ("album/one", "elsewhere"):
        Path(folder).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(f"{folder}/a.png")
    for link, target in {"album/linked": "elsewhere", "album/one/up": "album", "elsewhere/other": "album/one"}.items():
        Path(link).symlink_to(here / target, target_is_directory=True)
    names = [name for _, name in find_photos([Path("album")], [])]
    assert names == ["linked/a", "linked/other/a", "one/a"]


def test_a_name_that_is_no_text(here: Path) -> None:
    Path("photos/a.jpg").rename(os.fsdecode(b"photos/\xff.jpg"))
    assert "photos/\\xff.jpg" in [row["file"] for row in run("photos")["images"]]


def test_weights_of_another_network(here: Path) -> None:
    save_weights(Path("data/segmentation.safetensors"), {"x": torch.nn.Linear(2, 2)}, {"classes": ["red"]})
    with pytest.raises(UserError, match="no segmentation model; make one with: dvc repro train_segmentation"):
        run("photos")


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["gone.jpg"], "gone.jpg: no such file or folder"),
        (["data"], "data: holds no picture"),
        (["photos/a.jpg", "more/a.jpg"], "both results would be a.jpg.png"),
    ],
)
def test_paths_that_cannot_be(here: Path, paths: list[str], message: str) -> None:
    Path("more").mkdir()
    Image.new("RGB", (9, 9)).save("more/a.jpg")
    with pytest.raises(UserError, match=message):
        run(*paths)
    assert not Path("out").exists()


def test_photographs_that_differ_in_their_ending_alone(here: Path) -> None:
    Image.new("RGB", (9, 7)).save("photos/a.png")
    found = run("photos", "photos/a.png")
    assert {row["file"]: row["mask"] for row in found["images"]} == {
        "photos/a.jpg": "out/masks/a.jpg.png",
        "photos/a.png": "out/masks/a.png.png",
        **{row["file"]: row["mask"] for row in found["images"] if "/a." not in row["file"]},
    }
    assert read_mask(Path("out/masks/a.png.png")).shape == (7, 9)


def test_a_bomb_is_refused(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 900)
    with pytest.raises(UserError, match="2 of 2 file.*\n.*unreadable image"):
        run("photos")


def test_a_folder_of_weights(here: Path) -> None:
    with pytest.raises(UserError, match="data: no file of weights"):
        run("photos", weights=Path("data"))


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({}, None),
        ({"output_stride": 8}, "output_stride"),
        ({"dilations": (1, 5)}, "dilations"),
        ({"head_channels": 48}, "head_channels"),
    ],
)
def test_weights_of_other_settings(
    tmp_path: Path, settings: Callable[..., Config], changes: dict[str, Any], wrong: str | None
) -> None:
    """With another dilation or stride the tensors have the same shapes."""
    heads = {"head": "deeplabv3plus", "head_channels": 32, "image_head": 0.1, "dilations": (1, 2), "output_stride": 16}
    section = settings(**{f"segmentation.{key}": value for key, value in heads.items()}).segmentation
    segmentor, path = build_segmentor(section, 3, weights="none"), tmp_path / "w.safetensors"
    save_weights(path, {"segmentor": segmentor}, weights_meta(section, CLASSES))
    changed = section.model_copy(update=changes)
    if wrong is None:
        assert load_segmentor(path, changed)[1]["classes"] == list(CLASSES)
        return
    with pytest.raises(UserError, match=rf"made with other settings \({wrong}\)"):
        load_segmentor(path, changed)


def test_weights_that_do_not_say_their_size(here: Path, settings: Callable[..., Config]) -> None:
    config = settings().segmentation
    segmentor = segmentor_of(settings())
    save_weights(Path("data/segmentation.safetensors"), {"segmentor": segmentor}, weights_meta(config, CLASSES))
    with pytest.raises(UserError, match="add --long-side"):
        run("photos")
    assert len(run("photos", long_side=64)["images"]) == 2


# The exported network


def test_export(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import onnx

    export_onnx.main([Path("photos")], out=Path("model.onnx"))
    assert "gives PyTorch's label at 100.000% of the pixels of 4 images" in capsys.readouterr().out
    facts = {entry.key: json.loads(entry.value) for entry in onnx.load("model.onnx").metadata_props}
    assert facts["classes"] == ["background", "red", "green"] and len(facts["palette"]) == 3
    assert facts["normalization"]["inside"] and "MIT" in facts["license"] and facts["resize"]["long_side"] == 64
    snippet = PAGE.read_text(encoding="utf-8").partition("```python\n")[2].partition("```")[0]
    Path("snippet.py").write_text(snippet.replace("photo.jpg", "photos/a.jpg"))
    monkeypatch.setattr(sys, "argv", ["snippet.py"])
    runpy.run_path("snippet.py")
    assert read_mask(Path("mask.png")).shape == (50, 64)
    large = Image.open("photos/a.jpg").resize((100, 128)).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 8  # a camera's note: turn it
    large.save("photos/a.jpg", exif=exif)
    runpy.run_path("snippet.py")
    assert read_mask(Path("mask.png")).shape == np.array(ImageOps.exif_transpose(Image.open("photos/a.jpg"))).shape[:2]


def test_export_of_other_heads(here: Path, settings: Callable[..., Config]) -> None:
    """DeepLabV3+ with an image head, whose cut lies between the probabilities of the classes."""
    config = settings().segmentation.model_copy(update={"head": "deeplabv3plus", "image_head": 0.1, "image_cut": 0.5})
    segmentor = build_segmentor(config, 3).eval()
    segmentor.auxiliary_head.classify.bias.data = torch.tensor([-5.0, 5.0])
    images = [np.random.default_rng(n).integers(0, 256, (40 + n, 56, 3), dtype=np.uint8) for n in range(4)]
    onnx_export.export_onnx(Path("model.onnx"), segmentor, weights_meta(config, CLASSES), {"long_side": 64, "scale": 1})
    assert onnx_export.same_labels(Path("model.onnx"), segmentor, images) == 1


@pytest.mark.parametrize(("count", "sizes"), [(0, [(36, 48), (24, 24)]), (9, [(38, 48)] * 8 + [(26, 24)] * 8)])
def test_an_export_is_compared_at_the_size_of_use_and_at_another(
    here: Path, monkeypatch: pytest.MonkeyPatch, count: int, sizes: list[tuple[int, int]]
) -> None:
    """On noise without a photograph, and on eight photographs at most."""
    seen: list[tuple[int, ...]] = []

    def agree(_path: Path, _segmentor: Any, images: list[np.ndarray]) -> float:
        seen.extend(image.shape[:2] for image in images)
        return 1.0

    monkeypatch.setattr(onnx_export, "export_onnx", lambda path, *_: path.touch())
    monkeypatch.setattr(onnx_export, "same_labels", agree)
    segmentor: Any = None
    given = [Path("photos/a.jpg")] * count
    share, images = onnx_export.export_checked(Path("m.onnx"), segmentor, {}, given, {"long_side": 32, "scale": 1.5})
    assert (share, images, seen) == (1.0, len(sizes), sizes)


def test_an_export_with_other_labels_does_not_stay(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_export, "same_labels", lambda *_: 0.5)
    with pytest.raises(UserError, match="agree on 50.00% of the pixels only"):
        export_onnx.main(out=Path("out/model.onnx"))
    assert list(Path("out").iterdir()) == []


@pytest.mark.parametrize("out", ["model", "folder.onnx"])
def test_an_export_is_a_file(here: Path, out: str) -> None:
    Path("folder.onnx").mkdir()
    with pytest.raises(UserError, match=f"--out {out}: name a file that ends in .onnx"):
        export_onnx.main(out=Path(out))
