"""The package as others use it: the examples run, also with nothing but the built wheel, outside the project."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cpal import ContextPrototypeLearner, CpalSettings
from cpal.errors import UserError

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
    losses = [float(line.rpartition(" ")[2]) for line in text.splitlines()]
    assert losses[0] == 0 and losses[1] > 0
    with Image.open(tmp_path / "pacam.png") as picture:
        assert picture.size == (8 * 96, 96)
        assert np.ptp(np.asarray(picture)) > 20, "a PACAM is no flat picture"


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
