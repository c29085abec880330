"""Options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

from stages.job.cores import available_cores

Params = Annotated[Path, typer.Option("--params", metavar="PATH", help="Settings file.")]
Workers = Annotated[
    int,
    typer.Option("--workers", min=0, help="Processes that work on images in parallel."),
]
Limit = Annotated[
    int | None,
    typer.Option("--limit", min=1, help="Only the first N images; a stage that writes needs --out."),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="Write into this folder, and nothing into the pipeline's outputs."),
]

DEFAULT_WORKERS = available_cores()
