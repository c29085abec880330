"""Other methods' CAMs become ours: what each method saves, what is refused, and that no file does harm."""

import importlib
import io
import os
import pickle
import re
import shutil
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cpal.affinity.walk import start_maps, walk_maps
from cpal.data.dataset import Dataset, Record
from cpal.errors import UserError
from cpal.evaluation.scoring import score_seeds
from cpal.maps.cams import CamFile, read_maps, write_cam
from cpal.maps.seeds import SeedRule, seed_scores
from cpal.maps.walked import walked_labels
from cpal.settings.config import Config
from cpal.sources.peer_cams import PEERS, import_cam
from cpal.sources.pickled import read_pickled
from stages import evaluate_crf, evaluate_seed, import_cams, refine_crf
from stages.job.job import Job
from stages.job.network import NetworkJob
from stages.job.run import run

COLUMNS = [1, 2, 3]


def quarter(record: Record) -> tuple[int, int]:
    return (record.height + 3) // 4, (record.width + 3) // 4


def own_maps(record: Record) -> np.ndarray:
    """Random maps of the labels, as make_cams stores them; each has its maximum at 1."""
    maps = np.random.default_rng(ord(record.image_id[0])).random((len(record.labels), *quarter(record)))
    return (maps / maps.max(axis=(1, 2), keepdims=True)).astype(np.float16).astype(np.float32)


def enlarge(maps: np.ndarray, record: Record) -> np.ndarray:
    """Each pixel has the value of the cell that it lies in."""
    rows = np.arange(record.height) * maps.shape[1] // record.height
    columns = np.arange(record.width) * maps.shape[2] // record.width
    return maps[:, rows][:, :, columns]


def irn(record: Record) -> dict[Any, Any]:
    maps = own_maps(record)
    label = torch.from_numpy(record.multi_hot(3))
    high_res = enlarge(maps, record)
    return {"keys": torch.nonzero(label)[:, 0], "cam": torch.from_numpy(maps), "high_res": high_res}


def sipe(record: Record) -> dict[Any, Any]:
    maps = enlarge(own_maps(record), record)
    return {"keys": np.array([0, *record.labels]), "IS_CAM": np.concatenate([np.full_like(maps[:1], 0.25), maps])}


def amn(record: Record) -> dict[Any, Any]:
    content = irn(record)
    maps = np.concatenate([np.full_like(content["high_res"][:1], 0.9), content["high_res"]])
    return content | {"high_res": maps, "cam": torch.tensor(maps)}


def mctformer(record: Record) -> dict[Any, Any]:
    maps = enlarge(own_maps(record), record)
    return {label - 1: maps[i] for i, label in enumerate(record.labels)}


def clip_es(record: Record) -> dict[Any, Any]:
    """Its keys come in the order in which the annotation names the objects."""
    maps = enlarge(own_maps(record), record)[::-1].astype(np.float16)
    return {"keys": np.array(record.labels)[::-1] - 1, "attn_highres": maps}


def lpcam(record: Record) -> dict[Any, Any]:
    """zhaozhengChen/LPCAM, step/make_lpcam.py: as IRN's, but `keys` is an array and `high_res` a tensor."""
    content = irn(record)
    return {"keys": content["keys"].numpy(), "cam": content["cam"], "high_res": torch.from_numpy(content["high_res"])}


def puzzle_cam(record: Record) -> dict[Any, Any]:
    """shjo-april/PuzzleCAM, inference_classification.py: keys count from 1 behind a 0, which has no map."""
    content = irn(record)
    keys = np.pad(content["keys"] + 1, (1, 0), mode="constant")
    return {"keys": keys, "cam": content["cam"], "hr_cam": content["high_res"]}


def seam(record: Record) -> dict[Any, Any]:
    """YudeWang/SEAM, infer_SEAM.py, and jiwoon-ahn/psa, infer_cls.py, --out_cam: class id from 0 -> map of numbers."""
    maps = enlarge(own_maps(record), record).astype(np.float64)
    return {int(i): maps[n] for n, i in enumerate(np.flatnonzero(record.multi_hot(3)))}


SAVED: dict[str, Callable[[Record], dict[Any, Any]]] = {
    "irn": irn,
    "recam": irn,  # zhaozhengChen/ReCAM, step/make_recam.py
    "lpcam": lpcam,
    "puzzle-cam": puzzle_cam,
    "psa": seam,
    "seam": seam,
    "sipe": sipe,
    "amn": amn,
    "mctformer": mctformer,
    "clip-es": clip_es,
}


