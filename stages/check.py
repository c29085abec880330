"""`python -m stages.prepare check`: apart from prepare, which DVC runs, so that it depends on less settings."""

from dataclasses import asdict
from pathlib import Path

import typer

from cpal.errors import UserError
from cpal.files import write_json
from cpal.settings.config import load_config
from cpal.settings.data import DataConfig
from cpal.sources.dispatch import list_images
from cpal.sources.health.health import examine, health_text, look_at_all
from stages.job.options import progress
from stages.job.paths import DATASET, OUTPUTS


def check_root(settings: DataConfig, target: Path) -> None:
    """Refuse a data set that lies in `target` or another folder of results: they replace it, or DVC removes it."""
    if settings.source == "toy":
        return
    root = Path(settings.root)
    for path in (root, *(root / name for name in (settings.images, settings.masks, settings.labels_file) if name)):
        for output in (target, *OUTPUTS):
            if path.resolve().is_relative_to(output.resolve()):
                raise UserError(
                    f"data.root: {path} lies in {output}, which results replace; move the data set to a folder of its "
                    "own, such as data/raw/NAME"
                )


def check_health(params: Path, workers: int, limit: int | None, out: Path | None) -> None:
    """Print the health of the data set, with `out` write out/health.json as well; exit code 2 when there are errors."""
    config = load_config(params)
    if config.data.source == "toy":
        print("data.source: toy: prepare draws this data set; there is nothing to check")
        return
    check_root(config.data, DATASET)
    listing = list_images(config.data, seed=config.seed, limit=limit)
    health = examine(listing, look_at_all(listing, workers=workers, progress=progress), config, complete=limit is None)
    print(health_text(health))
    if out is not None:
        write_json(out / "health.json", asdict(health))
    if health.count("error"):
        raise typer.Exit(2)
