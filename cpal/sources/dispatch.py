"""Selects the source that data.source names."""

from cpal.settings.data import DataConfig
from cpal.sources.coco import list_coco
from cpal.sources.folder import list_folder
from cpal.sources.listing import Listing
from cpal.sources.voc import list_voc
from cpal.sources.voc2012 import list_voc2012


def list_images(settings: DataConfig, *, seed: int, limit: int | None = None) -> Listing:
    """The listing of data.source, except of the toy. `limit` keeps the first images of each split."""
    assert settings.source != "toy", "the toy data set is drawn"
    if settings.source == "folder":
        return list_folder(settings, seed=seed, limit=limit)
    if settings.source == "voc2012":
        return list_voc2012(settings, limit=limit)
    if settings.source == "coco2014":
        return list_coco(settings, limit=limit)
    assert settings.source == "voc", f"data.source {settings.source} has no line here"
    return list_voc(settings, limit=limit)
