"""A user's error reaches the user in its own words, whichever process it comes from."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from joblib import Parallel, delayed
from torch.utils.data import DataLoader, Dataset

import stages.job.device
from cpal.data.dataset import Dataset as Images
from cpal.data.dataset import Record, read_dataset
from cpal.errors import UserError
from cpal.maps.cams import CamFile, read_maps, write_cam
from cpal.maps.refined import Refined, read_crf, write_crf
from cpal.maps.walked import WalkFile, read_walk, write_walk
from stages.job.device import torch_device

MESSAGE = "data/a.jpg: no such image file\n  - and a second line"


class Broken(Dataset[int]):
    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> int:
        raise UserError(MESSAGE)


def test_from_a_worker_of_a_data_loader() -> None:
    with pytest.raises(UserError) as caught:
        list(DataLoader(Broken(), num_workers=1))
    assert str(caught.value) == MESSAGE


def fail(_: int) -> None:
    raise UserError(MESSAGE)


def test_from_a_parallel_job() -> None:
    with pytest.raises(UserError) as caught:
        Parallel(n_jobs=2)(delayed(fail)(i) for i in range(2))
    assert str(caught.value) == MESSAGE


def test_pickled() -> None:
    assert str(pickle.loads(pickle.dumps(UserError(MESSAGE)))) == MESSAGE


# Results that are damaged


@pytest.mark.parametrize(
    "content",
    [b"", b'{"format": 1, "classes"', b"\xff\xfe", b"[]", b"3", b'{"format": 1}', b'{"format": 1, "records": [4]}'],
)
def test_data_set(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "dataset.json").write_bytes(content)
    with pytest.raises(UserError, match=r"dataset\.json: damaged; .*: dvc repro -f -s prepare"):
        read_dataset(tmp_path)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # numpy leaves half a zip open
@pytest.mark.parametrize("damage", ["empty", "half", "flipped", "no zip", "an array", "foreign", "missing"])
@pytest.mark.parametrize(
    ("name", "cure"),
    [
        ("maps", "make them again: .* dvc repro (-f -s )?make_cams"),
        ("crf", "dvc repro (-f -s )?refine_crf"),
        ("walk", "dvc repro (-f -s )?propagate_affinity"),
    ],
)
def test_maps_of_an_image(tmp_path: Path, tiny_dataset: Images, name: str, cure: str, damage: str) -> None:
    record, path = tiny_dataset.records[0], tmp_path / "a.npz"
    size, one = (record.height, record.width), np.array(record.labels)
    noise = np.random.default_rng(0).random((1, 10, 9))
    pixels = np.random.default_rng(0).integers(0, 2, size).astype(np.uint8)
    if name == "maps":
        write_cam(path, CamFile(one, {"cam": noise}, size))
    elif name == "crf":
        write_crf(path, Refined(pixels, pixels))
    else:
        write_walk(path, WalkFile(one, noise[None], size, (1.0,)))

    def read() -> object:
        if name == "maps":
            return read_maps(tmp_path, record)
        return read_crf(tmp_path, record) if name == "crf" else read_walk(tmp_path, record)

    read()
    content = path.read_bytes()
    if damage == "an array":
        with path.open("wb") as stream:
            np.save(stream, np.zeros(3))
    elif damage == "foreign":
        np.savez(path, other=np.zeros(3))
    elif damage == "missing":
        path.unlink()
    else:
        middle = len(content) // 2
        flipped = (
            content[:middle] + bytes(255 - value for value in content[middle : middle + 9]) + content[middle + 9 :]
        )
        path.write_bytes({"empty": b"", "half": content[:middle], "flipped": flipped}.get(damage, b"no zip"))
    what = {"missing": "no such file", "foreign": "holds no `[a-z]+`"}.get(damage, "damaged")
    with pytest.raises(UserError, match=f"a.npz: {what}; .*{cure}"):
        read()


ONES, MAPS = np.ones((40, 33), np.uint8), np.full((1, 10, 9), 0.5, np.float16)
HEAD = {"classes": np.array([1]), "size": np.array([40, 33])}
FILES: dict[str, dict[str, np.ndarray]] = {
    "maps": HEAD | {"cam": MAPS, "pacam": MAPS},
    "crf": {"label": ONES, "confidence": ONES},
    "walk": HEAD | {"scores": MAPS[None], "powers": np.array([1.5])},
}


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("maps", {"pacam": MAPS[:, :9]}, "`pacam` is float16 of 1 x 9 x 9, not float16 of 1 x 10 x 9"),
        ("maps", {"cam": np.repeat(MAPS, 2, axis=0)}, "`cam` is float16 of 2 x 10 x 9, not float16 of 1 x 10 x 9"),
        ("maps", {"cam": MAPS[0]}, "`cam` is float16 of 10 x 9, not"),
        ("maps", {"cam": MAPS.astype(float)}, "`cam` is float64 of"),
        ("maps", {"pacam": MAPS * np.nan}, "`pacam` has values that are no finite numbers"),
        ("maps", {"cam": MAPS + np.inf}, "`cam` has values that are no finite numbers"),
        ("maps", {"cam": None}, "holds no `cam`"),
        (
            "maps",
            {"size": np.array([33, 40])},
            r"of an image of \(33, 40\), but the data set says \[1\] and \(40, 33\)",
        ),
        ("maps", {"size": np.array(40)}, "`size` is int64 of , not int64 of 2"),
        ("maps", {"classes": np.array([2])}, r"maps of classes \[2\] of an image of"),
        ("maps", {"classes": np.array([1, 1]), "cam": np.repeat(MAPS, 2, axis=0)}, r"maps of classes \[1, 1\]"),
        ("maps", {"classes": np.array(["a"])}, "`classes` is <U1 of 1, not int64 of any"),
        ("crf", {"label": ONES[:, :30]}, "`label` is uint8 of 40 x 30, not uint8 of 40 x 33"),
        ("crf", {"label": ONES.T, "confidence": ONES.T}, "`label` is uint8 of 33 x 40, not uint8 of 40 x 33"),
        ("crf", {"confidence": ONES[:39]}, "`confidence` is uint8 of 39 x 33"),
        ("crf", {"confidence": ONES.astype(np.float32)}, "`confidence` is float32 of"),
        ("crf", {"label": None}, "holds no `label`"),
        ("crf", {"label": ONES * 3}, r"shows \[3\] where the data set has \[1\]"),
        ("walk", {"scores": np.repeat(MAPS[None], 3, axis=1)}, "`scores` has 3 maps of 1 classes"),
        ("walk", {"scores": MAPS}, "`scores` is float16 of 1 x 10 x 9, not float16 of any x any x 10 x 9"),
        ("walk", {"scores": MAPS[None] * np.nan}, "`scores` has values that are no finite numbers"),
        ("walk", {"scores": ONES}, "`scores` is uint8 of"),
        ("walk", {"scores": None}, "holds no `scores`"),
        ("walk", {"classes": np.array([3])}, r"maps of classes \[3\] of an image of"),
    ],
)
def test_files_that_do_not_fit(
    tmp_path: Path, tiny_dataset: Images, name: str, changes: dict[str, np.ndarray | None], message: str
) -> None:
    """Image a has 40 x 33 pixels, and shows class 1."""
    readers: dict[str, Callable[[Path, Record], object]] = {"maps": read_maps, "crf": read_crf, "walk": read_walk}
    read = readers[name]
    stage = {"maps": "make_cams", "crf": "refine_crf", "walk": "propagate_affinity"}[name]
    np.savez(tmp_path / "a.npz", allow_pickle=True, **FILES[name])
    read(tmp_path, tiny_dataset.records[0])
    changed = {key: value for key, value in {**FILES[name], **changes}.items() if value is not None}
    np.savez(tmp_path / "a.npz", allow_pickle=True, **changed)
    with pytest.raises(UserError, match=f"a.npz: .*{message}.*; .*dvc repro -f -s {stage}$"):
        read(tmp_path, tiny_dataset.records[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": [4]}, r"record 0 \('a'\): labels \[4\] of 3 classes"),
        ({"labels": [0]}, r"record 0 \('a'\): labels \[0\] of 3"),
        ({"width": 0}, r"record 0 \('a'\): 0 x 40 pixels"),
        ({"width": "33"}, "damaged"),
        ({"labels": None}, "damaged"),
        ({"sha256": None}, "damaged"),
    ],
)
def test_records_that_do_not_fit(
    tmp_path: Path, tiny_dataset: Images, changes: dict[str, object], message: str
) -> None:
    content = json.loads((tiny_dataset.mask_root / "dataset.json").read_text())
    content["records"][0] |= changes
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=rf"dataset\.json: {message}.*; .*: dvc repro -f -s prepare$"):
        read_dataset(tmp_path)


def test_a_data_set_of_another_format(tmp_path: Path, tiny_dataset: Images) -> None:
    content = json.loads((tiny_dataset.mask_root / "dataset.json").read_text())
    (tmp_path / "dataset.json").write_text(json.dumps(content | {"format": 2}))
    with pytest.raises(UserError, match="written in another format; .*: dvc repro -f -s prepare$"):
        read_dataset(tmp_path)


def test_errors_of_our_own_stay_errors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_dataset: Images) -> None:
    np.savez(tmp_path / "a.npz", allow_pickle=True, **FILES["maps"])
    monkeypatch.setattr("cpal.maps.cams.map_size", lambda size: size["height"])
    with pytest.raises(TypeError):
        read_maps(tmp_path, tiny_dataset.records[0])


@pytest.mark.parametrize("name", ["warp", "cpu:x", "cpu:7", "cuda:99"])
def test_devices_that_do_not_exist(name: str) -> None:
    with pytest.raises(UserError, match=f"--device {name}: "):
        torch_device(name)


def test_torchrun_is_for_stages_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its processes would write the same files; a world of one process is none."""
    assert torch_device("cpu").type == "cpu"
    monkeypatch.setattr(stages.job.device, "PROCESSES", 2)
    with pytest.raises(UserError, match="torchrun is for the stages of the pipeline"):
        torch_device("cpu")
