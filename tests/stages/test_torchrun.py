"""Two machines train one network: two torchrun nodes, here on one machine, with one folder."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cpal.settings.profiles import merged, plain_yaml

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TINY = """
toy: {train_images: 6, val_images: 2, min_side: 64, max_side: 72}
hosts:
  irn: {epochs: 2, batch_size: 2, crop_size: 32, resize_long: [32, 48]}
cpal: {refinements: 1, bank_length: 12, num_prototypes: 4, topk: 2}
segmentation: {batch_size: 2}  # all trainings must be shared by two processes
"""


def project(folder: Path) -> Path:
    """Data that train_cam learns from."""
    folder.mkdir()
    for name in ("cpal", "stages", "dvc.yaml"):
        (folder / name).symlink_to(ROOT / name)
    text, _ = merged((ROOT / "params.yaml").read_text(encoding="utf-8"), plain_yaml(TINY), name="params.yaml")
    (folder / "params.yaml").write_text(text, encoding="utf-8")
    for stage in ("prepare", "first_round"):
        subprocess.run([sys.executable, "-m", f"stages.{stage}", "--workers", "1"], cwd=folder, check=True)
    return folder


def test_two_nodes_train_the_network_of_one_process(tmp_path: Path) -> None:
    alone, both = project(tmp_path / "alone"), project(tmp_path / "both")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    stage = ["-m", "stages.train_cam", "--device", "cpu", "--loaders", "0"]
    subprocess.run([sys.executable, *stage], cwd=alone, env=environment, check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # The recipe of docs/scale.md; --local-addr since this machine's name may not lead to it.
    launch = ["torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d"]
    launch += ["--rdzv-endpoint", f"127.0.0.1:{port}", "--rdzv-id", "cpal", "--local-addr", "127.0.0.1"]
    nodes = [
        subprocess.Popen(
            [sys.executable, "-m", *launch, *stage],
            cwd=both,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for _ in range(2)
    ]
    try:
        for node in nodes:
            output, _ = node.communicate(timeout=300)
            assert node.returncode == 0, output
    finally:
        for node in nodes:
            node.kill()
    weights = [load_file(folder / "data/classifier.safetensors") for folder in (alone, both)]
    torch.testing.assert_close(weights[1], weights[0], atol=1e-5, rtol=1e-4)  # all of them, by name
    assert (both / "data/metrics/train_cam/diagnostics.json").exists()
