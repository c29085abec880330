"""The package as others use it: the examples run, also with nothing but the built wheel, outside the project."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from cpal import ContextPrototypeLearner, CpalSettings
from cpal.data.dataset import Dataset
from cpal.data.views import pyramid_loader
from cpal.errors import UserError
from cpal.hosts.build import build_host
from cpal.method.classifier import Classifier, weights_meta
from cpal.method.fit_prototypes import fit_prototypes
from cpal.method.learner import build_learner
from cpal.networks.weights import save_weights
from cpal.settings.config import Config

ROOT = Path(__file__).parents[1]


def run_example(name: str, *arguments: str, folder: Path, library: Path) -> str:
    """Output of an example, run in another folder with the package of `library`."""
    environment = os.environ | {"PYTHONPATH": str(library)}
    command = [sys.executable, str(ROOT / "examples" / name), *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the wheel installs; built from a copy, since setuptools leaves build/ beside the source."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "LICENSE", "README.md"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "cpal", folder / "cpal", ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder / "dist"), str(folder)]
    subprocess.run(build, check=True)
    (file,) = (folder / "dist").glob("cpal-*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", str(folder / "site"), str(file)], check=True)
    return folder / "site"


def test_wheel_holds_the_library_and_nothing_else(wheel: Path) -> None:
    assert {path.name for path in wheel.iterdir() if not path.name.endswith(".dist-info")} == {"cpal"}
    assert (wheel / "cpal/py.typed").is_file()
    presets = {path.name for path in (wheel / "cpal/settings/presets").iterdir()}
    assert presets == {"default.yaml", "literal.yaml", "sipe.yaml"}


def test_plug_in_from_the_wheel(wheel: Path, tmp_path: Path) -> None:
    """Two steps on a plain classifier; the second has contexts, so that L_Self is no longer zero."""
    text = run_example("plug_in.py", "pacam.png", folder=tmp_path, library=wheel)
    losses = [float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith("epoch")]
    assert losses[0] == 0 and losses[1] > 0
    with Image.open(tmp_path / "pacam.png") as picture:
        assert picture.size == (8 * 96, 96)
        assert np.ptp(np.asarray(picture)) > 20, "a PACAM is no flat picture"


@pytest.fixture(scope="module")
def project(settings: Callable[..., Config], tiny_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder with settings, data set, classifier and prototypes."""
    folder, config, classes = tmp_path_factory.mktemp("project"), settings(), tiny_dataset.classes
    YAML(typ="safe").dump(config.model_dump(mode="json"), folder / "params.yaml")
    shutil.copytree(tiny_dataset.mask_root, folder / "data/dataset")
    host = build_host(config.chosen_host, classes)
    learner = build_learner(host, len(classes), config.cpal, seed=0)
    trained = {"host": host, "projections": learner.projections}
    save_weights(folder / "data/classifier.safetensors", trained, weights_meta(config.chosen_host, classes))
    views = pyramid_loader(tiny_dataset, tiny_dataset.split("train"), scales=(1.0,), flip=True, long_side=64, workers=0)
    fit_prototypes(Classifier(host, len(classes), learner), views)
    save_weights(folder / "data/prototypes.safetensors", {"learner": learner}, {"classes": list(classes)})
    return folder


def test_one_image(project: Path) -> None:
    """From a project's settings and files of weights to the pseudo-mask of a picture that shows red."""
    text = run_example("one_image.py", "data/dataset/images/a.png", "red", "mask.png", folder=project, library=ROOT)
    assert [line.split(":")[0] for line in text.splitlines()] == ["cam", "pacam", "mask.png"]
    with Image.open(project / "mask.png") as mask:
        assert mask.size == (33, 40)
        assert {1} <= set(np.unique(np.asarray(mask))) <= {0, 1, 255}


def test_notebook(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its cells run one after the other, and end with a row of four label maps."""
    notebook = json.loads((ROOT / "examples/explore.ipynb").read_text(encoding="utf-8"))
    source = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    monkeypatch.chdir(project)
    names: dict[str, Any] = {}
    for text in source:
        exec(text, names)
    assert list(names["masks"]) == ["Seed", "CRF", "Pseudo-mask", "Ground truth"]
    assert names["record"].image_id in ("c", "d"), "two labels are the most of any picture"
    assert all(mask.shape == names["record"].size for mask in names["masks"].values())


@pytest.mark.parametrize("name", ["default", "literal", "sipe"])
def test_presets_are_complete(name: str) -> None:
    settings = CpalSettings.preset(name)
    assert CpalSettings.preset(name, topk=3).topk == 3 != settings.topk
    learner = ContextPrototypeLearner(2, [8] * len(settings.features), settings, seed=0)
    assert learner.bank.entries.shape[1] == settings.bank_length


def test_unknown_presets_and_keys_are_refused() -> None:
    with pytest.raises(UserError, match="preset 'best': unknown; choose default, literal, sipe"):
        CpalSettings.preset("best")
    with pytest.raises(ValueError, match="tok"):
        CpalSettings.preset("default", tok=3)
