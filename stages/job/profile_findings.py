"""Finds which files and packages the settings of a profile name, and this machine lacks."""

from importlib import metadata
from pathlib import Path

from cpal.errors import UserError
from cpal.settings.config import Config, parse_config
from cpal.settings.profiles import load_profile, merged, plain_yaml, read_settings
from cpal.sources.voc2012 import lacks_voc2012
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
    root = Path(config.data.root)
    downloads = config.data.source == "voc2012" and config.voc2012.download
    if config.data.source != "toy" and not downloads and not root.is_dir():
        lacking.append(f"data.root {root}")
    elif config.data.source == "voc2012" and not downloads and lacks_voc2012(root):
        lacking.append(f"VOC 2012 or SBD in data.root {root}")
    elif config.data.source in ("voc", "folder") and not (root / config.data.images).is_dir():
        lacking.append(f"data.images {root / config.data.images}")
    for key, (_, weights) in _networks(config).items():
        if weights not in ("bundled", "imagenet", "none", "openai") and not Path(weights).is_file():
            lacking.append(f"{key}.weights {weights}")
    if _installed("torch") and _installed("timm"):  # else another line says that they are missing
        lacking += unknown_backbones(config)
    if config.host == "clip_es" and not _installed("open_clip_torch"):
        lacking.append("the package open_clip_torch")
    found = f"data.source {config.data.source}, host {config.host}"
    if config.data.source != "toy":
        found += "; python -m stages.check looks at its files"
    return DoctorFinding(what, found, f"lacks {'; '.join(lacking)}" if lacking else None, needed=what == "params.yaml")


def unknown_backbones(config: Config) -> list[str]:
    """A line for each setting that names a network which does not exist."""
    from cpal.networks.backbones import similar_networks  # takes seconds, which --help need not wait for

    networks = _networks(config)
    networks.pop("hosts.clip_es", None)  # whose networks are open_clip's
    named = {f"{key}.backbone": backbone for key, (backbone, _) in networks.items()}
    near = {key: similar_networks(name) for key, name in named.items()}
    return [
        f"{key} {named[key]!r}: no such network; names like it: {', '.join(names)}"
        for key, names in near.items()
        if names
    ]


def _networks(config: Config) -> dict[str, tuple[str, str]]:
    """Backbone and weights of the networks that a run of the whole pipeline builds, by section."""
    host, irn, affinity, final = config.chosen_host, config.hosts.irn, config.affinity, config.segmentation
    networks = {"segmentation": (final.backbone, final.weights), f"hosts.{config.host}": (host.backbone, host.weights)}
    if affinity.method == "irn":
        networks["affinity"] = (affinity.backbone, affinity.weights)
    if host.first_round:
        networks["hosts.irn"] = (irn.backbone, irn.weights)
    return networks


def _installed(package: str) -> bool:
    try:
        return bool(metadata.version(package))
    except metadata.PackageNotFoundError:
        return False
