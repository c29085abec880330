"""The page of one image: its numbers against plain loops and the published files, what it shows, what stops it."""

import base64
import io
import json
import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import stages.explain as stage
from cpal.data.dataset import Dataset, read_dataset
from cpal.data.images import read_record_image
from cpal.data.masks import VOID, read_mask, write_mask
from cpal.errors import UserError
from cpal.explain.build import views_of
from cpal.explain.choice import find_classes, find_record
from cpal.explain.neighbors import ClassView, Fitted, class_views, instance_pixels, instances_of
from cpal.explain.steps import GAINED, LOST, SWAPPED, Published, changes, steps
from cpal.maps.cams import CamFile, map_size, read_maps
from cpal.maps.refined import Refined, read_crf
from cpal.maps.seeds import SeedRule
from cpal.maps.walked import WalkFile, write_walk
from cpal.settings.config import load_config
from stages.job.explained import load_fitted, read_published
from stages.job.network import NetworkJob

PARAMS = Path("params.yaml")


@pytest.fixture
def run_folder(finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the run, in which the test works."""
    shutil.copytree(finished_run, tmp_path / "run", symlinks=True, ignore=shutil.ignore_patterns(".cache"))
    monkeypatch.chdir(tmp_path / "run")
    return tmp_path / "run"


def the_job() -> NetworkJob:
    return NetworkJob("explain", load_config(PARAMS), device_name="cpu")


def set_params(change: str, to: str) -> None:
    text = PARAMS.read_text(encoding="utf-8")
    assert len(re.findall(change, text, re.MULTILINE)) == 1
    PARAMS.write_text(re.sub(change, to, text, flags=re.MULTILINE), encoding="utf-8")


class Page(HTMLParser):
    """Addresses, pictures by title, cells of the table by row, and all text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.urls: list[str] = []
        self.pictures: list[tuple[str, np.ndarray]] = []
        self.rows: list[list[str]] = []
        self.text, self.cell = "", False
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.urls += [value or "" for key, value in attrs if key in ("src", "href", "srcset", "action", "data")]
        self.cell = tag in ("td", "th")
        if tag == "tr":
            self.rows.append([])
        if self.cell:
            self.rows[-1].append("")
        if tag == "img":
            content = base64.b64decode((values["src"] or "").removeprefix("data:image/webp;base64,"))
            picture = np.array(Image.open(io.BytesIO(content)))
            assert picture.shape[:2] == (int(values["height"] or 0), int(values["width"] or 0))
            self.pictures.append((values["alt"] or "", picture))

    def handle_endtag(self, tag: str) -> None:
        self.cell = self.cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.cell:
            self.rows[-1][-1] += data


def views_in(loaded: Fitted, image_id: str, scale: float) -> tuple[torch.Tensor, torch.Tensor, list[ClassView]]:
    """View and label of an image, and what is found of its classes."""
    job = the_job()
    record = find_record(job.dataset, image_id)
    (view,) = views_of(read_record_image(job.dataset.image_path(record), record), (scale,), job.config.cam)
    label = loaded.classifier.label(record)
    return view, label, class_views(loaded, view, label, record.labels, nearest=2)


def cosines(one: np.ndarray, many: np.ndarray) -> np.ndarray:
    return many @ one / np.maximum(np.linalg.norm(many, axis=-1) * np.linalg.norm(one), 1e-12)


@pytest.mark.parametrize("image_id", ["a", "c"])
def test_neighbours_against_plain_loops(run_folder: Path, image_id: str) -> None:
    loaded = load_fitted(the_job())
    view, label, found = views_in(loaded, image_id, 1.0)
    learner, step = loaded.learner, instances_of(loaded.classifier, view, label)
    z = step.features[0].detach().numpy()
    assert found and all(of_class.neighbors for of_class in found)
    for of_class in found:
        k = of_class.label
        valid = learner.valid[k].numpy()
        context, entries = learner.context[k].numpy()[valid], learner.bank.latest(k).numpy()
        own = z[:, of_class.mask].mean(axis=1) if of_class.mask.any() else context.mean(axis=0)
        own = own / np.linalg.norm(own)
        anchor = own + (0.5 * (context.mean(axis=0) - own) if of_class.mask.any() else 0)
        score = np.exp(cosines(anchor, context) / learner.settings.temperature)
        group = [int(np.argmax(cosines(entry, context))) for entry in entries]
        together = np.zeros(z.shape[1:])
        assert of_class.prototypes == len(context)
        weights = [neighbor.positiveness for neighbor in of_class.neighbors]
        assert weights == sorted(weights, reverse=True)
        for neighbor in of_class.neighbors:
            p = neighbor.prototype
            assert neighbor.positiveness == pytest.approx(score[p] / score.sum(), rel=1e-3)
            assert neighbor.cosine == pytest.approx(cosines(anchor, context)[p], abs=1e-4)
            assert neighbor.members == group.count(p)
            np.testing.assert_allclose(neighbor.activation, cosines(context[p], z.transpose(1, 2, 0)), atol=1e-4)
            ranked = np.argsort(-cosines(context[p], entries))[:2]
            assert [like.image_id for like in neighbor.nearest] == [loaded.origins[k][entry] for entry in ranked]
            assert neighbor.nearest[0].cosine == pytest.approx(cosines(context[p], entries).max(), abs=1e-4)
            together += neighbor.share * neighbor.activation
        assert sum(neighbor.share for neighbor in of_class.neighbors) == pytest.approx(1)
        np.testing.assert_allclose(of_class.similarity, together.clip(0), atol=1e-4)


def test_the_similarities_give_the_published_pacam(run_folder: Path) -> None:
    """The mean over both scales of class / (class + background), at the size of the file's maps."""
    loaded, job = load_fitted(the_job()), the_job()
    record = find_record(job.dataset, "c")
    stored = read_maps(Path("data/cams"), record)
    mean = np.zeros_like(stored.maps["pacam"])
    for scale in job.config.cam.scales:
        _, _, found = views_in(loaded, "c", scale)
        ratios = [of_class.similarity / (of_class.similarity + of_class.background + 1e-5) for of_class in found]
        maps = torch.from_numpy(np.stack(ratios))[None]
        mean += F.interpolate(maps, size=map_size(record.size), mode="bilinear")[0].numpy() / 2
    np.testing.assert_allclose(stored.maps["pacam"], mean, atol=2e-3)


def test_the_pixels_behind_an_instance_give_its_entry_in_the_bank(run_folder: Path) -> None:
    loaded, job = load_fitted(the_job()), the_job()
    counted = 0
    for k, ids in enumerate(loaded.origins):
        for image_id, entry in zip(ids, loaded.learner.bank.latest(k), strict=True):
            record = find_record(job.dataset, image_id)
            photo = read_record_image(job.dataset.image_path(record), record)
            (view,) = views_of(photo, (1.0,), job.config.cam)
            label = loaded.classifier.label(record)
            pixels = instance_pixels(loaded, view, label, k)
            features, cam, _ = loaded.classifier.look(view, label)
            z = loaded.learner.embed(features, cam.shape[2:])[0].detach()
            mean = F.normalize(z[:, torch.from_numpy(pixels)].mean(dim=1), dim=0)
            torch.testing.assert_close(entry, mean, atol=1e-4, rtol=1e-4)
            counted += 1
    assert counted > 6


def test_page_and_picture_of_an_image(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage.main("c", out=Path("shown"), device="cpu")
    assert capsys.readouterr().out.split() == ["shown/c.html", "shown/c.png"]
    assert sorted(path.name for path in Path("shown").iterdir()) == ["c.html", "c.png"]
    page = Page(Path("shown/c.html"))
    assert all(url.startswith(("data:image/webp;base64,", "#")) for url in page.urls), "all is in the page"
    titles = [title for title, _ in page.pictures]
    neighbors = [n for of_class in views_in(load_fitted(the_job()), "c", 1.0)[2] for n in of_class.neighbors]
    assert [t for t in titles if t.startswith("Prototype")] == [f"Prototype {n.prototype}" for n in neighbors]
    for neighbor in neighbors:
        assert f"positiveness {neighbor.positiveness:.3g}" in page.text
    assert titles.count("CAM") == titles.count("Instance") == 2 and "Random walk" not in titles
    assert titles[-1] == "Ground truth" and {"Seeds", "CRF", "CRF: changed", "Pseudo-mask"} <= set(titles)
    with Image.open("shown/c.png") as picture:
        assert picture.width == 7 * 156 - 6, "image, CAM, instance, two neighbours, PACAM, taught CAM"
    before = Path("shown/c.html").read_bytes()
    stage.main("c", out=Path("shown"), device="cpu")
    assert Path("shown/c.html").read_bytes() == before


def test_the_table_against_counted_pixels(run_folder: Path) -> None:
    job = the_job()
    record = find_record(job.dataset, "c")
    stage.main("c", out=Path("shown"), device="cpu")
    rows = {row[0]: row[1:] for row in Page(Path("shown/c.html")).rows}
    crf = read_crf(Path("data/crf"), record).label
    truth = np.array(Image.open(job.dataset.mask_path(record)))
    area = [f"{100 * (crf == k).mean():.1f}" for k in (1, 3)]
    iou = []
    for k in (1, 3):
        both, either = ((crf == k) & (truth == k)).sum(), ((crf == k) | (truth == k)).sum()
        iou.append(f"{100 * both / either:.1f}")
    assert rows["CRF"] == [*area, *iou]
    assert rows["Ground truth"] == [*(f"{100 * (truth == k).mean():.1f}" for k in (1, 3)), "", ""]


def test_one_class_alone(run_folder: Path) -> None:
    stage.main("c", "blue", out=Path("shown"), device="cpu")
    page = Page(Path("shown/c.html"))
    assert "Maps of blue" in page.text and "Maps of red" not in page.text
    assert [title for title, _ in page.pictures].count("CAM") == 1


def test_the_walk_is_shown_where_there_is_one(run_folder: Path) -> None:
    set_params("^  method: none ", "  method: irn ")
    record = find_record(the_job().dataset, "c")
    os.remove("data/affinity/c.npz")
    scores = np.zeros((1, 3, *map_size(record.size)))
    scores[0, 2] = 1.0  # the walk makes everything blue
    write_walk(Path("data/affinity/c.npz"), WalkFile(np.array([1, 3]), scores, record.size, (1.0,)))
    stage.main("c", out=Path("shown"), device="cpu")
    page = Page(Path("shown/c.html"))
    assert {row[0]: row[1:3] for row in page.rows}["Random walk"] == ["0.0", "100.0"]
    assert "Random walk: changed" in [title for title, _ in page.pictures]


def test_without_ground_truth(run_folder: Path) -> None:
    path = Path("data/dataset/dataset.json")
    path.write_text(re.sub(r'"mask": "[^"]*"', '"mask": null', path.read_text(encoding="utf-8")), encoding="utf-8")
    stage.main("c", out=Path("shown"), device="cpu")
    page = Page(Path("shown/c.html"))
    assert "no ground truth of this image" in page.text and "IoU" not in page.text
    assert page.pictures[-1][0] == "Pseudo-mask"


def test_the_mask_to_learn_from_is_shown_where_there_is_one(run_folder: Path) -> None:
    set_params("^  unsure_background: ", "  unsure_background: 0.3 ")
    mask = read_mask(Path("data/pseudo_masks/c.png"))
    mask[:2] = VOID
    Path("data/pseudo_masks/training").mkdir()
    write_mask(Path("data/pseudo_masks/training/c.png"), mask)
    stage.main("c", out=Path("shown"), device="cpu")
    page = Page(Path("shown/c.html"))
    assert [title for title, _ in page.pictures[-2:]] == ["Mask to learn from", "Ground truth"]
    assert f"{100 * (mask == VOID).mean():.1f}% are void" in page.text and "exceed 0.3" in page.text


def test_a_corrected_mask_is_named(run_folder: Path) -> None:
    set_params("^  corrected: false ", "  corrected: true ")
    shutil.copy("data/pseudo_masks/c.png", "data/corrected_masks/c.png")
    stage.main("c", out=Path("shown"), device="cpu")
    assert "Corrected by an annotator" in Page(Path("shown/c.html")).text


MISSING = {
    "data/dataset": "prepare",
    "data/classifier.safetensors": "train_cam",
    "data/prototypes.safetensors": "fit_prototypes",
    "data/cams": "make_cams",
    "data/crf": "refine_crf",
    "data/pseudo_masks": "write_pseudo_masks",
}


@pytest.mark.parametrize("path", MISSING)
def test_a_stage_that_has_not_run_is_named(run_folder: Path, path: str) -> None:
    shutil.rmtree(path) if Path(path).is_dir() else os.remove(path)
    with pytest.raises(UserError, match=rf"^{path}.*dvc repro {MISSING[path]}$"):
        stage.main("c", out=Path("shown"), device="cpu")
    assert not Path("shown").exists()


def test_maps_of_other_settings_are_not_explained(run_folder: Path) -> None:
    set_params("^  temperature: 0.3 ", "  temperature: 0.01 ")
    set_params("^  topk: 2 ", "  topk: 1 ")
    with pytest.raises(UserError, match="PACAM is not what the present settings.*dvc repro -f -s make_cams"):
        stage.main("c", out=Path("shown"), device="cpu")


def test_results_of_other_settings_are_not_explained(run_folder: Path) -> None:
    """As dvc.lock has them: a threshold that make_cams does not read, whose change PACAM does not show."""
    threshold = load_config(Path("params.yaml")).seeds.pacam_threshold
    seeds = {"params": {"params.yaml": {"seeds.pacam_threshold": threshold}}}
    lock = {"schema": "2.0", "stages": {"refine_crf": {"cmd": "", **seeds}}}
    Path("dvc.lock").write_text(json.dumps(lock), encoding="utf-8")
    stage.main("c", out=Path("shown"), device="cpu")
    set_params("^  pacam_threshold: .*$", f"  pacam_threshold: {threshold + 0.01}")
    with pytest.raises(UserError, match="since refine_crf are of other settings.*dvc repro refine_crf$"):
        stage.main("c", out=Path("shown"), device="cpu")


def test_prototypes_of_other_images_are_not_explained(run_folder: Path) -> None:
    path = Path("data/dataset/dataset.json")
    path.write_text(
        path.read_text(encoding="utf-8").replace('"image_id": "d"', '"image_id": "other"'), encoding="utf-8"
    )
    with pytest.raises(UserError, match="made of other images, such as d; .*dvc repro fit_prototypes$"):
        stage.main("c", out=Path("shown"), device="cpu")


def test_imported_maps_have_no_prototypes(run_folder: Path) -> None:
    set_params("^  source: pacam ", "  source: imported ")
    set_params("^  maps: data/cams ", "  maps: data/imported_cams ")
    with pytest.raises(UserError, match="seeds.source: imported.*set seeds.source: taught"):
        stage.main("c", out=Path("shown"), device="cpu")


def test_images_and_classes_that_cannot_be_explained(tiny_dataset: Dataset) -> None:
    dataset = read_dataset(tiny_dataset.mask_root)
    with pytest.raises(UserError, match="image 'emptyy': .* name one such as empty$"):
        find_record(dataset, "emptyy")
    with pytest.raises(UserError, match="image 'zzz': .* name one such as a, b, c$"):
        find_record(dataset, "zzz")
    with pytest.raises(UserError, match="image e: a validation image.* such as a, b, c$"):
        find_record(dataset, "e")
    image, empty = find_record(dataset, "c"), find_record(dataset, "empty")
    assert find_record(dataset, "C") == find_record(dataset, "c.PNG") == image
    assert (find_classes(dataset, image, None), find_classes(dataset, image, "blue")) == ((1, 3), (3,))
    with pytest.raises(UserError, match="--class bleu: no class .*; choose red, green, blue$"):
        find_classes(dataset, image, "bleu")
    with pytest.raises(UserError, match="image c: its labels are red, blue; name an image with green, such as b, d$"):
        find_classes(dataset, image, "green")
    with pytest.raises(UserError, match="image empty: it has no label; name another image, such as a, b, c$"):
        find_classes(dataset, empty, None)


def test_changes_of_a_label_map() -> None:
    before = np.array([[0, 0, 1, 1, 2, VOID, 0, 1]], np.uint8)
    after = np.array([[0, 2, 0, 1, 1, 1, VOID, VOID]], np.uint8)
    assert changes(before, after).tolist() == [[0, GAINED, LOST, 0, SWAPPED, 0, 0, 0]]


def test_steps_of_hand_made_maps() -> None:
    """Four pixels: the seeds are 1 in the left half, the CRF takes one of them away, the mask is unsure of another."""
    maps = CamFile(np.array([1]), {"pacam": np.array([[[0.9]]])}, (2, 2))
    crf = Refined(np.array([[1, 0], [1, 0]], np.uint8), np.full((2, 2), 200, np.uint8))
    mask = np.array([[1, 0], [VOID, 0]], np.uint8)
    truth = np.array([[1, 0], [0, 0]], np.uint8)
    found = Published(maps, SeedRule("pacam", {"pacam": 0.5}), crf, None, mask, False, None, truth)
    made = {step.title: step for step in steps(found, [1])}
    assert list(made) == ["Seeds", "CRF", "Pseudo-mask", "Ground truth"]
    assert [made[title].area for title in made] == [[100.0], [50.0], [25.0], [25.0]]
    assert [made[title].iou for title in made] == [[25.0], [50.0], [100.0], [100.0]]
    assert made["CRF"].share(LOST) == 50.0 and made["CRF"].share(GAINED) == 0.0
    assert made["Seeds"].change is made["Pseudo-mask"].change is made["Ground truth"].change is None


def test_what_is_read_of_an_image(run_folder: Path) -> None:
    job = the_job()
    found = read_published(job, find_record(job.dataset, "c"))
    assert found.walk is None and not found.corrected and found.rule.source == "pacam"
    assert found.maps.classes.tolist() == [1, 3] and found.truth is not None
