"""Finds which files and packages the settings of a profile name, and this machine lacks."""

from importlib import metadata
from pathlib import Path

from cpal.errors import UserError
from cpal.settings.config import parse_config
from cpal.settings.profiles import load_profile, merged, plain_yaml, read_settings
from stages.job.findings import Finding

PROFILES = Path("profiles")


def profile(path: Path, params: Path) -> Finding:
    try:
        text, _ = merged(read_settings(params), load_profile(path), name=str(path))
    except UserError as error:
        return Finding(path.stem, str(error).splitlines()[-1].strip(" -"), f"put it right: {path}")
    return settings(path.stem, text)


def settings(what: str, text: str) -> Finding:
    """Whether the files that the settings name exist, and the packages of their host are installed."""
    config = parse_config(plain_yaml(text), name=what)
    lacking = []
    if config.data.source != "toy" and not Path(config.data.root).is_dir():
        lacking.append(f"data.root {config.data.root}")
    for key, weights in (
        (f"hosts.{config.host}.weights", config.chosen_host.weights),
        ("segmentation.weights", config.segmentation.weights),
    ):
        if "/" in weights and not Path(weights).is_file():
            lacking.append(f"{key} {weights}")
    if config.host == "clip_es" and not _installed("open_clip_torch"):
        lacking.append("the package open_clip_torch")
    found = f"data.source {config.data.source}, host {config.host}"
    return Finding(what, found, f"lacks {'; '.join(lacking)}" if lacking else None, needed=what == "params.yaml")


def _installed(package: str) -> bool:
    try:
        return bool(metadata.version(package))
    except metadata.PackageNotFoundError:
        return False
