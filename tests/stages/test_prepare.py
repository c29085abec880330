"""The prepare stage: whole results or none, and errors that end in one message and exit code 2."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image
from ruamel.yaml import YAML

import stages.check
import stages.prepare
from cpal.data.dataset import read_dataset
from cpal.errors import UserError
from cpal.files import whole_file
from cpal.settings.config import Config, load_config
from stages.job.command import run_stage
from stages.job.destination import destination
from stages.job.job import Job

PROJECT = Path(__file__).parents[2]
TOY = {"toy.train_images": 6, "toy.val_images": 2, "toy.max_side": 128}

FOLDER = {
    "data.source": "folder",
    "data.labels": "csv",
    "data.labels_file": "labels.csv",
    "data.masks": None,
    "data.score_list": "train",
}
BY_FOLDER = {"data.labels": "folders", "data.labels_file": None}
BY_MASKS = {"data.labels": "masks", "data.labels_file": None}


@pytest.fixture
def params(settings: Callable[..., Config], tmp_path: Path) -> Callable[..., Path]:
    """`params(**{"data.source": "voc"})`: a settings file of the toy data set with few images, then these."""

    def write(**overrides: Any) -> Path:
        path = tmp_path / "params.yaml"
        YAML().dump(json.loads(settings(**TOY | overrides).model_dump_json()), path)
        return path

    return write


def prepare(path: Path, **options: Any) -> None:
    stages.prepare.main(Job("prepare", load_config(path), path, **options))


def check(path: Path, **options: Any) -> None:
    stages.check.main(Job("check", load_config(path), path, **options))


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_toy_dataset_is_deterministic(
    params: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(params(), workers=1, out=tmp_path / "one")
    prepare(params(), workers=2, out=tmp_path / "two")
    prepare(params(seed=1), workers=1, out=tmp_path / "other")
    assert content(tmp_path / "one") == content(tmp_path / "two")
    assert content(tmp_path / "one") != content(tmp_path / "other")
    assert len(content(tmp_path / "one" / "dataset")) == 1 + 2 * (6 + 2)
    header, lists, images, *classes = capsys.readouterr().out.splitlines()[: 3 + 6]
    assert header.split() == ["train", "score", "val"]
    assert lists.split() == ["list", "train", "train", "val"]
    assert images.split() == ["images", "6", "6", "2"]
    records = read_dataset(tmp_path / "one" / "dataset").split("train")
    assert [int(line.split()[1]) for line in classes] == [sum(n in r.labels for r in records) for n in range(1, 7)]


def test_a_new_result_replaces_the_old_one(params: Callable[..., Path], tmp_path: Path) -> None:
    prepare(params(), workers=1, out=tmp_path)
    prepare(params(**{"toy.train_images": 2}), workers=1, out=tmp_path)
    assert sorted(path.name for path in (tmp_path / "dataset" / "masks").iterdir()) == [
        "train_0000.png",
        "train_0001.png",
        "val_0000.png",
        "val_0001.png",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".cpal", "dataset", "params.yaml"]


def test_files_of_others_are_not_replaced(params: Callable[..., Path], tmp_path: Path) -> None:
    """A project folder with photographs in dataset/ is no place for results; an empty folder is."""
    (tmp_path / "mine" / "dataset" / "images").mkdir(parents=True)
    with pytest.raises(UserError, match="mine: holds dataset, which this command did not write; give --out a new fold"):
        prepare(params(), workers=1, limit=1, out=tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").rglob("*")] == ["dataset", "images"]
    (tmp_path / "mine" / "dataset" / "images").rmdir()
    prepare(params(), workers=1, limit=1, out=tmp_path / "mine")
    assert (tmp_path / "mine" / "dataset" / "dataset.json").is_file()
    (tmp_path / "mine" / "cams").mkdir()
    (tmp_path / "mine" / "cams" / "a.npy").touch()
    with pytest.raises(UserError, match="mine: holds cams"):
        destination(Path("data/cams"), None, tmp_path / "mine")
    (tmp_path / "mine" / "classifier.safetensors").touch()
    with pytest.raises(UserError, match=r"mine: holds classifier\.safetensors"):
        destination(Path("data/classifier.safetensors"), None, tmp_path / "mine")


AMONG_OUTPUTS = [
    ("data/dataset", {"data.root": "data/dataset"}),
    ("data/dataset/photos", {"data.root": "data/dataset/photos"}),
    ("data/cams", {"data.root": "data", "data.images": "cams"}),
    ("data/dataset", {"data.root": "link", "data.images": "."}),
]


@pytest.mark.parametrize(
    ("command", "place", "changes"),
    [
        *((check, *case) for case in AMONG_OUTPUTS),
        *((prepare, *case) for case in AMONG_OUTPUTS),
        (prepare, "out/dataset", {"data.root": "out", "data.images": "dataset"}),
    ],
)
def test_photographs_among_the_outputs_are_refused(
    params: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    changes: dict[str, str],
    command: Callable[..., None],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data/raw").mkdir(parents=True)
    Path("link").symlink_to("data/dataset")
    Path(place).mkdir(parents=True)
    Image.new("RGB", (80, 80)).save(Path(place) / "a.png")
    path = params(**FOLDER | changes)
    before = content(tmp_path)
    with pytest.raises(UserError, match=r"data\.root: .* lies in .*; move the data set to .*data/raw/NAME"):
        command(path, workers=1, out=Path("out") if place == "out/dataset" else None)
    assert content(tmp_path) == before


@pytest.mark.parametrize("root", ["data", ".", "data/raw/.."])
@pytest.mark.parametrize("command", [prepare, check])
def test_a_root_that_holds_the_outputs_is_refused(
    params: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    root: str,
    command: Callable[..., None],
) -> None:
    """DVC ends with "Same item(s) are defined as both a dependency and an output"."""
    monkeypatch.chdir(tmp_path)
    Path("data/raw").mkdir(parents=True)
    with pytest.raises(UserError, match=r"data\.root: .* holds .*; move the data set to .*data/raw/NAME"):
        command(params(**FOLDER | {"data.root": root}), workers=1)


def test_photographs_beside_the_outputs_are_used(
    params: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    root = "data/raw"
    for name in ("cup/a", "cup/b", "fork/c", "fork/d"):
        Path(root, "mine", name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (80, 80)).save(Path(root, "mine", f"{name}.png"))
    path = params(**FOLDER | {"data.root": root, "data.images": "mine"} | BY_FOLDER)
    for _ in range(2):
        prepare(path, workers=1)
    assert len(read_dataset(Path("data/dataset")).records) == 4


def test_pictures_that_are_not_used_are_named(
    params: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("cup/a.jpg", "cup/b.jfif", "fork/c.gif", "fork/d.JPE"):
        (tmp_path / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        with (tmp_path / "mine" / name).open("wb") as stream:
            Image.new("RGB", (40, 40)).save(stream, format="GIF" if name.endswith("gif") else "JPEG")
    (tmp_path / "mine/fork/e.nef").write_bytes(b"raw")
    path = params(**FOLDER | {"data.root": str(tmp_path), "data.images": "mine"} | BY_FOLDER)
    prepare(path, workers=1, out=tmp_path / "out")
    assert len(read_dataset(tmp_path / "out/dataset").records) == 4
    assert "note: 1 file(s) not used, raw files of a camera: fork/e.nef; develop them" in capsys.readouterr().out
    (tmp_path / "mine/cup/IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(200))
    with pytest.raises(UserError, match="IMG_1.HEIC"):
        prepare(path, workers=1, out=tmp_path / "out")


@pytest.mark.parametrize("command", [check, prepare])
def test_a_table_that_dvc_does_not_watch_is_told(
    params: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], command: Callable[..., None]
) -> None:
    (tmp_path / "mine/photos").mkdir(parents=True)
    for name in "abcd":
        Image.new("RGB", (80, 80)).save(tmp_path / f"mine/photos/{name}.png")
    table = "image,label\na.png,cup\nb.png,cup\nc.png,fork\nd.png,fork\n"
    for place in ("labels.csv", "mine/labels.csv"):
        (tmp_path / place).write_text(table, encoding="utf-8")
    own = FOLDER | {"data.root": str(tmp_path / "mine"), "data.images": "photos"}
    command(params(**own), workers=1, out=tmp_path / "out")
    assert "does not see" not in capsys.readouterr().out
    command(params(**own | {"data.labels_file": "../labels.csv"}), workers=1, out=tmp_path / "out")
    note = "note: data.labels_file: ../labels.csv lies outside data.root, or behind a link, so DVC does not see"
    assert note in capsys.readouterr().out


def test_a_partial_result_does_not_become_an_output(params: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match="--out data: there lies DVC's output data/dataset"):
        prepare(params(), workers=1, limit=1, out=Path("data"))


def test_link_to_another_disk_stays_a_link(params: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "roomy" / "place").mkdir(parents=True)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "dataset").symlink_to(tmp_path / "roomy" / "place", target_is_directory=True)
    prepare(params(), workers=1, limit=2, out=tmp_path / "out")
    prepare(params(), workers=1, limit=1, out=tmp_path / "out")
    assert (tmp_path / "out" / "dataset").is_symlink()
    assert (tmp_path / "roomy" / "place" / "dataset.json").is_file()


def test_limit_needs_out(params: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match="add --out DIR"):
        prepare(params(), workers=1, limit=1)


def fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The message of a run that ends with exit code 2."""
    monkeypatch.setattr(sys, "argv", ["prepare", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        run_stage(stages.prepare.main)
    assert caught.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("number", "cure"),
    [(errno.ENOSPC, "free some space"), (errno.EDQUOT, "free some space"), (errno.EACCES, "can be written")],
)
def test_error_of_the_disk_leaves_what_was_there(
    params: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: int,
    cure: str,
) -> None:
    prepare(params(), workers=1, out=tmp_path)
    before = content(tmp_path)

    def draw_some(folder: Path, *_: object, **__: object) -> None:
        (folder / "half").touch()
        raise OSError(number, os.strerror(number), *(["half"] if number == errno.EACCES else []))

    monkeypatch.setattr(stages.prepare, "draw_dataset", draw_some)
    text = fails(monkeypatch, capsys, "--params", params(), "--out", tmp_path)
    assert text.startswith("error: ") and os.strerror(number) in text and cure in text
    assert content(tmp_path) == before


def test_place_that_cannot_be_written(
    params: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    text = fails(monkeypatch, capsys, "--params", params(), "--out", tmp_path / "file")
    assert text.startswith(f"error: {tmp_path / 'file'}") and "Not a directory; check that the path exists" in text
    (tmp_path / "dataset").write_text("precious")
    text = fails(monkeypatch, capsys, "--params", params(), "--out", tmp_path)
    assert text.startswith(f"error: {tmp_path}: holds dataset, which this command did not write")
    assert (tmp_path / "dataset").read_text() == "precious"


def test_error_of_writing_names_the_file(tmp_path: Path) -> None:
    """And not the temporary one beside it, which is gone by then."""
    (tmp_path / "a").mkdir()
    with pytest.raises(IsADirectoryError) as caught, whole_file(tmp_path / "a") as temporary:
        temporary.touch()
    assert caught.value.filename == str(tmp_path / "a")
    with pytest.raises(FileNotFoundError) as missing, whole_file(tmp_path / "b" / "c") as temporary:
        (tmp_path / "b").rmdir()
        temporary.write_text("x")
    assert missing.value.filename == str(tmp_path / "b" / "c")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_other_trouble_keeps_its_traceback(
    params: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose_connection(*_: object, **__: object) -> None:
        raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")

    monkeypatch.setattr(stages.prepare, "draw_dataset", lose_connection)
    monkeypatch.setattr(sys, "argv", ["prepare", "--params", str(params()), "--out", str(tmp_path)])
    with pytest.raises(ConnectionRefusedError):
        run_stage(stages.prepare.main)


def test_wrong_data_set_as_a_command(params: Callable[..., Path], tmp_path: Path) -> None:
    """The whole way, in a folder of its own: relative data.root, one message, exit code 2, no result."""
    (tmp_path / "photos" / "ImageSets" / "Segmentation").mkdir(parents=True)
    (tmp_path / "photos" / "JPEGImages").mkdir()
    (tmp_path / "photos" / "ImageSets" / "Segmentation" / "val.txt").write_text("a\na\n")
    path = params(**{"data.source": "voc", "data.root": "photos"})
    before = content(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "stages.prepare", "--params", str(path), "--out", "out"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr[done.stderr.index("error:") :] == (
        "error: data set photos: 3 problem(s) to put right:\n"
        "  - photos/SegmentationClass: no such folder; it holds the ground-truth masks (data.masks)\n"
        "  - photos/ImageSets/Segmentation/train.txt: no such list; lists there: val\n"
        "  - photos/ImageSets/Segmentation/val.txt: 1 image(s) named more than once: a\n"
    )
    assert "Traceback" not in done.stderr
    assert content(tmp_path) == before | {"out/.cpal": b"dataset\n"}


def test_check_names_networks_that_do_not_exist(params: Callable[..., Path]) -> None:
    path = params(**{"segmentation.backbone": "resnet101_cafe", "affinity.backbone": "nothing"})
    with pytest.raises(
        UserError, match=r"^segmentation.backbone 'resnet101_cafe': no such network; names like it: resnet101_caffe"
    ):
        check(path, workers=1)  # affinity.method is none


def test_check_of_the_toy_has_nothing_to_say(
    params: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = params()
    before = content(tmp_path)
    check(path, workers=1, out=tmp_path / "out")
    assert "nothing to check" in capsys.readouterr().out
    assert content(tmp_path) == before


@pytest.mark.parametrize(("there", "download"), [(False, False), (False, True), (True, False), (True, True)])
def test_check_of_voc2012_before_its_download(
    params: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], there: bool, download: bool
) -> None:
    root = tmp_path / "voc"
    if there:
        root.mkdir()
    source = {"data.source": "voc2012", "data.root": str(root), "data.labels": "xml", "data.masks": None}
    path = params(**source | {"voc2012.download": download})
    if download:
        check(path, workers=1)
        assert "prepare will download VOC 2012 into it" in capsys.readouterr().out
    else:
        with pytest.raises(typer.Exit):
            check(path, workers=1)
        assert "or let it be fetched: voc2012.download: true" in " ".join(capsys.readouterr().out.split())


def test_check_as_a_command(params: Callable[..., Path], tmp_path: Path) -> None:
    """It prints, exits with 2 for errors alone, and writes health.json where --out says, and nothing else."""
    photos = tmp_path / "photos"
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (photos / name).mkdir(parents=True)
    for name, ids in {"train": ("a", "b"), "val": ("c",)}.items():
        (photos / f"ImageSets/Segmentation/{name}.txt").write_text("\n".join(ids))
        for image_id in ids:
            pixels = np.random.default_rng(ord(image_id)).integers(0, 256, (70, 80, 3), np.uint8)
            Image.fromarray(pixels).save(photos / f"JPEGImages/{image_id}.png")
            mask = np.zeros((70, 80), np.uint8)
            mask[:9] = 8 if image_id == "b" else 12
            Image.fromarray(mask).save(photos / f"SegmentationClass/{image_id}.png")
    changes = {
        "data.root": "photos",
        "data.classes": ["cat", "dog"],
        "crf.bilateral_sxy": 8.0,
        "hosts.irn.epochs": 100,
        "segmentation.iterations": 100,
    }
    path = params(**{"data.source": "voc"} | changes)
    before = content(tmp_path)

    def check(*arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "stages.check", "--params", str(path), "--workers", "2", *arguments],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(PROJECT)},
            capture_output=True,
            text=True,
        )
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout

    code, text = check()
    assert (code, text.splitlines()[-1]) == (0, "0 errors, 2 warnings, 0 notes")
    assert content(tmp_path) == before
    (photos / "JPEGImages/b.png").write_bytes(b"")
    before = content(tmp_path)
    code, text = check("--out", "out")
    assert (code, text.splitlines()[-1]) == (2, "1 error, 2 warnings, 0 notes")
    assert "empty image files: 1\n    b\n" in text
    written = content(tmp_path)
    health = json.loads(written.pop("out/health.json"))
    assert written == before
    assert [finding["kind"] for finding in health["findings"]] == ["empty", "absent_in_val", "rare"]
    assert health["together"] == [[1, 0], [0, 1]]
    code, text = check("--limit", "1")
    assert (code, text.splitlines()[-1]) == (0, "0 errors, 0 warnings, 0 notes"), "b is not among the first"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.root": "none"}, "data.root: no folder none"),
        ({"data.images": "none"}, "mine/none: no such folder; data.images names"),
        (
            {"data.labels_file": "none.csv"},
            "mine/none.csv: no such file; put it there, or name another one in data.labels_file",
        ),
        ({"data.labels_file": "images/a.png"}, "mine/images/a.png: a picture and no table"),
        ({"data.labels": "coco", "data.labels_file": "labels.csv"}, "mine/labels.csv: damaged, or no JSON"),
        ({**BY_MASKS, "data.masks": "images", "data.mask_classes": ["cup"]}, "would be its own mask"),
    ],
)
def test_check_where_no_class_is_known(
    params: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine/images").mkdir(parents=True)
    (tmp_path / "mine/labels.csv").write_text("image,labels\na,cup\n")
    Image.new("RGB", (70, 80)).save(tmp_path / "mine/images/a.png")
    values = {"source": "folder", "root": "mine", "images": "images", "labels": "csv", "labels_file": "labels.csv"}
    own = {f"data.{key}": value for key, value in (values | {"masks": None}).items()} | {"data.classes": None}
    path = params(**own | changes)
    with pytest.raises(typer.Exit) as caught:
        check(path, workers=1)
    assert caught.value.exit_code == 2
    assert message in " ".join(capsys.readouterr().out.split())
