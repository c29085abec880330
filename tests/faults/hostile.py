"""Settings, ids and files that mean harm: refused in words, and nothing runs or is written outside."""

import io
import json
import os
import pickle
import struct
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from faults.damage import told
from faults.project import Tiny, copy, own, scratch, settings_text, stage_run, tree
from faults.records import Fault, judged, refused
from faults.work import moved

CANARY = "code_ran"
OUTSIDE = f"{tempfile.gettempdir()}/cpal_faults_escaped"
Prepare = Callable[[Path], None]


class Evil:
    """What runs when its pickle is loaded: the canary appears in the folder."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (CANARY,)


@dataclass(frozen=True)
class Case:
    """`prepare` puts the hostile thing into the project named `name`, then the stage runs, up to 30 s."""

    tiny: Tiny
    stage: str
    name: str

    @property
    def id(self) -> str:
        return f"hostile/{self.stage}/{self.name}"


SETTINGS: dict[str, tuple[str, str]] = {  # name: stage, YAML that replaces values
    "maps from outside": ("refine_crf", "seeds: {maps: ../../../../etc}"),
    "maps are a file": ("refine_crf", "seeds: {maps: params.yaml}"),
    "maps are nowhere": ("refine_crf", "seeds: {maps: ''}"),
    "maps are a device": ("refine_crf", "seeds: {maps: /dev/zero}"),
    "weights are a device": ("train_segmentation", "segmentation: {weights: /dev/zero}"),
    "weights are a folder": ("train_segmentation", "segmentation: {weights: data}"),
    "weights are the settings": ("train_segmentation", "segmentation: {weights: params.yaml}"),
    "weights are pickled code": ("train_segmentation", "segmentation: {weights: evil.pth}"),
    "backbone is code": ("train_segmentation", "segmentation: {backbone: __import__('os').mkdir('code_ran')}"),
    "root is an output": ("prepare", "data: {source: folder, root: data/dataset, labels: folders, masks: null}"),
    "root is the disk": ("prepare", "data: {source: voc, root: /dev, labels: masks}"),
    "list is outside": ("prepare", "data: {source: voc, train_list: ../../../../../../etc/passwd}"),
    "root has a line break": ("prepare", 'data: {source: voc, root: "a\\nb"}'),
    "seed is huge": ("prepare", f"seed: {2**70}"),
    "seed is below 0": ("train_segmentation", "seed: -1"),
}
TEXTS: dict[str, bytes] = {  # params.yaml itself
    "a tag that calls": b"seed: !!python/object/apply:os.mkdir ['code_ran']\n",
    "a bomb of aliases": b"a: &a [x,x,x,x,x,x,x,x,x]\n"
    + b"".join(b"%c: &%c [%s]\n" % (n, n, b",".join([b"*%c" % (n - 1)] * 9)) for n in range(98, 108)),
    "deep brackets": b"seed: " + b"[" * 5000,
    "null bytes": b"seed: 0\x00\n",
    "no utf-8": b"seed: \xff\xfe\n",
    "utf-16": "seed: 0\n".encode("utf-16"),
    "a list": b"[1, 2]\n",
    "twice the same key": b"seed: 0\nseed: 1\n",
    "a tab": b"seed:\t\t[\n\tx: 1\n",
    "a number that is too long": b"seed: " + b"9" * 10000 + b"\n",
}
IDS: dict[str, dict[str, Any]] = {  # changes of the first training image's record in dataset.json
    "id goes up": {"image_id": "../../../escaped"},
    "id is absolute": {"image_id": OUTSIDE},
    "id is empty": {"image_id": ""},
    "id is a dot": {"image_id": "."},
    "id has a null byte": {"image_id": "a\x00b"},
    "id is too long": {"image_id": "a" * 300},
    "id of another image": {"image_id": "train_0001"},
    "id has a line break": {"image_id": "a\nb"},
    "image is outside": {"image": "../../../../../../etc/passwd"},
    "image is a device": {"image": "/dev/zero"},
    "size is huge": {"width": 10**9, "height": 10**9},
    "label is unknown": {"labels": [99]},
    "split is unknown": {"split": "test"},
}


def cases(tiny: Tiny) -> list[Case]:
    found = [Case(tiny, stage, f"setting: {name}") for name, (stage, _) in SETTINGS.items()]
    found += [Case(tiny, "write_pseudo_masks", f"params.yaml: {name}") for name in TEXTS]
    found += [Case(tiny, stage, f"record: {name}") for name in IDS for stage in ("refine_crf", "make_cams")]
    found += [Case(tiny, stage, f"file: {name}") for stage, files in FILES.items() for name in files]
    return found


def _png_bomb(path: Path) -> None:
    """A PNG whose header says 60,000 pixels square."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _object_arrays(path: Path) -> None:
    evil = np.empty(1, object)
    evil[0] = Evil()
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=True, cam=evil, classes=evil, size=evil, label=evil)
    path.write_bytes(buffer.getvalue())