@pytest.fixture
def folder(tmp_path: Path, tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a data set and an empty folder `peer`."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_dataset.mask_root, "data/dataset")
    Path("peer").mkdir()
    return tmp_path


def save_all(dataset: Dataset, method: str, **changes: Any) -> None:
    """As the methods do: np.save of a dictionary, none for images without labels. `changes`: other content by id."""
    for record in dataset.split("train"):
        if record.labels:
            content = changes.get(record.image_id, SAVED[method](record))
            np.save(f"peer/{record.image_id}.npy", content, allow_pickle=True)


def record_of(dataset: Dataset, image_id: str) -> Record:
    return next(record for record in dataset.records if record.image_id == image_id)


def refusal(content: Any, record: Record, method: str = "irn") -> str:
    np.save("peer/x.npy", content, allow_pickle=True)
    with pytest.raises(UserError) as caught:
        import_cam(Path("peer/x.npy"), PEERS[method], record, COLUMNS)
    assert str(caught.value).startswith("peer/x.npy: ")
    return str(caught.value)


class TestMethods:
    @pytest.mark.parametrize("method", sorted(SAVED.keys() - {"sipe"}))
    def test_maps_come_back(self, folder: Path, tiny_dataset: Dataset, method: str) -> None:
        save_all(tiny_dataset, method)
        import_cams.main(Path("peer"), method=method, workers=1)
        for record in tiny_dataset.split("train"):
            content = read_maps(Path("data/imported_cams"), record)
            assert content.size == record.size and list(content.maps) == ["cam"]
            assert content.classes.tolist() == list(record.labels)
            if record.labels:
                np.testing.assert_array_equal(content.maps["cam"], own_maps(record))

    def test_images_without_a_class_walk_as_others_do(
        self, folder: Path, tiny_dataset: Dataset, settings: Callable[..., Config]
    ) -> None:
        record = record_of(tiny_dataset, "empty")
        save_all(tiny_dataset, "irn")
        import_cams.main(Path("peer"), method="irn", workers=1)
        content, edge = read_maps(Path("data/imported_cams"), record), torch.rand(quarter(record))
        start = start_maps(content, content.classes, SeedRule("imported", {"cam": 0.15}), "walk")
        walked = walk_maps(start, edge, content.classes, content.size, settings().walk)
        assert (walked_labels(walked, 1.0, 0.5).label == 0).all()

    def test_sipes_argmax_is_the_threshold_one_half(self, folder: Path, tiny_dataset: Dataset) -> None:
        record = record_of(tiny_dataset, "c")
        maps = np.random.default_rng(0).random((3, *quarter(record)), np.float32)
        maps[:, 0, 0] = 0  # nothing at all: the first wins, the background
        np.save("peer/c.npy", wrapped({"keys": np.array([0, 1, 3]), "IS_CAM": maps}), allow_pickle=True)
        content = import_cam(Path("peer/c.npy"), PEERS["sipe"], record, COLUMNS).content
        threshold = PEERS["sipe"].threshold
        found = np.where(content.maps["cam"].max(axis=0) > threshold, content.maps["cam"].argmax(axis=0) + 1, 0)
        np.testing.assert_array_equal(found, maps.argmax(axis=0))
        assert {0, 1, 2} == set(found.flatten()) and found[0, 0] == 0

    def test_clip_es_background_is_a_threshold(self) -> None:
        strongest = np.linspace(0, 1, 1000)
        above = strongest > (1 - strongest) ** 2
        threshold = PEERS["clip-es"].threshold
        assert threshold is not None
        np.testing.assert_array_equal(above, strongest > threshold)

    def test_other_classes_and_order(
        self, folder: Path, tiny_dataset: Dataset, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The method knows blue, sky, green and red; the data set red, green and blue."""
        column = {3: 0, 2: 2, 1: 3}
        for record in tiny_dataset.split("train"):
            maps = own_maps(record)
            saved = {column[label]: maps[i] for i, label in enumerate(record.labels)}
            saved[1] = np.zeros(quarter(record), "f4")
            np.save(f"peer/{record.image_id}.npy", wrapped(saved), allow_pickle=True)
        import_cams.main(Path("peer"), method="mctformer", classes="blue, sky,green,red", workers=1)
        for record in tiny_dataset.split("train"):
            content = read_maps(Path("data/imported_cams"), record)
            assert content.classes.tolist() == list(record.labels)
            if record.labels:
                np.testing.assert_array_equal(content.maps["cam"], own_maps(record))
        assert "Left out: 4 maps" in capsys.readouterr().out

    def test_whole_maps_are_sampled_at_the_middle_of_each_cell(self, folder: Path, tiny_dataset: Dataset) -> None:
        record = record_of(tiny_dataset, "d")  # 36 x 36: cells of 4 x 4 pixels, whose middle lies between four
        maps = np.random.default_rng(0).random((2, 36, 36), np.float32)
        np.save("peer/d.npy", wrapped({"keys": np.array([1, 2]), "high_res": maps}), allow_pickle=True)
        content = import_cam(Path("peer/d.npy"), PEERS["irn"], record, COLUMNS).content
        expected = [
            [[m[4 * y + 1 : 4 * y + 3, 4 * x + 1 : 4 * x + 3].mean() for x in range(9)] for y in range(9)] for m in maps
        ]
        np.testing.assert_allclose(content.maps["cam"], expected, atol=1e-6)

    def test_another_method_is_named(self, folder: Path, tiny_dataset: Dataset) -> None:
        record = record_of(tiny_dataset, "a")
        message = refusal(puzzle_cam(record), record)
        assert (
            "the file has `keys`, `cam`, `hr_cam`; name the method whose files these are with --from (puzzle-cam)"
            in message
        )
        assert "--from (psa, seam, mctformer)" in refusal(seam(record), record)


class TestCommand:
    def test_says_what_to_do_next(
        self, folder: Path, tiny_dataset: Dataset, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        save_all(tiny_dataset, "irn")
        monkeypatch.setattr(sys, "argv", ["import_cams", "--from", "irn", "peer", "--workers", "1"])
        with pytest.raises(SystemExit, match="^0$"):
            run(import_cams.main)
        assert capsys.readouterr().out.splitlines() == [
            "data/imported_cams: maps of 4 images, and 1 images without a class",
            "Next: dvc exp run -S seeds.source=imported -S seeds.maps=data/imported_cams "
            "-S seeds.cam_threshold=0.15 "
            "evaluate_seed evaluate_crf evaluate_pseudo_mask evaluate_segmentation",
        ]

    def test_lists_missing_files(self, folder: Path, tiny_dataset: Dataset) -> None:
        save_all(tiny_dataset, "irn")
        for image_id in ("b", "d"):
            Path(f"peer/{image_id}.npy").unlink()
        with pytest.raises(
            UserError, match=r"^peer: lacks 2 of the 4 training images .*: b.npy, d.npy; let the method"
        ):
            import_cams.main(Path("peer"), method="irn", workers=1)
        with pytest.raises(UserError, match="nowhere: no such folder"):
            import_cams.main(Path("nowhere"), method="irn", workers=1)

    def test_other_labels_are_counted(
        self, folder: Path, tiny_dataset: Dataset, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """c shows red and blue, and its file has green and blue."""
        maps = own_maps(record_of(tiny_dataset, "c"))
        save_all(tiny_dataset, "irn", c={"keys": np.array([1, 2]), "high_res": maps})
        import_cams.main(Path("peer"), method="irn", workers=1)
        assert "Left out: 1 maps of classes" in (text := capsys.readouterr().out) and "No map: 1 labels" in text
        content = read_maps(Path("data/imported_cams"), record_of(tiny_dataset, "c"))
        assert content.classes.tolist() == [3]
        np.testing.assert_array_equal(content.maps["cam"][0], maps[1])

    @pytest.mark.parametrize("workers", [1, 2])
    def test_all_or_nothing(self, folder: Path, tiny_dataset: Dataset, workers: int) -> None:
        save_all(tiny_dataset, "irn")
        import_cams.main(folder / "peer", method="irn", workers=workers)
        before = {path.name: path.read_bytes() for path in Path("data/imported_cams").iterdir()}
        save_all(tiny_dataset, "irn", d={"keys": np.array([1, 2])}, a=irn(record_of(tiny_dataset, "a")))
        with pytest.raises(UserError, match="peer/d.npy: no maps, which this method saves as an array `high_res`"):
            import_cams.main(folder / "peer", method="irn", workers=workers)
        assert {path.name: path.read_bytes() for path in Path("data/imported_cams").iterdir()} == before
        assert sorted(path.name for path in Path("data").iterdir()) == ["dataset", "imported_cams"]

    @pytest.mark.parametrize("place", ["data/imported_cams", "data/imported_cams/mine", "link"])
    def test_files_where_the_result_goes_are_refused(self, folder: Path, tiny_dataset: Dataset, place: str) -> None:
        save_all(tiny_dataset, "irn")
        Path("link").symlink_to("data/imported_cams")
        shutil.copytree("peer", "data/imported_cams" if place == "link" else place)
        before = sorted(Path("data").rglob("*"))
        with pytest.raises(UserError, match=f"{place}: lies in data/imported_cams, which the result replaces; move"):
            import_cams.main(Path(place), method="irn", workers=1)
        assert sorted(Path("data").rglob("*")) == before

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (
                {"method": "cam"},
                "--from cam: unknown; choose irn, recam, lpcam, puzzle-cam, psa, seam, sipe, amn, mctformer, clip-es",
            ),
            ({"classes": "red,green,red"}, "name each class once"),
            ({"classes": "red,,blue"}, "name each class once"),
            ({"classes": "red,blue"}, "lacks green of the data set"),
        ],
    )
    def test_options(self, folder: Path, options: dict[str, str], message: str) -> None:
        with pytest.raises(UserError, match=message):
            import_cams.main(Path("peer"), **({"method": "irn"} | options), workers=1)


class TestRefused:
    """c shows classes 1 and 3; its maps are 33 x 48, or 9 x 12."""

    def content(self, **changes: Any) -> dict[str, Any]:
        return {"keys": np.array([0, 2]), "high_res": np.full((2, 33, 48), 0.5, np.float32)} | changes

    def test_what_is_right_is_not(self, folder: Path, tiny_dataset: Dataset) -> None:
        record = record_of(tiny_dataset, "c")
        for size in [(33, 48), (9, 12), (32, 49), (8, 13)]:
            maps = np.full((2, *size), -0.5, np.float64)
            maps[:, : size[0] // 2] = 1.0005
            np.save("peer/c.npy", wrapped(self.content(high_res=maps)), allow_pickle=True)
            found = import_cam(Path("peer/c.npy"), PEERS["irn"], record, COLUMNS)
            assert found.content.maps["cam"].shape == (2, 9, 12) and found.content.maps["cam"].dtype == np.float32
            assert found.content.maps["cam"][:, -1].max() == 0 and found.content.maps["cam"][:, 0].min() == 1
            assert (found.unlabeled, found.absent) == (0, 0)

    @pytest.mark.parametrize("size", [(48, 33), (12, 9), (35, 48), (33, 50), (17, 24), (0, 12), (11, 12)])
    def test_size(self, folder: Path, tiny_dataset: Dataset, size: tuple[int, int]) -> None:
        maps = np.full((2, *size), 0.5, np.float32)
        message = refusal(self.content(high_res=maps), record_of(tiny_dataset, "c"))
        assert f"maps of {size[0]} x {size[1]}, neither the image's size, 33 x 48" in message

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1.01, 3e38])
    def test_values(self, folder: Path, tiny_dataset: Dataset, value: float) -> None:
        maps = np.full((2, 33, 48), 0.5, np.float32)
        maps[1, 7, 7] = value
        message = refusal(self.content(high_res=maps), record_of(tiny_dataset, "c"))
        assert ("no finite numbers" if not np.isfinite(value) else "divide each map by its maximum") in message

    @pytest.mark.parametrize(
        ("keys", "message"),
        [
            ([0, 3], r"class ids \[0, 3\], not different ones in 0..2; name the method's own classes"),
            ([-1, 0], "not different ones"),
            ([2, 2], "not different ones"),
            ([0], "2 maps of 1 classes"),
            ([0, 1, 2], "2 maps of 3 classes"),
            ([[0, 2]], "no class ids"),
            ([0.0, 2.0], "no class ids, which this method saves as an array `keys`; the file has `keys`, `high_res`"),
        ],
    )
    def test_keys(self, folder: Path, tiny_dataset: Dataset, keys: Any, message: str) -> None:
        assert re.search(message, refusal(self.content(keys=np.array(keys)), record_of(tiny_dataset, "c")))

    @pytest.mark.parametrize(
        "maps",
        [None, "x", 0.5, [[[0.5]]], np.full((33, 48), 0.5), np.ones((2, 33, 48), np.uint8), np.ones((2, 33, 48), bool)],
    )
    def test_maps(self, folder: Path, tiny_dataset: Dataset, maps: Any) -> None:
        assert "no maps, which this method" in refusal(self.content(high_res=maps), record_of(tiny_dataset, "c"))

    def test_no_map_of_a_label(self, folder: Path, tiny_dataset: Dataset) -> None:
        content = {"keys": np.array([1]), "high_res": np.full((1, 33, 48), 0.5, np.float32)}
        message = refusal(content, record_of(tiny_dataset, "c"))
        assert "class ids [1] are mask values [2], and the image is labeled [1, 3]; name the method's own" in message

    @pytest.mark.parametrize(
        ("method", "saved_by"),
        [(a, b) for a in SAVED for b in SAVED if PEERS[a].maps != PEERS[b].maps or (a, b) == ("amn", "irn")],
    )
    def test_files_of_another_method(self, folder: Path, tiny_dataset: Dataset, method: str, saved_by: str) -> None:
        refusal(SAVED[saved_by](record_of(tiny_dataset, "c")), record_of(tiny_dataset, "c"), method)

    def test_dictionary_of_maps(self, folder: Path, tiny_dataset: Dataset) -> None:
        record, map_ = record_of(tiny_dataset, "c"), np.full((33, 48), 0.5, np.float32)
        assert "no class ids" in refusal({}, record, "mctformer")
        assert "no class ids" in refusal({"0": map_}, record, "mctformer")
        assert "no class ids" in refusal({10**30: map_}, record, "mctformer")
        assert "no maps" in refusal({0: map_, 2: map_[0]}, record, "mctformer")
        assert "differ in size" in refusal({0: map_, 2: map_[1:]}, record, "mctformer")
        assert "maps; name the method's own" in refusal(dict.fromkeys(range(1000), map_), record, "mctformer")
        assert "not different ones" in refusal({0: map_, -2: map_}, record, "mctformer")

    def test_sipe_needs_its_background_first(self, folder: Path, tiny_dataset: Dataset) -> None:
        maps = np.full((2, 33, 48), 0.5, np.float32)
        for keys in ([1, 3], [1, 0]):
            content = {"keys": np.array(keys), "IS_CAM": maps}
            assert "is not 0, the background" in refusal(content, record_of(tiny_dataset, "c"), "sipe")


class TestTensors:
    @pytest.mark.parametrize("protocol", [2, 3, 4, 5])
    @pytest.mark.parametrize(
        "name", ["float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool"]
    )
    def test_every_kind_and_view(self, tmp_path: Path, protocol: int, name: str) -> None:
        whole = (torch.randn(3, 4, 5) * 50).to(getattr(torch, name))
        views = {
            "whole": whole,
            "permuted": whole.permute(2, 0, 1),
            "part": whole[1:, ::2, 1:4],
            "one": whole[2, 3, 4],
            "empty": whole[:0],
        }
        path = pickled(tmp_path / "x.npy", pickle.dumps(wrapped(views), protocol=protocol))
        for key, found in read_pickled(path, what="CAMs").items():
            assert found.dtype == views[key].numpy().dtype
            np.testing.assert_array_equal(found, views[key].numpy())

    def test_repeated_numbers_are_refused(self, tmp_path: Path) -> None:
        """A tensor of two numbers may claim to be of any size; copied, it would fill the memory."""
        path = tmp_path / "x.npy"
        np.save(path, wrapped({"keys": torch.ones(2, 1).expand(2, 10**6)}), allow_pickle=True)
        with pytest.raises(UserError, match="shows more than the 2 numbers"):
            read_pickled(path, what="CAMs")

    def test_numbers_that_numpy_lacks(self, tmp_path: Path) -> None:
        np.save(tmp_path / "x.npy", wrapped({"keys": torch.ones(2, dtype=torch.bfloat16)}), allow_pickle=True)
        with pytest.raises(UserError, match=r"asks for torch.BFloat16Storage, which no dictionary of CAMs needs"):
            read_pickled(tmp_path / "x.npy", what="CAMs")


def wrapped(content: Any) -> np.ndarray:
    """The array of objects that np.save makes of anything."""
    array = np.empty((), object)
    array[()] = content
    return array


def pickled(path: Path, data: bytes, shape: tuple[int, ...] = ()) -> Path:
    with path.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, {"descr": "|O", "fortran_order": False, "shape": shape})
        stream.write(data)
    return path


class Call:
    """Unpickled by the ordinary means, it calls a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call: tuple[Any, ...] = function, arguments

    def __reduce__(self) -> Any:
        return self.call


class Built(Call):
    """Unpickled by the ordinary means, it also sets a state."""

    def __init__(self, state: Any, function: Any, *arguments: Any) -> None:
        self.call = function, arguments, state


def text(value: str) -> bytes:
    return b"X" + len(value).to_bytes(4, "little") + value.encode()


def number(value: int) -> bytes:
    return b"\x8a\x08" + value.to_bytes(8, "little", signed=True)


F4 = b"cnumpy\ndtype\n(" + text("f4") + b"tR(K\x03" + text("<") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
HUGE = number(10**12)
NEW = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
SYSTEM = b"cposix\nsystem\n(" + text("touch sprung") + b"tR."
TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n("
BAD: dict[str, bytes] = {
    "os.system": pickle.dumps(Call(os.system, "touch sprung")),
    "eval": pickle.dumps({"keys": Call(eval, "open('sprung', 'w')")}),
    "getattr": pickle.dumps(wrapped({"keys": Call(getattr, Call(__import__, "os"), "system")})),
    "os.mkdir of protocol 0": pickle.dumps(wrapped(Call(os.mkdir, "sprung")), protocol=0),
    "torch.load": pickle.dumps({"keys": Call(torch.load, "x")}),
    "nested calls": pickle.dumps(Call(Call, Call(os.mkdir, "sprung"))),
    "a dotted name": b"\x80\x04" + text("numpy") + text("ndarray.__class__.__base__") + b"\x93)R.",
    "a module in a name": b"cnumpy\ncore.os.system\n(" + text("touch sprung") + b"tR.",
    "another call of ndarray": b"cnumpy\nndarray\n(" + HUGE + b"tR.",
    "instances": b"(inumpy\nndarray\n.",
    "objects": b"(cnumpy\nndarray\n" + HUGE + b"o.",
    "new objects": b"\x80\x02cnumpy\nndarray\n" + HUGE + b"\x85\x81.",
    "extensions": b"\x80\x02\x82\x01.",
    "persistent text": b"Psome\n.",
    "buffers outside": b"\x80\x05\x97.",
    "sets": b"\x80\x04\x8f(" + text("a") + b"\x90.",
    "a state for a function": b"cnumpy\ndtype\n}(" + text("x") + text("y") + b"ub.",
    "a state for a list": b"](K\x01K\x02tb.",
    "a huge array": NEW + b"(K\x01(" + HUGE + b"t" + F4 + b"\x89" + text("few") + b"tb.",
    "a huge reconstructed array": b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(" + HUGE + b"tU\x01btR.",
    "huge bytes": b"\x80\x04\x8e" + (1 << 40).to_bytes(8, "little") + b"few.",
    "a huge bytearray": b"\x80\x05\x96" + (1 << 40).to_bytes(8, "little") + b"few.",
    "huge text": b"\x80\x04\x8d" + (1 << 40).to_bytes(8, "little") + b"few.",
    "a huge integer": b"\x80\x02\x8b" + ((1 << 31) - 1).to_bytes(4, "little") + b"few.",
    "a huge memo": b"\x80\x02}r\xff\xff\xff\xff(" + text("keys") + b"Nu.",
    "a negative size": NEW + b"(K\x01(J\xff\xff\xff\xfft" + F4 + b"\x89" + text("four") + b"tb.",
    "pointers for objects": NEW + b"(K\x01(K\x01t" + F4.replace(b"f4", b"O8") + b"\x89" + text("pointers") + b"tb.",
    "a record of objects": b"cnumpy\ndtype\n(" + text("V8") + b"tR.",
    "a list of types": b"cnumpy\ndtype\n(](" + text("a") + text("O") + b"tatR.",
    "an unfinished array": b"}(" + text("keys") + NEW + b"u.",
    "a tensor of nothing": TENSOR + b"NK\x00)))Nt" + b"R.",
    "a tensor beyond its numbers": TENSOR
    + pickle.dumps(np.ones(2, "f4"), protocol=2)[2:-1]
    + b"K\x01(K\x02t(K\x01tNNtR.",
    "a storage that is none": b"ctorch.storage\n_load_from_bytes\n(" + b"C\x04abcd" + b"tR.",
    "a storage that calls": b"ctorch.storage\n_load_from_bytes\n(C" + bytes([len(SYSTEM)]) + SYSTEM + b"tR.",
    "too many marks": b"(" * 100_000 + b".",
    "deep lists": b"(" * 200_000 + b"l" * 200_000 + b".",
    "deep tuples as a key": b"}" + b")" + b"\x85" * 200_000 + b"Ns.",
    "deep dictionaries": b"}" * 100_000 + (text("k") + b"s") * 10 + b".",
    "a list as a key": b"}]Ns.",
    "an odd number of items": b"}(K\x01u.",
    "no end": b"}",
    "nothing": b"",
    "nothing to end with": b".",
    "an unknown step": b"\xff",
    "an unknown memo": b"h\x07.",
    "a number too long to print as a key": b"}L0x" + b"f" * 20_000 + b"L\nNs.",
    "an item of an array": NEW + b"(K\x01(K\x01t" + F4 + b"\x89" + text("four") + b"tb" + b"K\x00K\x07s.",
    "lists in lists, each ten times the last": b"]q\x00"
    + b"]("
    + b"h\x00" * 10
    + b"eq\x00" * 1
    + b"".join(b"](" + b"h\x00" * 10 + b"eq\x00" for _ in range(40))
    + b"0}"
    + text("keys")
    + b"h\x00s.",
    "such a list as an index": NEW
    + b"(K\x01(K\x01t"
    + F4
    + b"\x89"
    + text("four")
    + b"tb]q\x00"
    + b"".join(b"0](" + b"h\x00" * 10 + b"eq\x00" for _ in range(40))
    + b"K\x07s.",
    "a tensor of overflowing strides": TENSOR
    + pickle.dumps(np.ones(2, "f4"), protocol=2)[2:-1]
    + b"K\x00(K\x02t("
    + number(1 << 62)
    + b"tNNtR.",
    "a dictionary in itself": b"}q\x00" + text("keys") + b"h\x00s.",
}


class TestHostile:
    @pytest.mark.parametrize("name", BAD)
    def test_ends_in_a_message(self, folder: Path, tiny_dataset: Dataset, name: str) -> None:
        path = pickled(folder / "peer/c.npy", BAD[name])
        if "huge" in name:
            tracemalloc.start()
        with pytest.raises(UserError) as caught:
            import_cam(path, PEERS["irn"], record_of(tiny_dataset, "c"), COLUMNS)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
        tracemalloc.stop()
        assert str(caught.value).startswith(f"{path}: ") and len(str(caught.value)) < 1000
        assert not Path("sprung").exists() and sorted(p.name for p in folder.iterdir()) == ["data", "peer"]

    def test_the_traps_work_where_nothing_stops_them(self, folder: Path) -> None:
        np.load(pickled(folder / "x.npy", BAD["os.system"]), allow_pickle=True)
        assert Path("sprung").exists()

    @pytest.mark.parametrize("call", [os.system, eval, exec, getattr, setattr, __import__, open, np.load, pickle.loads])
    def test_names_what_it_refuses(self, folder: Path, call: Any) -> None:
        path = pickled(folder / "x.npy", pickle.dumps(wrapped({"keys": Call(call, "x")}), protocol=2))
        with pytest.raises(UserError, match=rf"it asks for \w+\.{call.__name__}, which no dictionary of CAMs needs"):
            read_pickled(path, what="CAMs")

    def test_the_same_bytes_again_and_again(self, folder: Path) -> None:
        """A megabyte, taken a thousand times, each time as new bytes."""
        again = b"h\x00(h\x01" + text("latin1") + b"tR"
        data = b"]c_codecs\nencode\nq\x00" + text("a" * (1 << 20)) + b"q\x01" + again * 1000 + b"."
        tracemalloc.start()
        with pytest.raises(UserError, match="copies its content again and again"):
            read_pickled(pickled(folder / "x.npy", data), what="CAMs")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 64 << 20

    def test_a_storage_again_and_again(self, folder: Path) -> None:
        """A megabyte of numbers, read anew for ten bytes of the file."""
        storage = torch.ones(1 << 18)._typed_storage().__reduce__()[1][0]
        data = b"]ctorch.storage\n_load_from_bytes\nq\x00B" + len(storage).to_bytes(4, "little") + storage + b"q\x01"
        path = pickled(folder / "x.npy", data + b"h\x00(h\x01tR" * 1000 + b"}.")
        with pytest.raises(UserError, match="copies its content again and again"):
            read_pickled(path, what="CAMs")

    def test_an_endless_program(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("cpal.sources.pickled.MAX_STEPS", 1000)
        with pytest.raises(UserError, match="more than 1000 steps"):
            read_pickled(pickled(folder / "x.npy", b"N0" * 1000 + b"}."), what="CAMs")

    def test_too_large(self, folder: Path) -> None:
        path = pickled(folder / "x.npy", b"}.")
        with path.open("r+b") as stream:
            stream.truncate((1 << 30) + 1)  # a hole: no disk, no memory
        with pytest.raises(UserError, match="larger than 1024 MB"):
            read_pickled(path, what="CAMs")

    def test_headers(self, folder: Path) -> None:
        path = folder / "x.npy"
        header = b"{'descr': '|O', 'fortran_order': False, 'shape': (), }"
        for text_ in (
            header[:-3],
            header.replace(b"()", b"(" * 5000),
            header.replace(b"'|O'", b"__import__('os')"),
            b"",
        ):
            body = text_ + b" " * 20 + b"\n"
            path.write_bytes(b"\x93NUMPY\x01\x00" + len(body).to_bytes(2, "little") + body + b"}.")
            with pytest.raises(UserError, match="not a dictionary that np.save wrote"):
                read_pickled(path, what="CAMs")

    @pytest.mark.parametrize("method", SAVED)
    def test_mutated_files(self, folder: Path, tiny_dataset: Dataset, method: str) -> None:
        """100 files of each method, with bytes changed, cut, doubled or put in: a message, or maps within bounds."""
        record = record_of(tiny_dataset, "c")
        stream = io.BytesIO()
        np.save(stream, wrapped(SAVED[method](record)), allow_pickle=True)
        whole, rng, path = stream.getvalue(), np.random.default_rng(0), folder / "peer/c.npy"
        outside = sorted(folder.rglob("*"))
        refused = 0
        for number_ in range(100):
            path.write_bytes(mutated(whole, rng, kind=number_ % 5))
            try:
                content = import_cam(path, PEERS[method], record, COLUMNS).content
            except UserError as error:
                assert str(error).startswith(f"{path}: ")
                refused += 1
            else:
                assert content.maps["cam"].shape == (len(content.classes), 9, 12) and set(content.classes) <= {1, 3}
                assert (
                    np.isfinite(content.maps["cam"]).all()
                    and 0 <= content.maps["cam"].min() <= content.maps["cam"].max() <= 1
                )
        assert refused > 30
        assert sorted(folder.rglob("*")) == sorted({*outside, path})


def mutated(data: bytes, rng: np.random.Generator, *, kind: int) -> bytes:
    """Changes fall into the first and the last kilobyte, where the program is, rather than among the numbers."""
    changed = bytearray(data)
    places = [int(rng.integers(1024)), len(data) - 1 - int(rng.integers(1024))]
    place = places[int(rng.integers(2))]
    if kind == 0:  # a bit
        changed[place] ^= 1 << int(rng.integers(8))
    elif kind == 1:  # some bytes
        for _ in range(8):
            changed[int(rng.integers(128, 1024))] = int(rng.integers(256))
    elif kind == 2:  # the end is missing
        del changed[place:]
    elif kind == 3:  # a step more
        changed[place:place] = rng.choice(list(b".R)}]0(btaus\x85\x81\x86\x87\x93\x94h\x00j\xff\xff")).tobytes()[:1]
    else:  # a part twice
        changed[place:place] = changed[place : place + int(rng.integers(1, 64))]
    return bytes(changed)


class TestPipeline:
    @pytest.fixture
    def both(self, folder: Path, tiny_dataset: Dataset) -> Dataset:
        """data/cams of our own, and the same maps saved as IRN does and imported."""
        for record in tiny_dataset.split("train"):
            labels, size = np.array(record.labels, np.int64), (record.height, record.width)
            maps = own_maps(record) if record.labels else np.zeros((0, *quarter(record)))
            Path("data/cams").mkdir(exist_ok=True)
            write_cam(
                Path(f"data/cams/{record.image_id}.npz"), CamFile(labels, {"cam": maps, "pacam": maps * 0.5}, size)
            )
        save_all(tiny_dataset, "irn")
        import_cams.main(Path("peer"), method="irn", workers=1)
        return tiny_dataset

    def test_seeds_and_scores_are_those_of_the_same_cam(self, both: Dataset) -> None:
        records = both.scored("train")
        own, imported = (
            score_seeds(both, records, Path(folder), SeedRule(source, {"cam": 0.6, "pacam": 0.9}), step=0.1, workers=1)
            for folder, source in (("data/cams", "cam"), ("data/imported_cams", "imported"))
        )
        assert "pacam" in own[0] and set(imported[0]) == set(own[0]) - {"pacam"}
        assert imported[0] == {key: own[0][key] for key in imported[0]} and imported[1] == own[1]

    def test_scores_show_both_sides_of_the_threshold(self, both: Dataset) -> None:
        content = read_maps(Path("data/imported_cams"), record_of(both, "a"))
        scores = seed_scores(content, SeedRule("imported", {"cam": 0.6}))
        assert scores.shape == (2, 40, 33) and {0, 1} == set(scores.argmax(axis=0).flatten())

    def test_stages_read_the_folder_that_the_settings_name(
        self, both: Dataset, settings: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("dvc.yaml", "cpal", "stages"):  # the fingerprint of unfinished work is over code too
            Path(name).symlink_to(Path(__file__).parents[2] / name)
        chosen: dict[str, Any] = {"seeds.cam_threshold": 0.6}
        imported = {"seeds.source": "imported", "seeds.maps": "data/imported_cams"}
        results = {}

        def run(config: Config) -> None:
            for stage in (refine_crf, evaluate_seed, evaluate_crf):
                stage.main(Job(stage.__name__.removeprefix("stages."), config, workers=1))

        for name, changes in (("own", {"seeds.source": "cam"}), ("imported", imported)):
            config = settings(**(chosen | changes))
            run(config)
            names = ("data/metrics/seed_iou.json", "data/metrics/crf.json", "data/crf/c.npz")
            results[name] = [Path(path).read_bytes() for path in names]
            if name == "own":
                shutil.rmtree("data/cams")
        assert results["own"] == results["imported"]
        assert b"pacam" not in Path("data/metrics/seed_details.json").read_bytes()
        shutil.rmtree("data/imported_cams")
        with pytest.raises(UserError, match="make it with: python -m stages.import_cams"):
            refine_crf.main(Job("refine_crf", config, workers=1))
        with pytest.raises(UserError, match="make them again: python -m stages.import_cams"):
            evaluate_seed.main(Job("evaluate_seed", config, workers=1))

    @pytest.mark.parametrize("stage", ["refine_crf", "evaluate_seed", "train_affinity", "propagate_affinity"])
    def test_maps_without_the_chosen_one_are_refused(
        self, both: Dataset, settings: Callable[..., Config], monkeypatch: pytest.MonkeyPatch, stage: str
    ) -> None:
        """As made with taught_cam.decay: 0, when another source is chosen since."""
        Path("dvc.yaml").write_text(f"stages: {{{stage}: {{deps: []}}}}")
        module = importlib.import_module(f"stages.{stage}")
        config = settings(**{"seeds.source": "taught", "affinity.method": "irn", "walk.start": "seeds"})
        monkeypatch.setattr(module, "load_affinity_net", lambda *_, **__: None, raising=False)
        monkeypatch.setattr(module, "edges", lambda *_, **__: torch.zeros(1, 1), raising=False)
        with pytest.raises(
            UserError, match=r"npz: holds no taught map, which seeds.source needs; .*dvc repro -f -s make_cams"
        ):
            module.main(NetworkJob(stage, config, workers=1, device_name="cpu"))

    def test_maps_of_another_data_set_are_refused(self, both: Dataset) -> None:
        maps = Path("data/imported_cams")
        record = record_of(both, "c")
        for changes in ({"width": 40}, {"labels": (1, 2)}):
            with pytest.raises(UserError, match=r"c.npz: maps of classes \[1, 3\].*python -m stages.import_cams"):
                read_maps(maps, Record(**(vars(record) | changes)))
        with pytest.raises(UserError, match=r"e.npz: no such file; make them again"):
            read_maps(maps, record_of(both, "e"))
