"""Builds the host that a section of `hosts` in params.yaml describes."""

from collections.abc import Sequence

from cpal.errors import UserError
from cpal.hosts import Host
from cpal.settings.hosts import AmnConfig, ClipEsConfig, HostSection, IrnConfig, MctformerConfig


def build_host(settings: HostSection, classes: Sequence[str], *, weights: str | None = None) -> Host:
    """The host for these foreground classes.

    `weights` replaces the setting, for example with none if a checkpoint is loaded afterwards. Only the module of the
    chosen host is imported, so that a run neither loads nor depends on the other hosts. Raises UserError for a backbone
    or weights that do not exist or do not fit.
    """
    match settings:
        case IrnConfig():
            from cpal.hosts.irn import build_irn_host

            return build_irn_host(settings, len(classes), weights=weights)
        case AmnConfig():
            from cpal.hosts.amn import build_amn_host

            return build_amn_host(settings, len(classes), weights=weights)
        case MctformerConfig():
            from cpal.hosts.mctformer import build_mctformer_host

            return build_mctformer_host(settings, len(classes), weights=weights)
        case ClipEsConfig():
            from cpal.hosts.clip_es import build_clip_es_host

            return build_clip_es_host(settings, classes, weights=weights)
    raise UserError(f"hosts.{settings.name}: cpal/hosts/build.py builds no such host; add a case for it")
