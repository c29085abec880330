"""Inference in half precision, on the CPU's autocast, and the options that ask for it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from cpal.errors import UserError
from cpal.hosts import HostOutput
from cpal.settings.config import load_config
from stages.job.device import joined_device
from stages.job.half import compute_in_half
from stages.job.network import NetworkJob

CPU = torch.device("cpu")


class Network(nn.Module):
    """Gives what its layer computes, in each form that a network's output has."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)
        self.kinds: list[torch.dtype] = []

    def forward(self, image: Tensor) -> HostOutput:
        output = self.layer(image)
        self.kinds.append(output.dtype)
        return HostOutput([output], output, output.mean(dim=(2, 3)))


def test_layers_compute_in_half_and_outputs_are_float() -> None:
    network, image = Network(), torch.randn(1, 3, 8, 8)
    expected = network(image)
    compute_in_half(network, torch.bfloat16, CPU)
    found = network(image)
    assert network.kinds == [torch.float32, torch.bfloat16]
    for a, b in zip((*found.features, found.cam, found.logits), (*expected.features, *expected[1:]), strict=True):
        assert a.dtype == torch.float32 and not torch.equal(a, b)
        torch.testing.assert_close(a, b, atol=0.02, rtol=0.02)  # bfloat16 has 8 bits
    assert not torch.is_autocast_enabled("cpu") and network.layer.weight.dtype == torch.float32


def test_an_error_ends_half_precision_too() -> None:
    network = Network()
    compute_in_half(network, torch.bfloat16, CPU)
    with pytest.raises(RuntimeError):
        network(torch.randn(1, 5, 8, 8))
    assert not torch.is_autocast_enabled("cpu")


def test_amp_is_refused_without_cuda() -> None:
    job = NetworkJob("make_cams", load_config(Path("params.yaml")), device_name="cpu", amp="bf16")
    with pytest.raises(UserError, match="^--amp bf16 needs a CUDA device, this run is on cpu; set --amp off$"):
        _ = job.device


def test_off_changes_no_network() -> None:
    job, network = NetworkJob("make_cams", load_config(Path("params.yaml")), device_name="cpu"), Network()
    job.in_half(network)
    network(torch.randn(1, 3, 8, 8))
    assert job.device == CPU and network.kinds == [torch.float32]


@pytest.fixture
def flags() -> Iterator[None]:
    """PyTorch's flags are as before after the test; its modules of flags do not let monkeypatch restore them."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.benchmark
    yield
    matmul.allow_tf32, cudnn.benchmark = before


@pytest.mark.usefixtures("flags")
@pytest.mark.parametrize(("words", "tf32", "autotune"), [("", False, False), ("tf32,autotune", True, True)])
def test_cuda_is_tuned_by_a_variable(monkeypatch: pytest.MonkeyPatch, words: str, tf32: bool, autotune: bool) -> None:
    monkeypatch.setenv("CPAL_CUDA", words)
    joined_device("cpu", training=True)
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.benchmark) == (tf32, autotune)
    joined_device("cpu")
    assert not torch.backends.cudnn.benchmark, "the images of other stages differ in size"


def test_an_unknown_word_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CPAL_CUDA", "tf32 fast")
    with pytest.raises(UserError, match="^CPAL_CUDA=tf32 fast: fast is unknown; choose from tf32, autotune$"):
        joined_device("cpu")
