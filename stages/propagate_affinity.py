"""Spread the refined labels along learned affinities; with affinity.method none they pass through unchanged."""

import shutil

from cpal.config import load_config
from cpal.dataset import read_dataset
from stages.options import Limit, Out, Params, destination, run
from stages.paths import AFFINITY, CRF, DATASET, PARAMS
from stages.workdir import publish, work_folder


def main(params: Params = PARAMS, limit: Limit = None, out: Out = None) -> None:
    config = load_config(params)
    affinity = destination(AFFINITY, limit, out)
    assert config.affinity.method == "none", "the settings admit no other method yet"
    folder = work_folder("propagate_affinity", [config.affinity.model_dump(), limit])
    (folder / "affinity").mkdir(exist_ok=True)
    for record in read_dataset(DATASET).split("train", limit):
        shutil.copyfile(CRF / f"{record.image_id}.npz", folder / "affinity" / f"{record.image_id}.npz")
    publish(folder, {"affinity": affinity})


if __name__ == "__main__":
    run(main)
