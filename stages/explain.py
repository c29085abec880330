"""Explain one training image: an HTML page and a picture of its way through the pipeline.

They show its maps, the context prototypes behind its PACAM with the training images that made them, and what the CRF
and the random walk changed. It reads what the pipeline has published.
"""

from pathlib import Path
from typing import Annotated

import typer

from cpal.explain.choice import find_classes, find_record
from cpal.settings.config import load_config
from stages.job.command import Device
from stages.job.network import NetworkJob
from stages.job.options import Params
from stages.job.paths import PARAMS
from stages.job.run import run


def main(
    image: Annotated[str, typer.Argument(metavar="ID", help="A training image, by its id, as the report names it.")],
    only: Annotated[
        str | None, typer.Option("--class", metavar="NAME", help="Only the maps of this class.", show_default=False)
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where the two files go.")] = Path(
        "results/explain"
    ),
    params: Params = PARAMS,
    device: Device = "auto",
) -> None:
    from cpal.explain.build import write_explanation  # takes seconds, which --help need not wait for
    from stages.job.explained import check_settings, explain_image, load_fitted

    job = NetworkJob("explain", load_config(params), params, device_name=device)
    check_settings(job)
    record = find_record(job.dataset, image)
    labels = find_classes(job.dataset, record, only)
    for path in write_explanation(out, explain_image(job, load_fitted(job), record, labels), job.config):
        print(path)


if __name__ == "__main__":
    run(main)
