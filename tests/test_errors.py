"""A user's error reaches the user in its own words, whichever process it comes from."""

import pickle

import pytest
from joblib import Parallel, delayed
from torch.utils.data import DataLoader, Dataset

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
