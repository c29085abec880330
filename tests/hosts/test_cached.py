"""What a host gave is read from disk as it was, and only for the same host, picture and stages."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cpal.files import HOST
from cpal.hosts import HostOutput, cached
from cpal.hosts.cached import RememberedHost
from cpal.hosts.irn import IrnHost, build_irn_host
from cpal.hosts.outputs import merge_views
from cpal.settings.config import Config

LABEL = torch.tensor([[1.0, 0, 1]]).expand(2, -1)


@pytest.fixture
def host(settings: Callable[..., Config]) -> IrnHost:
    section = settings().hosts.irn.model_copy(update={"backbone": "mobilenetv3_small_050"})
    return build_irn_host(section, 3, weights="none").eval()


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights"
    path.write_bytes(b"first")
    return path


def remembered(host: IrnHost, weights: Path, stages: tuple[int, ...] = (3, 4), settings: str = "{}") -> RememberedHost:
    return RememberedHost(host, weights, settings, stages, weights.parent / "features")


def picture(seed: int = 0) -> Tensor:
    image = torch.randint(0, 256, (3, 48, 64), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return torch.stack([image, image.flip(-1)])


def no_forward(*_: Tensor) -> HostOutput:
    raise AssertionError("the host was asked again")


@torch.no_grad()
def test_the_same_bits_without_the_host(host: IrnHost, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = merge_views(host(picture(), LABEL))
    first = merge_views(remembered(host, weights)(picture(), LABEL))
    monkeypatch.setattr(host, "forward", no_forward)
    again = merge_views(remembered(host, weights)(picture(), LABEL))
    for output in (first, again):
        assert torch.equal(output.cam, expected.cam) and torch.equal(output.logits, expected.logits)
        assert all(torch.equal(output.features[n], expected.features[n]) for n in (2, 3))
        assert all(output.features[n].numel() == 0 for n in (0, 1))


@torch.no_grad()
def test_what_is_computed_lies_in_memory_as_what_is_read(host: IrnHost, weights: Path) -> None:
    """Else sums over a map differ in their last bits after a kill. The network itself gives channels last."""
    assert not host(picture(), LABEL).features[3].is_contiguous()
    computed, read = (remembered(host, weights)(picture(), LABEL) for _ in range(2))
    for a, b in zip([*computed.features, computed.cam], [*read.features, read.cam], strict=True):
        assert a.stride() == b.stride()


@torch.no_grad()
@pytest.mark.parametrize("change", ["picture", "shape", "stages", "weights", "settings", "label", "networks"])
def test_the_host_is_asked_about_what_is_new(
    host: IrnHost, weights: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    remembered(host, weights)(picture(), LABEL)
    monkeypatch.setattr(host, "forward", no_forward)
    if change == "weights":
        weights.write_bytes(b"second")
    if change == "networks":  # the code of the backbones
        (weights.parent / "backbones.py").touch()
        monkeypatch.setattr(cached, "NETWORKS", weights.parent)
    views = {"picture": picture(1), "shape": picture().transpose(-1, -2).reshape(2, 3, 64, 48)}.get(change, picture())
    label = 1 - LABEL if change == "label" else LABEL
    with pytest.raises(AssertionError, match="asked again"):
        stages, settings = (4,) if change == "stages" else (3, 4), "{1}" if change == "settings" else "{}"
        remembered(host, weights, stages, settings)(views, label)


@torch.no_grad()
def test_a_damaged_memory_is_made_again(host: IrnHost, weights: Path) -> None:
    """A flipped bit in it would change all maps of the image without a word."""
    first = merge_views(remembered(host, weights)(picture(), LABEL))
    (memory,) = (weights.parent / "features").rglob("*.safetensors")
    content = bytearray(memory.read_bytes())
    content[-3] ^= 64
    memory.write_bytes(bytes(content))
    again = merge_views(remembered(host, weights)(picture(), LABEL))
    assert torch.equal(first.cam, again.cam) and torch.equal(first.logits, again.logits)
    assert memory.read_bytes() != bytes(content)


@torch.no_grad()
def test_what_a_killed_process_left_is_removed(host: IrnHost, weights: Path) -> None:
    remembered(host, weights)(picture(), LABEL)
    (memory,) = (weights.parent / "features").rglob("*.safetensors")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = memory.with_name(f".{HOST}.{ended.pid}.x.tmp")
    left.touch()
    remembered(host, weights)
    assert memory.exists() and not left.exists()
