"""A user's error reaches the user in its own words, whichever process it comes from."""

import pickle
from pathlib import Path

import pytest
from joblib import Parallel, delayed
from torch.utils.data import DataLoader, Dataset

from cpal.dataset import read_dataset
from cpal.errors import UserError

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
