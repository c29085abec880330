"""`python -m stages.prepare check`: apart from prepare, which DVC runs, so that it depends on less settings."""

from dataclasses import asdict
from pathlib import Path

import typer

from cpal.config import load_config
from cpal.files import write_json
from cpal.health import examine, look_at_all, render
from cpal.sources.dispatch import list_images
from stages.options import progress


def check_health(params: Path, workers: int, limit: int | None, out: Path | None) -> None:
    """Print the health of the data set, with `out` write out/health.json as well; exit code 2 when there are errors."""
    config = load_config(params)
    if config.data.source == "toy":
        print("data.source: toy: prepare draws this data set; there is nothing to check")
        return
    listing = list_images(config.data, seed=config.seed, limit=limit)
    health = examine(listing, look_at_all(listing, workers=workers, progress=progress), config, complete=limit is None)
    print(render(health))
    if out is not None:
        write_json(out / "health.json", asdict(health))
    if health.count("error"):
        raise typer.Exit(2)
