"""The host that `host` names, from its settings."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cpal.hosts import Host
from cpal.hosts.amn import AmnHost
from cpal.hosts.clip_es import build_clip_es_host
from cpal.hosts.irn import build_irn_host, classifier_backbone
from cpal.hosts.mctformer import build_mctformer_host
from cpal.settings.base import Section
from cpal.settings.config import AmnConfig, ClassifierConfig, ClipEsConfig, MctformerConfig


@dataclass(frozen=True)
class HostSettings:
    """`host` and the sections it may read; the fields are those of params.yaml."""

    host: str
    classifier: ClassifierConfig
    amn: AmnConfig
    mctformer: MctformerConfig
    clip_es: ClipEsConfig

    @property
    def own(self) -> Section | None:
        """The section of the host's own, which irn has not."""
        sections: dict[str, Section] = {"amn": self.amn, "mctformer": self.mctformer, "clip_es": self.clip_es}
        return sections.get(self.host)

    @property
    def training(self) -> ClassifierConfig:
        """`classifier` with what the own section overrules."""
        own = {} if self.own is None else self.own.model_dump()
        return self.classifier.model_copy(update={k: own[k] for k in own if k in ClassifierConfig.model_fields})

    def effective(self) -> dict[str, Any]:
        """What takes effect: two settings with equal content give the same host."""
        own = {} if self.own is None else self.own.model_dump()
        return {"host": self.host, **self.training.model_dump(), **own}


def build_host(settings: HostSettings, classes: Sequence[str], *, weights: str | None = None) -> Host:
    """The network for these foreground classes; `weights` overrules its source, as when a checkpoint follows.

    Raises UserError for a backbone or weights that do not exist or do not fit.
    """
    if settings.host == "amn":
        return AmnHost(classifier_backbone(settings.training, weights), len(classes), settings.amn)
    if settings.host == "mctformer":
        return build_mctformer_host(settings.mctformer, len(classes), weights=weights)
    if settings.host == "clip_es":
        return build_clip_es_host(settings.clip_es, classes, weights=weights)
    return build_irn_host(settings.training, len(classes), weights=weights)
