"""Finds which files and packages the settings of a profile name, and this machine lacks."""

from difflib import get_close_matches
from importlib import metadata
from pathlib import Path

from cpal.errors import UserError
from cpal.settings.config import Config, parse_config
from cpal.settings.profiles import load_profile, merged, plain_yaml, read_settings
from stages.job.findings import DoctorFinding


def profile(path: Path, params: Path) -> DoctorFinding:
    try:
        text, _ = merged(read_settings(params), load_profile(path), name=str(path))
    except UserError as error:
        return DoctorFinding(path.stem, str(error).splitlines()[-1].strip(" -"), f"put it right: {path}")
    return settings(path.stem, text)


def settings(what: str, text: str) -> DoctorFinding:
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
    lacking += [f"{key} {name}: no such network" for key, name in unknown_backbones(config)]
    if config.host == "clip_es" and not _installed("open_clip_torch"):
        lacking.append("the package open_clip_torch")
    found = f"data.source {config.data.source}, host {config.host}"
    if config.data.source != "toy":
        found += "; python -m stages.check looks at its files"
    return DoctorFinding(what, found, f"lacks {'; '.join(lacking)}" if lacking else None, needed=what == "params.yaml")


def unknown_backbones(config: Config) -> list[tuple[str, str]]:
    """Settings that name a network which does not exist, and the name, with names like it."""
    import timm  # takes seconds, which --help need not wait for

    from cpal.networks.backbones import CAFFE, RESNETS, WIDE

    named = {"segmentation.backbone": config.segmentation.backbone}
    if config.host != "clip_es":  # which are open_clip's
        named[f"hosts.{config.host}.backbone"] = config.chosen_host.backbone
    if config.affinity.method == "irn":
        named["affinity.backbone"] = config.affinity.backbone
    ours = [*RESNETS, CAFFE, WIDE]
    unknown = {key: name for key, name in named.items() if name not in ours and not timm.is_model(name)}
    near = {name: get_close_matches(name, [*ours, *timm.list_models()]) for name in unknown.values()}
    return [(key, f"{name!r} (names like it: {', '.join(near[name]) or 'none'})") for key, name in unknown.items()]


def _installed(package: str) -> bool:
    try:
        return bool(metadata.version(package))
    except metadata.PackageNotFoundError:
        return False
