"""No tensor is left on the CPU where the network is on a GPU; see tests/simulated_device.py."""

import pytest
import torch
import torch.nn.functional as F
from simulated_device import simulated

from benchmarks import gpu_checks


def test_a_tensor_that_was_left_on_the_cpu_is_refused() -> None:
    with simulated() as device:
        there, here = torch.ones(2, 3, device=device), torch.ones(2, 3)
        assert there.device == device and torch.zeros_like(there).device == device and here.device.type == "cpu"
        for mixed in (lambda: there + here, lambda: F.mse_loss(here, there), lambda: here[there > 0]):
            with pytest.raises(RuntimeError, match="same device"):
                mixed()
        with pytest.raises(RuntimeError, match="numpy"):
            there.numpy()
        assert (there + here.to(there)).cpu().tolist() == (there * 2).tolist() == [[2.0] * 3] * 2
        assert float(there[here > 0].sum()) == 6.0, "CUDA takes places from the CPU"


def test_an_optimizer_that_was_made_before_the_network_moved_trains_it() -> None:
    with simulated() as device:
        network = torch.nn.Linear(2, 1)
        optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
        before = network.to(device).weight.tolist()
        network(torch.ones(1, 2, device=device)).sum().backward()
        optimizer.step()
        assert network.weight.device == device
    assert torch.allclose(torch.tensor(network.weight.tolist()), torch.tensor(before) - 1)


def test_the_papers_functions() -> None:
    with simulated() as device:
        checks = list(gpu_checks.functions(device))
    assert len(checks) == 7 and all(check.difference == 0 for check in checks)
