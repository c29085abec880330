"""A user's error reaches the user in its own words, whichever process it comes from."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from joblib import Parallel, delayed
from torch.utils.data import DataLoader, Dataset

import stages.job.device
from cpal.data.dataset import Dataset as Images
from cpal.data.dataset import read_dataset
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
        ("maps", "make them again: .* dvc repro make_cams"),
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
        write_cam(path, CamFile(one, noise, None, size))
    elif name == "crf":
        write_crf(path, Refined(pixels, pixels))
    else:
        write_walk(path, WalkFile(one, noise[None], size))

    def read() -> object:
        if name == "maps":
            return read_maps(tmp_path, record)
        return read_crf(path) if name == "crf" else read_walk(path)

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
    with pytest.raises(UserError, match=f"a.npz: {'no such file' if damage == 'missing' else 'damaged'}; .*{cure}"):
        read()


@pytest.mark.parametrize("name", ["warp", "cpu:x", "cpu:7", "cuda:99"])
def test_devices_that_do_not_exist(name: str) -> None:
    with pytest.raises(UserError, match=f"--device {name}: "):
        torch_device(name)


def test_torchrun_is_for_the_trainings_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its processes would write the same files; a world of one process is none."""
    assert torch_device("cpu").type == "cpu"
    monkeypatch.setattr(stages.job.device, "PROCESSES", 2)
    with pytest.raises(UserError, match="only train_cam and train_segmentation run under torchrun"):
        torch_device("cpu")
