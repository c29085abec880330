"""Stored outputs of the network: which are kept, and which are removed when make_cams has ended."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cpal.hosts.cached import RememberedHost
from cpal.hosts.irn import build_irn_host
from cpal.settings.config import Config
from stages.job import feature_cache
from stages.job.feature_cache import forget, remembering


@pytest.mark.parametrize("kept", [True, False])
def test_outputs_go_with_their_last_reader_unless_they_are_kept(
    tmp_path: Path, settings: Callable[..., Config], monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    """The folder that docs/pipeline.md names for sweeps is the one that is used without CPAL_FEATURES."""
    monkeypatch.setattr(feature_cache, "FOLDER", tmp_path / "features")
    monkeypatch.delenv("CPAL_FEATURES_GB", raising=False)
    if kept:
        monkeypatch.setenv("CPAL_FEATURES", str(tmp_path / "features"))
    else:
        monkeypatch.delenv("CPAL_FEATURES", raising=False)
    section = settings().hosts.irn
    weights = tmp_path / "weights"
    weights.write_bytes(b"first")
    host = build_irn_host(section, 3, weights="none").eval()
    seen = remembering(host, weights, section, [4], torch.device("cpu"))
    other = tmp_path / "features" / "of_another_experiment"
    other.mkdir(parents=True)
    with torch.no_grad():
        seen(torch.zeros(1, 3, 32, 32, dtype=torch.uint8), torch.ones(1, 3))
    assert isinstance(seen, RememberedHost) and len(list(seen.folder.iterdir())) == 1
    forget(seen)
    assert seen.folder.exists() == kept and other.exists()
    forget(host)


def test_only_old_outputs_of_other_trainings_are_removed(
    tmp_path: Path, settings: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pass over COCO takes days: what fit_prototypes stored is still there for teach_cam."""
    monkeypatch.setattr(feature_cache, "FOLDER", tmp_path / "features")
    for name in ("CPAL_FEATURES_GB", "CPAL_FEATURES"):
        monkeypatch.delenv(name, raising=False)
    section = settings().hosts.irn
    weights = tmp_path / "weights"
    weights.write_bytes(b"first")
    host = build_irn_host(section, 3, weights="none").eval()
    own = remembering(host, weights, section, [4], torch.device("cpu"))
    assert isinstance(own, RememberedHost)
    for folder in (own.folder, tmp_path / "features/old", tmp_path / "features/new"):
        folder.mkdir(parents=True)
        (folder / "a.safetensors").write_bytes(bytes(1000))
        if folder.name != "new":
            os.utime(folder, times=(0, 0))
    again = remembering(host, weights, section, [4], torch.device("cpu"))
    assert isinstance(again, RememberedHost) and again.folder == own.folder
    assert {path.name for path in (tmp_path / "features").iterdir()} == {own.folder.name, "new"}
    assert again.room == 8e9 - 2000