FILES: dict[str, dict[str, tuple[str, Prepare]]] = {
    "refine_crf": {
        "pickled maps": ("data/cams/train_0000.npz", _object_arrays),
        "image is a pipe": ("data/dataset/images/train_0000.png", _pipe),
        "image is a bomb": ("data/dataset/images/train_0000.png", _png_bomb),
        "image is PostScript": (
            "data/dataset/images/train_0000.png",
            lambda path: _save(path, b"%!PS-Adobe-3.0 EPSF-3.0\n"),
        ),
    },
    "propagate_affinity": {"pickled maps": ("data/crf/train_0000.npz", _object_arrays)},
    "make_cams": {
        "header of 8 EiB": ("data/classifier.safetensors", lambda path: _save(path, struct.pack("<Q", 2**62) + b"{}")),
        "pickled weights": ("data/classifier.safetensors", lambda path: _save(path, pickle.dumps(Evil()))),
        "deep header": ("data/prototypes.safetensors", lambda p: _save(p, struct.pack("<Q", 9000) + b"[" * 9000)),
    },
    "train_segmentation": {"mask is a bomb": ("data/pseudo_masks/training/train_0000.png", _png_bomb)},
}


def _save(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def run_case(case: Case) -> Fault:
    folder = Path(tempfile.mkdtemp(prefix="hostile_", dir=scratch()))
    project = copy(case.tiny, case.stage, folder / "p")
    what, _, name = case.name.partition(": ")
    if what == "setting":
        own(project, "params.yaml").write_text(_changed(SETTINGS[name][1]), encoding="utf-8")
        (project / "evil.pth").write_bytes(pickle.dumps(Evil()))
    elif what == "params.yaml":
        own(project, "params.yaml").write_bytes(TEXTS[name])
    elif what == "record":
        path = own(project, "data/dataset/dataset.json")
        content = json.loads(path.read_text(encoding="utf-8"))
        content["records"][0] |= IDS[name]
        path.write_text(json.dumps(content), encoding="utf-8")
    else:
        place, prepare = FILES[case.stage][name]
        prepare(own(project, place))
    before = tree(folder) | {"p/evil.pth"}
    ending = stage_run(project, case.stage, timeout=40.0)
    if any(path.name == CANARY for path in folder.rglob("*")):
        return told(case.id, "silent", "its code ran", ending.output, folder)
    outside = [n for n in tree(folder) - before if not n.startswith(("p/", "ending_"))]
    if name == "id is absolute":
        outside += [str(path) for path in Path(OUTSIDE).parent.glob(f"{Path(OUTSIDE).name}*")]
    if outside:
        for found in outside:
            (folder / found).unlink()
        return told(case.id, "silent", f"wrote outside: {', '.join(sorted(outside))}", ending.output, folder)
    outcome, detail = refused(ending) if ending.code else judged(case.tiny, project, case.stage, ending)
    return told(case.id, outcome, detail, ending.output, folder)


def _changed(text: str) -> str:
    """Without a check of the values: what is not valid belongs here."""
    from cpal.settings.profiles import plain_yaml

    def merge(old: dict[str, Any], new: dict[str, Any]) -> None:
        for key, value in new.items():
            if isinstance(value, dict) and isinstance(old.get(key), dict):
                merge(old[key], value)
            else:
                old[key] = value

    values = plain_yaml(settings_text())
    merge(values, plain_yaml(text))
    return json.dumps(values)


# A checkpoint that runs code


def poison(project: Path) -> int:
    """Put pickled code into every checkpoint below .cache, under its own name."""
    paths = [path for path in project.glob(".cache/**/*") if path.suffix in (".pth", ".pt", ".ckpt")]
    for path in paths:
        path.write_bytes(pickle.dumps(Evil()))
    return len(paths)


def run_poisoned(tiny: Tiny, stage: str, project: Path) -> Fault:
    folder = Path(tempfile.mkdtemp(prefix="hostile_", dir=scratch()))
    moved(project, folder / "p")
    poisoned = poison(folder / "p")
    ending = stage_run(folder / "p", stage)
    outcome, detail = judged(tiny, folder / "p", stage, ending)
    if any(path.name == CANARY for path in folder.rglob("*")):
        outcome, detail = "silent", "a checkpoint's code ran"
    elif not poisoned:
        outcome, detail = "unclear", "it left no checkpoint to poison"
    return told(f"hostile/{stage}/checkpoint: pickled code, {project.name}", outcome, detail, ending.output, folder)
