"""Use a folder of your own photographs: find its labels, write the section `data` and a profile into params.yaml.

The folder may hold a table of labels, class folders, a COCO file, or VOC's layout. Nothing in it is changed.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from cpal.errors import UserError
from cpal.files import whole_file
from cpal.settings.config import load_config, parse_config
from cpal.settings.hosts import TrainedHost
from cpal.settings.profiles import find_profile, load_profile, merged, plain_yaml, read_settings
from cpal.sources.guess import Reading, mask_folders, readings
from cpal.sources.health.class_findings import ALIKE, TOO_SHORT, alike_names, short_host, short_segmentation
from stages.job.options import Params
from stages.job.paths import DATASET, PARAMS, PROFILES, check_root
from stages.job.run import run


def main(
    folder: Annotated[Path, typer.Argument(metavar="PATH", help="The folder of your photographs.")],
    profile: Annotated[
        str, typer.Option("--profile", help="Settings to use; scenes if grass and sky are labels too.")
    ] = "photographs",
    yes: Annotated[bool, typer.Option("--yes", help="Write params.yaml without asking.")] = False,
    params: Params = PARAMS,
) -> None:
    if folder.is_file():
        raise UserError(f"{folder}: is a file; name the folder that holds it and the photographs")
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name the folder of your photographs")
    config, root = load_config(params), folder.resolve()
    found, failed = readings(root, config.data.model_dump(mode="json"), seed=config.seed)
    for reading in found:
        print(f"found: {reading.sentence}")
    if found:
        for line in failed:
            print(f"not: {line}")
    reading = _chosen(found, failed, root, yes=yes)
    if alike := alike_names(reading.listing.classes):
        print(f"{ALIKE}, each a class of its own: {', '.join(alike)}")
    if masks := mask_folders(root):
        print(f"{' and '.join(masks)} may be ground truth: data.masks and data.mask_classes use it for scores")
    values = load_profile(find_profile(PROFILES, profile)) | {"data": reading.keys}
    before, name = read_settings(params), f"{params} with profile {profile}"
    draft = parse_config(plain_yaml(merged(before, values, name=name)[0]))
    check_root(draft.data, DATASET)
    if iterations := short_segmentation(reading.training, draft.segmentation):
        values.setdefault("segmentation", {})["iterations"] = iterations
        print(
            f"segmentation.iterations: {iterations}, so that the training shows each of {reading.training} images often"
        )
    host = draft.chosen_host
    if isinstance(host, TrainedHost) and (epochs := short_host(reading.training, host, TOO_SHORT)):
        values.setdefault("hosts", {}).setdefault(draft.host, {})["epochs"] = epochs
        print(f"hosts.{draft.host}.epochs: {epochs}, since {reading.training} images make few steps an epoch")
    text, changes = merged(before, values, name=name)
    for change in changes:
        if config.data.source != "toy" or change.startswith("data."):  # else they replace the settings of the toy
            print(change)
    if not yes and not sys.stdin.isatty():
        raise UserError("there is no terminal to ask in; add --yes, which writes params.yaml")
    if not yes and not typer.confirm(f"Write this and the profile {profile} into {params}?"):
        print("nothing was written")
        return
    with whole_file(params) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(f"{params}: written. Next: python -m stages.check, then dvc repro")


def _chosen(found: list[Reading], failed: list[str], root: Path, *, yes: bool) -> Reading:
    """The way to read the folder: the only way found, or the way that the user chooses.

    Raises UserError if no way was found, or if there are several and the user cannot be asked.
    """
    if not found and (asked := [line for line in failed if "set data." in line]):
        raise UserError(
            f"{root}: {asked[0]}; write it into the section data of params.yaml, and run this command again"
        )
    if not found:
        why = "".join(f"\n  - {line}" for line in failed)
        raise UserError(
            f"{root}: the labels cannot be read as they are; correct what is wrong, or put a table labels.csv there, "
            "with the line image,labels and a line for each photograph, or the photographs of each class into a "
            "folder of its name"
            f"{why}"
        )
    if len(found) == 1:
        return found[0]
    if yes or not sys.stdin.isatty():
        raise UserError(
            f"{root}: can be read in {len(found)} ways, listed above; set data.labels and data.labels_file in "
            "params.yaml, or run without --yes in a terminal and choose"
        )
    number = typer.prompt(f"Which of the {len(found)}, counted from 1", type=int)
    if not 1 <= number <= len(found):
        raise UserError(f"{number}: there are {len(found)} ways, counted from 1; run the command again")
    return found[number - 1]


if __name__ == "__main__":
    run(main)
