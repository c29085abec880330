"""Files given as weights that are something else: one sentence with the cure, never advice to load it unsafely."""

import gzip
from argparse import Namespace
from collections import defaultdict
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from cpal.errors import UserError
from cpal.networks.state_dicts import read_state_dict
from cpal.networks.weights import read_meta

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"  # git-lfs's specification
DRIVE = "<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title></head></html>"
DENIED = '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code></Error>'  # Amazon S3's answer
TENSORS = {"a": torch.arange(3)}


class Options:
    """A class of somebody's training code."""


def message(path: Path) -> str:
    with pytest.raises(UserError) as error:
        read_state_dict(path)
    text = str(error.value)
    assert text.startswith(f"weights: {path} is ") and "\n" not in text and "\x1b" not in text and len(text) < 400
    assert "weights_only" not in text and "safe_globals" not in text and "trust" not in text
    return text.removeprefix(f"weights: {path} is ")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (DRIVE, "a web page instead of the file; download the file itself; a browser shows what the page asks for"),
        ("\n<html>\n", "a web page instead of the file"),
        (POINTER, "a Git LFS pointer instead of the file; fetch the file itself: git lfs pull"),
        (DENIED, "a server's message instead of the file; read it in a text editor"),
        ('{"error": "Repository not found"}', "a server's message instead of the file"),
        ("Entry not found", "a server's message instead of the file"),  # of huggingface.co
        ("404: Not Found", "a server's message instead of the file"),  # of raw.githubusercontent.com
        ("<!-- saved from url=(0014)about:internet -->\n<html>", "a web page instead of the file"),
        ("", "empty; download it again"),
    ],
)
@pytest.mark.parametrize("name", ["w.pth", "w-12345678.pth", "w.safetensors"])
def test_what_a_download_put_there(tmp_path: Path, content: str, text: str, name: str) -> None:
    (tmp_path / name).write_text(content)
    assert message(tmp_path / name).startswith(text)


@pytest.mark.parametrize(
    ("extra", "what"),
    [
        (Options(), "test_state_dicts.Options"),
        (defaultdict(list), "collections.defaultdict"),
        (np.float64(3), "numpy._core.multiarray.scalar"),
        (Path("a"), "pathlib."),
        (torch.nn.Linear(1, 1), "torch.nn.modules.linear.Linear"),
    ],
)
def test_more_than_tensors(tmp_path: Path, extra: Any, what: str) -> None:
    torch.save({"state_dict": TENSORS, "extra": extra}, tmp_path / "w.pth")
    text = message(tmp_path / "w.pth")
    assert text.startswith(f"no plain state dict; it holds more than tensors ({what}") and text.endswith(
        "and reading that could run code; use a file of tensors alone, such as a .safetensors"
    )


def test_files_of_a_training(tmp_path: Path) -> None:
    """As DINO, MoCo and others save them: options in a Namespace, and the tensors under any one key."""
    for content in (
        {"model": TENSORS, "args": Namespace(lr=1)},
        {"epoch": 3, "net": TENSORS, "optimizer": {"lr": 1}},
        TENSORS,
    ):
        torch.save(content, tmp_path / "w.pth")
        assert read_state_dict(tmp_path / "w.pth")["a"].tolist() == [0, 1, 2]
    torch.save({"teacher": TENSORS, "student": TENSORS}, tmp_path / "w.pth")
    with pytest.raises(
        UserError, match=r"holds 2 dictionaries \(teacher, student\); save the network's state_dict\(\)"
    ):
        read_state_dict(tmp_path / "w.pth")
    torch.save({"model": None, "model_ema": TENSORS}, tmp_path / "w.pth")  # timm's, with an average alone
    assert read_state_dict(tmp_path / "w.pth")["a"].tolist() == [0, 1, 2]


def test_archives_and_programs(tmp_path: Path) -> None:
    with ZipFile(tmp_path / "w.pth", "w") as archive:
        archive.writestr("resnet50.pth", b"x")
    assert message(tmp_path / "w.pth") == "packed by zip; unpack it, and name the file in it"
    (tmp_path / "w.pth").write_bytes(gzip.compress(b"x"))
    assert message(tmp_path / "w.pth") == "packed by gzip; unpack it, and name the file in it"
    with ZipFile(tmp_path / "w.pth", "w") as archive:  # parts of what torch.jit.save writes
        archive.writestr("w/data.pkl", b"x")
        archive.writestr("w/constants.pkl", b"x")
    assert message(tmp_path / "w.pth").startswith("a TorchScript program and no state dict; save the network's")
    torch.save([1], tmp_path / "w.pth")
    assert message(tmp_path / "w.pth").startswith(
        "no plain state dict; it holds a list; save the network's state_dict()"
    )


def test_the_content_tells_the_format(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "w.pth")
    torch.save(TENSORS, tmp_path / "w.safetensors")
    for name in ("w.pth", "w.safetensors"):
        assert read_state_dict(tmp_path / name)["a"].tolist() == [0, 1, 2]


def test_another_kind_of_file(tmp_path: Path) -> None:
    for name in ("w.pth", "w.safetensors"):
        (tmp_path / name).write_text("hello")
        assert message(tmp_path / name).startswith("no plain state dict; it may be damaged or of another kind")


def test_safetensors(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "w.safetensors")
    assert read_state_dict(tmp_path / "w.safetensors")["a"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(("content", "text"), [(DRIVE, "a web page"), (POINTER, "a Git LFS pointer"), ("", "empty")])
def test_our_own_weights(tmp_path: Path, content: str, text: str) -> None:
    (tmp_path / "segmentation.safetensors").write_text(content)
    with pytest.raises(UserError, match=f"segmentation.safetensors: {text}.*; run the train_segmentation|{text}"):
        read_meta(tmp_path / "segmentation.safetensors", stage="train_segmentation")
