"""Shared by all tests: small settings made from params.yaml, a tiny data set whose colors tell labels, and a run."""

import copy
import hashlib
import importlib
import inspect
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from ruamel.yaml import YAML

from cpal.data.dataset import Dataset, Record, read_dataset, write_dataset
from cpal.data.masks import VOID, read_truth, write_confidence, write_mask
from cpal.settings.config import Config, parse_config
from cpal.settings.data import DataConfig
from cpal.settings.profiles import merged, plain_yaml
from in_browser import Visit, chromium, visits

PARAMS = Path(__file__).parent.parent / "params.yaml"
TINY = {
    "toy.train_images": 6,
    "toy.val_images": 3,
    "hosts.irn.epochs": 2,
    "hosts.irn.batch_size": 2,
    "hosts.irn.crop_size": 32,
    "hosts.irn.resize_long": [32, 48],
    "cpal.refinements": 1,
    "cpal.bank_length": 12,
    "cpal.num_prototypes": 4,
    "cpal.topk": 2,
    "cam.scales": [1.0],
    "crf.iterations": 2,
    "segmentation.iterations": 4,
    "segmentation.checkpoint_interval": 2,
    "segmentation.batch_size": 2,
    "segmentation.crop_size": 32,
}
CLASSES = ("red", "green", "blue")
COLORS = {0: (90, 90, 90), 1: (200, 30, 30), 2: (30, 200, 30), 3: (30, 30, 200)}
PICTURES: dict[str, tuple[str, tuple[int, int], dict[int, tuple[int, int, int, int]]]] = {
    # id: split, (height, width), box (top, left, bottom, right) of each class
    "a": ("train", (40, 33), {1: (5, 4, 25, 20)}),
    "b": ("train", (24, 30), {2: (6, 6, 18, 22)}),
    "c": ("train", (33, 48), {1: (3, 3, 20, 18), 3: (10, 24, 30, 45)}),
    "d": ("train", (36, 36), {3: (8, 8, 30, 30), 2: (0, 0, 8, 30)}),
    "empty": ("train", (31, 35), {}),
    "e": ("val", (37, 41), {2: (10, 5, 30, 20)}),
    "f": ("val", (30, 44), {1: (4, 4, 20, 20), 3: (12, 22, 28, 42)}),
}


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    """Random tensors of a test are the same in every run."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium through Playwright."""
    with chromium() as started:
        yield started


@pytest.fixture
def visit(browser: Any) -> Iterator[Visit]:
    """`visit(path)` opens a page; the test fails on any line of a console."""
    with visits(browser) as open_page:
        yield open_page


@pytest.fixture(scope="session")
def raw_params() -> dict[str, Any]:
    """params.yaml as plain dicts; treat it as read-only."""
    return YAML(typ="safe", pure=True).load(PARAMS.read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def settings(raw_params: dict[str, Any]) -> Callable[..., Config]:
    """`settings(**{"cpal.topk": 3})`: params.yaml made small, then these keys."""

    def make(**overrides: Any) -> Config:
        values = copy.deepcopy(raw_params)
        for key, value in (TINY | overrides).items():
            *parents, last = key.split(".")
            section = values
            for name in parents:
                section = section[name]
            section[last] = value
        return parse_config(values)

    return make


@pytest.fixture(scope="session")
def data_settings(settings: Callable[..., Config]) -> Callable[..., DataConfig]:
    """`data_settings(source="voc", root="x")`: section `data` of the small settings with these keys."""
    return lambda **changes: settings(**{f"data.{key}": value for key, value in changes.items()}).data


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Seven pictures of colored boxes, five of them to train on, one without any label; masks have no void."""
    folder = tmp_path_factory.mktemp("dataset")
    records = [_write_picture(folder, image_id, *PICTURES[image_id]) for image_id in PICTURES]
    write_dataset(folder, records, classes=CLASSES, splits={"train": "t", "score": "t", "val": "v"}, image_root=None)
    return read_dataset(folder)


def _write_picture(
    folder: Path, image_id: str, split: Any, size: tuple[int, int], boxes: dict[int, tuple[int, int, int, int]]
) -> Record:
    mask = np.zeros(size, np.uint8)
    for label, (top, left, bottom, right) in boxes.items():
        mask[top:bottom, left:right] = label
    assert VOID not in mask
    palette = np.array([COLORS[label] for label in sorted(COLORS)], np.uint8)
    (folder / "images").mkdir(exist_ok=True)
    image = folder / "images" / f"{image_id}.png"
    Image.fromarray(palette[mask]).save(image)
    write_mask(folder / "masks" / f"{image_id}.png", mask)
    return Record(
        image_id,
        split,
        True,
        f"images/{image_id}.png",
        size[1],
        size[0],
        tuple(sorted(boxes)),
        f"masks/{image_id}.png",
        hashlib.sha256(image.read_bytes()).hexdigest(),
    )


RUN = """
hosts: {irn: {backbone: test_efficientnet, weights: none}}
cpal: {refinements: 1, bank_length: 4, num_prototypes: 3, topk: 2, mask_threshold: 0.3, background_threshold: 0.3}
cam: {scales: [1.0, 1.5], long_side: 48}
taught_cam: {crf_rounds: 0}
seeds: {source: pacam}
crf: {iterations: 2}
"""


RUN_STAGES = (
    *("fit_prototypes", "teach_cam", "make_cams", "refine_crf", "train_affinity", "propagate_affinity"),
    *("write_pseudo_masks", "evaluate_seed", "evaluate_crf", "evaluate_pseudo_mask", "evaluate_segmentation"),
)


@pytest.fixture(scope="session")
def finished_run(tiny_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of an untrained network whose stages from fit_prototypes to the scores have run; do not change it."""
    from cpal.hosts.build import build_host
    from cpal.method.classifier import weights_meta
    from cpal.method.learner import build_learner
    from cpal.networks.weights import save_weights
    from cpal.settings.config import load_config
    from stages.job.job import Job
    from stages.job.network import NetworkJob

    folder = tmp_path_factory.mktemp("run")
    for name in ("cpal", "stages", "dvc.yaml"):
        (folder / name).symlink_to(PARAMS.parent / name)
    text, _ = merged(PARAMS.read_text(encoding="utf-8"), plain_yaml(RUN), name="run")
    (folder / "params.yaml").write_text(text, encoding="utf-8")
    shutil.copytree(tiny_dataset.mask_root, folder / "data/dataset")
    (folder / "data/corrected_masks").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        config, dataset = load_config(Path("params.yaml")), read_dataset(Path("data/dataset"))
        torch.manual_seed(3)
        host = build_host(config.chosen_host, dataset.classes)
        learner = build_learner(host, dataset.num_foreground, config.cpal, seed=0)
        meta = weights_meta(config.chosen_host, dataset.classes)
        save_weights(Path("data/classifier.safetensors"), {"host": host, "projections": learner.projections}, meta)
        for record in dataset.records:
            mask = read_truth(dataset, record)
            write_mask(Path(f"data/predictions/{record.image_id}.png"), np.where(mask == 3, 1, mask))
            write_confidence(
                Path(f"data/predictions/confidence/{record.image_id}.png"), np.full(mask.shape, 204, np.uint8)
            )
        for name in RUN_STAGES:
            main = importlib.import_module(f"stages.{name}").main
            job = Job(name, config, workers=1)
            if next(iter(inspect.signature(main).parameters.values())).annotation is NetworkJob:
                job = NetworkJob(name, config, workers=1, device_name="cpu", loaders_asked=0)
            main(job)
    return folder
