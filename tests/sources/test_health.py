"""The health report on a small drawn VOC tree in which one thing after another is made wrong."""

import itertools
import json
import random
import shutil
import struct
import warnings
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np
import pytest
from PIL import Image

from cpal.data.images import read_image
from cpal.data.masks import VOID
from cpal.errors import UserError
from cpal.settings.config import Config
from cpal.sources.dispatch import list_images
from cpal.sources.health.file_findings import CheckedImage, Finding
from cpal.sources.health.health import Health, examine, health_text, look_at_all
from cpal.sources.health.image_facts import ALIKE, ImageFacts, earlier_alike, perceptual_hash, read_facts
from cpal.sources.listing import ListedImage, Listing
from cpal.sources.voc import CLASSES

CAT, DOG, PERSON = (CLASSES.index(name) + 1 for name in ("cat", "dog", "person"))
TRAIN = {"a": (CAT,), "b": (DOG,), "c": (CAT, PERSON), "d": (DOG, PERSON), "e": (PERSON,), "none": ()}
VAL = {"f": (CAT, DOG), "g": (PERSON,)}
UPSIDE, SIDEWAYS = 3, 6  # EXIF orientations


def photo(seed: int, width: int = 96, height: int = 72) -> Image.Image:
    """Coarse random patches: like no other photo, and like its own smaller or compressed copies."""
    patches = np.random.default_rng(seed).integers(0, 256, (10, 10, 3), dtype=np.uint8)
    return Image.fromarray(patches).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "voc"
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation", "Annotations"):
        (root / name).mkdir(parents=True)
    for number, (image_id, labels) in enumerate((TRAIN | VAL).items()):
        photo(number).save(root / f"JPEGImages/{image_id}.jpg", quality=95)
        write_mask(root, image_id, labels)
    for name, ids in (("train", TRAIN), ("val", VAL)):
        write_list(root, name, ids)
    return root


def write_mask(root: Path, image_id: str, labels: Sequence[int], size: tuple[int, int] = (72, 96)) -> None:
    mask = np.zeros(size, np.uint8)
    for place, label in enumerate(labels):
        mask[20 * place : 20 * place + 15, 5:30] = label
    Image.fromarray(mask).save(root / f"SegmentationClass/{image_id}.png")


def write_list(root: Path, name: str, ids: Sequence[str] | dict[str, Any]) -> None:
    (root / f"ImageSets/Segmentation/{name}.txt").write_text("\n".join(ids))


def put(root: Path, name: str, content: bytes | Image.Image, **options: Any) -> Path:
    """Another file in place of image `name`, in the form of its ending."""
    stem, suffix = name.split(".")
    (root / f"JPEGImages/{stem}.jpg").unlink(missing_ok=True)
    path = root / f"JPEGImages/{stem}.{suffix}"
    path.write_bytes(content) if isinstance(content, bytes) else content.save(path, **options)
    return path


@pytest.fixture
def configured(settings: Callable[..., Config], root: Path) -> Callable[..., Config]:
    def make(**changes: Any) -> Config:
        values: dict[str, object] = {
            "data.source": "voc",
            "data.root": str(root),
            "data.classes": ["cat", "dog", "person"],
        }
        values |= {"hosts.irn.crop_size": 32, "hosts.irn.epochs": 100, "crf.bilateral_sxy": 10.0}
        values |= {"segmentation.iterations": 120}
        return settings(**(values | changes))

    return make


@pytest.fixture
def health(configured: Callable[..., Config]) -> Callable[..., Health]:
    """`health(**{"data.labels": "xml"})`: the report with these settings."""

    def run(*, workers: int = 1, limit: int | None = None, **changes: Any) -> Health:
        config = configured(**changes)
        listing = list_images(config.data, seed=0, limit=limit)
        return examine(listing, look_at_all(listing, workers=workers), config, complete=limit is None)

    return run


def kinds(health: Health) -> set[str]:
    return {finding.kind for finding in health.findings}


def one(health: Health, kind: str) -> Finding:
    (finding,) = [finding for finding in health.findings if finding.kind == kind]
    return finding


BASE = {"rare", "unlabeled"}  # of the tree as it is drawn: few images, one of them without a class


def test_sound_tree(health: Callable[..., Health]) -> None:
    found = health()
    assert kinds(found) == BASE
    assert (found.images, found.short, found.long) == ({"train": 6, "val": 2}, (72, 72, 72), (96, 96, 96))
    assert found.together == ((2, 0, 1), (0, 2, 1), (1, 1, 3))
    assert (found.alone, found.val) == ((1, 1, 1), (1, 1, 1))


def test_page(health: Callable[..., Health], root: Path) -> None:
    assert health_text(health()).splitlines()[1:] == [
        "",
        "Warnings",
        "  - classes with fewer than 10 training images: 3",
        "    cat (2), dog (2), person (3)",
        "    -> too rare to learn; add images, or leave them out: list the other classes in data.classes",
        "",
        "Notes",
        "  - training images that show no kept class: 1",
        "    none",
        "    -> they teach what background is (data.without_labels: keep)",
        "",
        "Classes                 training    of these alone    validation",
        "  cat                          2                 1             1",
        "  dog                          2                 1             1",
        "  person                       3                 1             1",
        "",
        "Training images that show both classes",
        "                      1  2  3",
        "   1 cat              -  .  1",
        "   2 dog              .  -  1",
        "   3 person           1  1  -",
        "",
        "Sides in pixels       smallest    median   largest",
        "  short                     72        72        72",
        "  long                      96        96        96",
        "",
        "0 errors, 1 warning, 1 note",
    ]


def test_workers_do_not_change_the_page(health: Callable[..., Health]) -> None:
    assert asdict(health(workers=1)) == asdict(health(workers=2))


# Files that cannot be read


def test_files_that_stop_prepare(health: Callable[..., Health], root: Path) -> None:
    whole = (root / "JPEGImages/a.jpg").read_bytes()
    (root / "JPEGImages/a.jpg").unlink()
    put(root, "b.jpg", b"")
    put(root, "c.jpg", whole[: len(whole) // 2])
    put(root, "d.jpg", b"no picture")
    put(root, "e.png", _png(20_000, 20_000, 8, 2, b""))
    (root / "JPEGImages/f.jpg").unlink()
    (root / "JPEGImages/f.jpg").mkdir()
    found = health()
    assert {f.kind: f.names for f in found.findings if f.severity == "error"} == {
        "missing": ("a", "f"),
        "empty": ("b",),
        "truncated": (one(found, "truncated").names[0],),
        "unreadable": ("d (no format that Pillow knows)",),
        "too_large": (one(found, "too_large").names[0],),
    }
    assert one(found, "truncated").names[0].startswith("c (image file is truncated")
    assert one(found, "too_large").names[0].startswith("e (Image size (400000000 pixels) exceeds limit")
    assert "listed images without a file: 2\n    a, f\n    -> put the files there" in health_text(found)


def test_listing_problems_come_first(health: Callable[..., Health], root: Path) -> None:
    write_list(root, "val", ["f", "g", "g"])
    put(root, "a.jpg", b"")
    first, second, *_ = health().findings
    assert (first.kind, second.kind) == ("listing", "empty")
    assert "1 image(s) named more than once: g" in first.text
    shutil.rmtree(root)
    found = health()
    assert kinds(found) == {"listing"}
    assert health_text(found).endswith("\n\n1 error, 0 warnings, 0 notes")


def test_masks_that_are_refused_are_one_finding_a_kind(health: Callable[..., Health], root: Path) -> None:
    for image_id in ("a", "b", "c"):
        (root / f"SegmentationClass/{image_id}.png").unlink()
    write_mask(root, "d", (DOG,), (50, 60))
    write_mask(root, "e", (DOG,), (40, 41))
    found = health()
    first, second = [finding for finding in found.findings if finding.kind == "labels"]
    assert (first.names, second.names) == (("a", "b", "c"), ("d", "e"))
    assert first.text == (
        "masks or annotations that are refused: 3, the first is a.png: no such mask; scores are taken on this image"
    )
    assert "2, the first is d.png: 60x50 pixels, but its image has 96x72" in second.text
    assert one(found, "unknown").names == ("a", "b", "c")


def test_masks_without_a_class_that_is_labeled(health: Callable[..., Health], root: Path) -> None:
    csv = {"data.labels": "csv", "data.labels_file": "labels.csv"}
    names = {i: ";".join(CLASSES[n - 1] for n in labels) for i, labels in (TRAIN | VAL).items()}
    (root / "labels.csv").write_text("image,labels\n" + "\n".join(f"{i},{text}" for i, text in names.items()))
    assert kinds(health(**csv)) == BASE
    for image_id in ("b", "d", "f"):
        write_mask(root, image_id, (VOID,))
    assert one(health(**csv), "undrawn").text == (
        "no mask has a pixel of dog, which 3 scored image(s) are labeled with; objects must have the values 1, 2, ... "
        "of their classes, and 255 is void"
    )
    assert "undrawn" not in kinds(health(**csv, limit=2)), "a few images may lack it"


def test_labels_against_masks(health: Callable[..., Health], root: Path) -> None:
    csv = {"data.labels": "csv", "data.labels_file": "labels.csv"}
    shown = TRAIN | VAL
    rows = [f"{i},{';'.join(CLASSES[n - 1] for n in labels)}" for i, labels in shown.items()]
    (root / "labels.csv").write_text("\n".join(["image,labels", *rows]))
    write_mask(root, "c", (CAT,))
    write_mask(root, "g", (PERSON, DOG))
    found = health(**csv)
    assert kinds(found) == BASE | {"not_drawn", "not_labeled"}
    assert (one(found, "not_drawn").severity, one(found, "not_drawn").names) == ("warning", ("c (person)",))
    assert one(found, "not_labeled").names == ("g (dog)",)
    assert found.scored == ((3, 3, 3), (3, 4, 3), (4, 3, 3))
    assert "  person                       4                 3             3" in health_text(found)
    exchanged = {CAT: DOG, DOG: PERSON, PERSON: CAT}
    for image_id, labels in shown.items():
        write_mask(root, image_id, [exchanged[label] for label in labels])
    found = health(**csv)
    wrong = one(found, "wrong_order")
    assert kinds(found) == BASE | {"wrong_order"} and wrong.severity == "error"
    assert wrong.names[0] == "cat: 3 images, 1 with cat in the mask, 3 with dog"
    assert wrong.cure.startswith("put data.mask_classes in the order aeroplane, ")
    assert "wrong_order" not in kinds(health(**csv, limit=3)), "a few images may tell nothing"


def test_images_of_a_folder_without_a_mask(health: Callable[..., Health], root: Path) -> None:
    csv = {"data.source": "folder", "data.images": "JPEGImages", "data.labels": "csv", "data.labels_file": "labels.csv"}
    rows = [f"{i},{';'.join(CLASSES[n - 1] for n in labels)}" for i, labels in (TRAIN | VAL).items()]
    (root / "labels.csv").write_text("\n".join(["image,labels", *rows]))
    masks = {"data.masks": "SegmentationClass", "data.mask_classes": list(CLASSES)}
    (root / "SegmentationClass/b.png").unlink()
    (root / "SegmentationClass/c.png").unlink()
    assert set(one(health(**csv, **masks), "unscored").names) == {"b", "c"}
    assert "unscored" not in kinds(health(**csv, **{"data.masks": None}))


def test_annotations_that_are_refused(health: Callable[..., Health], root: Path) -> None:
    for image_id in (*TRAIN, *VAL):
        (root / f"Annotations/{image_id}.xml").write_text(
            "<annotation><object><name>zebra</name></object></annotation>" if image_id == "b" else "<annotation/>"
        )
    assert one(health(**{"data.labels": "xml"}), "labels").text == (
        "masks or annotations that are refused: 1, the first is b.xml: object 'zebra' is not among VOC's classes; "
        "rename or remove it, or set data.source: folder, which takes classes of your own"
    )


def test_files_of_kinds_that_are_not_read(health: Callable[..., Health], root: Path) -> None:
    put(root, "a.jpg", b"<html></html>")
    put(root, "b.jpg", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 1\n")
    put(root, "c.jpg", b"<HTML><body>busy</body></HTML>")
    page, pointer = [finding for finding in health().findings if finding.kind == "not_read"]
    assert (page.severity, page.names, pointer.names) == ("error", ("a", "c"), ("b",))
    assert page.text == "image files that are not read (a web page instead of the file): 2"
    assert pointer.cure == "fetch the file itself: git lfs pull"


def test_pictures_that_are_passed_over(health: Callable[..., Health], root: Path) -> None:
    (root / "JPEGImages/IMG_1.cr2").write_bytes(b"raw")
    (root / "JPEGImages/notes.txt").write_text("text")
    found = health()
    assert one(found, "other_files").names == ("notes.txt",)
    assert (one(found, "passed_over").severity, one(found, "passed_over").names) == ("warning", ("IMG_1.cr2",))
    assert one(found, "passed_over").text == "files not used (raw files of a camera): 1"


# Form of the images


def test_turned_images(health: Callable[..., Health], root: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = SIDEWAYS
    put(root, "a.jpg", photo(50), exif=exif)  # its mask still lies as the file is stored
    put(root, "b.jpg", photo(51).transpose(Image.Transpose.ROTATE_90), exif=exif)
    exif[0x0112] = UPSIDE
    put(root, "e.jpg", photo(52), exif=exif)
    (root / "SegmentationClass/e.png").unlink()
    csv = root / "labels.csv"
    names = {i: ";".join(CLASSES[n - 1] for n in labels) for i, labels in (TRAIN | VAL).items()}
    csv.write_text("image,labels\n" + "\n".join(f"{i},{text}" for i, text in names.items()) + "\nlost,cat\n")
    write_list(root, "scored", ["a", "b"])
    found = health(**{"data.labels": "csv", "data.labels_file": "labels.csv", "data.score_list": "scored"})
    assert one(found, "turned_with_mask").names == ("a", "b")
    assert one(found, "turned").names == ("e",)
    assert one(found, "labels").names == ("a",)
    assert one(found, "labels").cure.startswith("EXIF turns 1 of the images")
    assert found.long == (96, 96, 96)
    assert one(found, "unlisted_rows").names == ("lost",)


def _png(width: int, height: int, depth: int, color: int, pixels: bytes) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def test_traits(tmp_path: Path) -> None:
    plain = photo(0)
    clear = plain.convert("RGBA")
    clear.putpixel((3, 3), (1, 2, 3, 254))
    deep = _png(70, 70, 16, 2, b"".join(b"\0" + bytes(range(210)) * 2 for _ in range(70)))
    cases: dict[str, tuple[bytes | Image.Image, dict[str, Any], set[str]]] = {
        "plain.jpg": (plain, {}, set()),
        "opaque.png": (plain.convert("RGBA"), {}, set()),
        "clear.png": (clear, {}, {"transparent"}),
        "index.png": (plain.quantize(16), {"transparency": 0}, {"palette", "transparent"}),
        "gray.jpg": (plain.convert("L"), {}, {"gray"}),
        "cmyk.jpg": (plain.convert("CMYK"), {}, {"cmyk"}),
        "gray16.png": (Image.fromarray(np.full((70, 70), 4000, np.uint16)), {}, {"clipped"}),
        "rgb16.png": (deep, {}, {"deep"}),
        "two.png": (plain, {"save_all": True, "append_images": [photo(1)]}, {"animated"}),
        "pair.jpg": (plain, {"format": "MPO", "save_all": True, "append_images": [photo(1)]}, set()),
        "webp.jpg": (plain, {"format": "WEBP", "lossless": True}, {"ending"}),
        "srgb.jpg": (plain, {"icc_profile": b"... sRGB IEC61966-2.1 ..."}, set()),
        "srgb4.jpg": (plain, {"icc_profile": b"\0s\0R\0G\0B\0 \0v\0004"}, set()),
        "adobe.jpg": (plain, {"icc_profile": b"... Adobe RGB (1998) ..."}, {"profile"}),
    }
    for name, (picture, options, traits) in cases.items():
        path = tmp_path / name
        path.write_bytes(picture) if isinstance(picture, bytes) else picture.save(path, **options)
        facts = read_facts(path)
        assert (facts.trouble, facts.traits) == (None, frozenset(traits)), name
        if "clipped" in traits:
            with pytest.raises(
                UserError, match="gray16.png: gray values above 255 would all be read as white; save it"
            ):
                read_image(path)
        else:
            assert facts.size == read_image(path).shape[1::-1]


def test_traits_have_a_text(health: Callable[..., Health], root: Path) -> None:
    put(root, "a.jpg", photo(0).convert("CMYK"))
    put(root, "b.png", Image.fromarray(np.full((72, 96), 300, np.uint16)))
    found = health()
    assert kinds(found) - BASE == {"cmyk", "clipped"}
    assert (one(found, "cmyk").severity, one(found, "clipped").severity) == ("warning", "error")


def test_shapes(health: Callable[..., Health], root: Path) -> None:
    for image_id, size in {"a": (63, 70), "b": (321, 80), "c": (64, 256)}.items():
        put(root, f"{image_id}.jpg", photo(60, *size))
        write_mask(root, image_id, (CAT,), size[::-1])
    with Image.new("1", (8000, 5001)) as huge:
        put(root, "d.png", huge)
    found = health()
    assert one(found, "tiny").names == ("a (63x70)",)
    assert one(found, "thin").names == ("b (321x80)",)
    assert one(found, "huge").names == ("d (8000x5001)",)
    assert (found.short, found.long) == ((63, 72, 5001), (70, 96, 8000))


# Copies


def test_copies_and_leaks(health: Callable[..., Health], root: Path) -> None:
    images = root / "JPEGImages"
    shutil.copy(images / "a.jpg", images / "f.jpg")  # a training image in val, with other labels
    shutil.copy(images / "b.jpg", images / "d.jpg")
    photo(2, 48, 36).resize((96, 72)).save(images / "g.jpg", quality=40)  # c, smaller and compressed
    photo(4).point(lambda value: value // 2 + 40).save(images / "none.jpg")  # e, darker
    found = health()
    assert found.findings[0].kind == "same_file_in_train_and_val"
    assert one(found, "same_file_in_train_and_val").names == ("f = a",)
    assert one(found, "alike_in_train_and_val").names == ("g = c",)
    assert one(found, "same_file").names == ("d = b",)
    assert one(found, "alike").names == ("none = e",)
    assert one(found, "same_file_other_labels").names == ("d = b", "f = a")


def test_flat_images_are_not_alike(health: Callable[..., Health], root: Path) -> None:
    for image_id, gray in (("a", 20), ("b", 200)):
        put(root, f"{image_id}.png", Image.new("RGB", (96, 72), (gray,) * 3))
    assert kinds(health()) == BASE


def test_hash_against_loops() -> None:
    image = photo(3, 72, 72)
    gray = np.asarray(image.convert("L"), float)
    right = below = ""
    for row, column in np.ndindex(8, 8):
        cells = [gray[9 * row : 9 * row + 9, 8 * c : 8 * c + 8].mean().round() for c in (column, column + 1)]
        right += str(int(cells[1] > cells[0]))
        cells = [gray[8 * r : 8 * r + 8, 9 * column : 9 * column + 9].mean().round() for r in (row, row + 1)]
        below += str(int(cells[1] > cells[0]))
    assert perceptual_hash(image) == (int(right, 2), int(below, 2))


@pytest.mark.parametrize("block", [1, 700, 10**6])
def test_earlier_alike_against_a_loop(block: int) -> None:
    rng = np.random.default_rng(0)
    looks = rng.integers(0, 2**64, (150, 2), dtype=np.uint64)
    for b, a, bits in ((20, 3, ALIKE), (21, 5, ALIKE + 1), (90, 20, 4), (149, 148, 0)):
        looks[b] = looks[a]
        for bit in range(bits):
            looks[b, bit % 2] ^= np.uint64(1 << (7 * bit % 64))
    values = [(int(right) << 64) | int(below) for right, below in looks]
    expected = [
        next((a for a in range(b) if (values[a] ^ values[b]).bit_count() <= ALIKE), -1) for b in range(len(values))
    ]
    assert earlier_alike(looks, block).tolist() == expected
    assert [expected[n] for n in (20, 21, 149)] == [3, -1, 148]
    assert earlier_alike(np.zeros((0, 2), np.uint64)).tolist() == []


# Classes


def test_classes_without_images(health: Callable[..., Health], root: Path) -> None:
    write_mask(root, "f", (DOG,))
    found = health(**{"data.classes": ["cat", "sheep", "dog", "person"]})
    assert one(found, "absent").names == ("sheep",)
    assert one(found, "absent_in_val").names == ("cat",)
    assert found.together[1] == (0, 0, 0, 0)
    assert "   2 dog " in health_text(found), "the table of pairs leaves out what has no image"


@pytest.fixture
def labeled(configured: Callable[..., Config]) -> Callable[..., Health]:
    """`labeled({"cat dog": 3})`: the report of a data set with so many training images of these labels, and no file."""

    def run(counts: dict[str, int], **changes: Any) -> Health:
        names = sorted({name for text in counts for name in text.split()})
        labels = [frozenset(text.split()) for text, count in counts.items() for _ in range(count)]
        items = [
            ListedImage(f"{n:04d}", "train", False, Path(f"none/{n}.jpg"), None, seen) for n, seen in enumerate(labels)
        ]
        listing = Listing(Path("none"), tuple(items), tuple(names), (), {"train": "t", "score": "t", "val": "v"}, ())
        seen = [CheckedImage(item, ImageFacts(size=(96, 96)), item.names, ()) for item in items]
        return examine(listing, seen, configured(**changes))

    return run


def test_rare_classes(labeled: Callable[..., Health]) -> None:
    sizes = {"cpal.num_prototypes": 50, "cpal.topk": 20, "cpal.bank_length": 100}
    found = labeled({"few": 9, "some": 30, "enough": 50}, **sizes)
    assert one(found, "rare").names == ("few (9)",)
    assert one(labeled({"enought": 3, "enough": 50, "cup": 50}), "rare").names == ("enought (3), did you mean enough?",)
    assert one(labeled({"cwo": 1, "cow": 50, "sheep": 50}), "rare").names == ("cwo (1), did you mean cow?",)
    scarce = one(found, "scarce")
    assert scarce.names == ("some (30)",)
    assert scarce.text == "classes with fewer training images than context prototypes (cpal.num_prototypes: 50): 1"
    assert scarce.severity == "warning"
    assert "add images" in scarce.cure
    assert "uneven" not in kinds(found)
    assert one(labeled({"few": 9, "many": 91}), "uneven").text == (
        "the most frequent class has 91 training images, the rarest 9"
    )


def test_classes_that_are_always_together(labeled: Callable[..., Health]) -> None:
    found = labeled({"cup saucer": 20, "fork knife": 15, "knife": 15, "bowl": 20})
    assert one(found, "inseparable").names == ("cup and saucer (20)",)
    assert one(found, "never_without").names == ("fork (15) without knife",)
    assert one(found, "never_alone").names == ("cup", "fork", "saucer")


def test_no_image_to_validate_on(labeled: Callable[..., Health], health: Callable[..., Health]) -> None:
    assert one(labeled({"cup": 20, "plate": 20}), "no_val").severity == "warning"
    assert "no_val" not in kinds(health())


def test_class_in_every_image(labeled: Callable[..., Health]) -> None:
    assert one(labeled({"cup": 20, "cup plate": 20}), "always").names == ("cup",)
    assert "always" not in kinds(labeled({"cup": 20, "plate": 20}))


def test_many_classes(labeled: Callable[..., Health]) -> None:
    names = [f"class{n:02d}" for n in range(30)]
    counts = {f"{a} {b}": n + 1 for n, (a, b) in enumerate(itertools.combinations(names[:8], 2))}
    found = labeled(counts | dict.fromkeys(names, 10))
    page = health_text(found)
    assert "Training images that show both classes (20 of 28 pairs)\n      28  class06, class07\n" in page
    assert max(map(len, page.splitlines())) <= 100
    together = np.array(found.together)
    assert (together == together.T).all() and together[6, 7] == 28


def test_wide_tables_come_in_blocks(labeled: Callable[..., Health]) -> None:
    names = [f"c{n:02d}" for n in range(25)]
    page = health_text(labeled({f"{a} {b}": 101 for a, b in zip(names, names[1:], strict=False)}))
    assert max(map(len, page.splitlines())) <= 100
    assert page.count("  25 c24 ") == 2


# What lies beside, and settings


def test_left_over_files(health: Callable[..., Health], root: Path) -> None:
    for name in ("z.jpg", "Holiday.JPG", "notes.txt", ".hidden", "bad\x1b[31m\udcff.jpg"):
        (root / "JPEGImages" / name).touch()
    found = health()
    assert one(found, "unlisted").names == ("Holiday.JPG", r"bad\x1b[31m\udcff.jpg", "z.jpg")
    assert one(found, "other_files").names == ("notes.txt",)
    assert health_text(found).encode() and json.dumps(asdict(found)).encode()
    assert {"unlisted", "other_files", "absent", "rare"} & kinds(health(limit=2)) == set()


@pytest.fixture
def folder_health(configured: Callable[..., Config], root: Path) -> Callable[..., Health]:
    """`folder_health(["a,cat,train"])`: the report of the same images as a folder with these rows."""

    def run(rows: Sequence[str] = (), **changes: Any) -> Health:
        (root / "labels.csv").write_text("\n".join(["image,labels,split", *rows]))
        values = {
            "source": "folder",
            "images": "JPEGImages",
            "labels": "csv",
            "labels_file": "labels.csv",
            "masks": None,
        }
        config = configured(**{f"data.{key}": value for key, value in (values | {"classes": None} | changes).items()})
        listing = list_images(config.data, seed=0)
        return examine(listing, look_at_all(listing, workers=1), config)

    return run


def test_the_table_of_labels_is_no_left_over(folder_health: Callable[..., Health], root: Path) -> None:
    for name in ("labels.csv", "notes.txt"):
        (root / "JPEGImages" / name).write_text("image,labels\na,cat\nb,dog\nf,cat")
    found = folder_health(labels_file="JPEGImages/labels.csv")
    assert one(found, "other_files").names == ("notes.txt",)


def test_rows_of_another_split(folder_health: Callable[..., Health]) -> None:
    rows = ["a,cat,train", "b,dog,train", "f,cat;dog,val", "c,cat,Train", "d,dog,", "lost,dog,test"]
    found = one(folder_health(rows), "other_split")
    assert found.text == "rows of labels.csv whose split is neither train nor val: 2"
    assert found.names == ("d (empty)", "lost (test)")
    assert not {"other_split", "unlisted_rows"} & kinds(folder_health(rows[:3]))


def test_rows_with_accents_in_another_form(folder_health: Callable[..., Health], root: Path) -> None:
    composed, decomposed = (normalize(form, "café") for form in ("NFC", "NFD"))
    photo(80).save(root / f"JPEGImages/{decomposed}.jpg")
    assert "unlisted_rows" not in kinds(folder_health([f"{composed},cat,train", "a,cat,val"]))


def test_names_that_are_left_out_or_alike(folder_health: Callable[..., Health], root: Path) -> None:
    found = folder_health(["a,cat;Cat;cow,train", "b,dog,train", "f,cat;dog;cow,val"], classes=["cat", "dog"])
    assert one(found, "left_out").names == ("Cat (1)", "cow (2)")
    assert one(found, "same_name").names == ("Cat = cat",)
    found = folder_health(["a,cat;Cat,train", "b,dog,train", "f,cat;dog,val"])
    assert one(found, "same_name").names == ("Cat = cat",)
    assert not {"left_out", "list_names"} & kinds(found)


def test_class_folders_named_as_lists(folder_health: Callable[..., Health], root: Path) -> None:
    for number, folder in enumerate(("Train", "val", "cat")):
        (root / "mine" / folder).mkdir(parents=True)
        photo(70 + number).save(root / f"mine/{folder}/a.jpg")
    found = folder_health(images="mine", labels="folders", labels_file=None)
    assert one(found, "list_names").names == ("Train", "val")


def test_settings_far_off(labeled: Callable[..., Health]) -> None:
    def kinds_of(**changes: Any) -> set[str]:
        return kinds(labeled({"cup": 12, "plate": 12}, **changes)) - BASE - {"no_val"}

    assert kinds_of() == set()
    assert kinds_of(**{"hosts.irn.resize_long": [193, 400]}) == {"resize_long"}  # more than twice 96
    assert kinds_of(**{"hosts.irn.resize_long": [16, 23], "hosts.irn.crop_size": 16}) == {"resize_long"}
    assert kinds_of(**{"hosts.irn.crop_size": 64}) == {"crop_size"}  # resize_long ends at 48
    assert kinds_of(host="clip_es") == set(), "nothing is cropped"
    assert kinds_of(**{"crf.bilateral_sxy": 50.0}) == {"bilateral_sxy"}


def test_a_short_training(labeled: Callable[..., Health]) -> None:
    """26 training images in batches of 8 make three steps an epoch; training needs 100."""

    def trained(**changes: Any) -> Health:
        return labeled({"cup": 12, "plate": 14}, **{"hosts.irn.batch_size": 8} | changes)

    assert "short" not in kinds(trained(**{"hosts.irn.epochs": 34}))
    short = one(trained(**{"hosts.irn.epochs": 33}), "short")
    assert short.text == "26 images and hosts.irn.epochs 33 make 99 optimizer steps"
    assert short.cure.endswith("set hosts.irn.epochs to 34, which makes at least 100")
    assert [one(trained(**{"hosts.irn.epochs": n}), "short").severity for n in (9, 10)] == ["warning", "note"]
    own = {"hosts.mctformer.batch_size": 8, "hosts.mctformer.epochs": 34, "host": "mctformer"}
    assert "short" not in kinds(trained(**{"hosts.irn.epochs": 33} | own))
    short = one(trained(**own | {"hosts.mctformer.epochs": 33}), "short")
    assert short.cure.endswith("set hosts.mctformer.epochs to 34, which makes at least 100")


def test_a_short_training_of_the_segmentation_model(labeled: Callable[..., Health]) -> None:
    def trained(iterations: int) -> Health:
        keys = {"iterations": iterations, "batch_size": 4, "checkpoint_interval": 3}
        return labeled({"cup": 12, "plate": 14}, **{f"segmentation.{key}": value for key, value in keys.items()})

    assert "short_segmentation" not in kinds(trained(39)), "26 images, 156 crops: each six times"
    short = one(trained(36), "short_segmentation")
    assert short.text == "26 images and segmentation.iterations 36: the training shows each image 5.5 times"
    assert short.cure.endswith("set segmentation.iterations to 66"), "65 make 260 crops; a multiple of 3"


def test_a_short_first_round_is_told_beside_its_host(labeled: Callable[..., Health]) -> None:
    sizes = {"hosts.irn.batch_size": 8, "hosts.irn.epochs": 33, "hosts.amn.batch_size": 8, "hosts.amn.epochs": 34}
    found = one(labeled({"cup": 12, "plate": 14}, **sizes, host="amn"), "short")
    assert found.text == "26 images and hosts.irn.epochs 33 make 99 optimizer steps"


def test_a_host_that_is_not_trained_is_never_short(labeled: Callable[..., Health]) -> None:
    assert "short" not in kinds(labeled({"cup": 12, "plate": 14}, **{"hosts.irn.epochs": 1, "host": "clip_es"}))


def test_settings_far_off_are_those_of_the_host(labeled: Callable[..., Health]) -> None:
    found = one(
        labeled({"cup": 12, "plate": 12}, **{"host": "amn", "hosts.amn.resize_long": [193, 400]}), "resize_long"
    )
    assert found.cure.startswith("hosts.amn.resize_long makes that 193 to 400")


# Damaged files


def mutated(content: bytes, rng: random.Random) -> bytes:
    data = bytearray(content)
    for _ in range(rng.choice((1, 2, 4, 16))):
        place = rng.randrange(len(data)) if rng.random() < 0.5 else rng.randrange(min(len(data), 100))
        what = rng.random()
        if what < 0.6:
            data[place] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
        elif what < 0.75:
            del data[place : place + rng.randrange(1, 30)]
        elif what < 0.9:
            data[place:place] = rng.randbytes(rng.randrange(1, 20))
        else:
            del data[rng.randrange(len(data)) :]
        if not data:
            break
    return bytes(data)


def test_mutated_files(health: Callable[..., Health], root: Path) -> None:
    """Of 400 damaged images and 58 damaged masks nothing raises; what the import refuses is told, and nothing else."""
    rng, exif = random.Random(0), Image.Exif()
    exif[0x0112] = SIDEWAYS
    originals = []
    saved: list[dict[str, Any]] = [{}, {"exif": exif}, {"progressive": True, "icc_profile": b"x" * 99}]
    for number, options in enumerate(saved):
        originals.append(put(root, f"j{number}.jpg", photo(number, 40, 30), **options).read_bytes())
        originals.append(put(root, f"p{number}.png", photo(number, 40, 30), **options).read_bytes())
    mask = (root / "SegmentationClass/a.png").read_bytes()
    ids = [f"x{number:03d}" for number in range(400)]
    for number, image_id in enumerate(ids):
        put(root, f"{image_id}.{'png' if number % 2 else 'jpg'}", mutated(originals[number % 6], rng))
        damaged = mutated(mask, rng) if number % 7 == 0 else mask
        (root / f"SegmentationClass/{image_id}.png").write_bytes(damaged)
    write_list(root, "train", ids)
    found = health()
    refused = {f"x{n:03d}" for n, image_id in enumerate(ids) if not readable(root, image_id)}
    told = {
        name.split()[0]
        for f in found.findings
        if f.kind in ("empty", "truncated", "unreadable", "too_large")
        for name in f.names
    }
    assert told == refused
    assert 50 < len(refused) < 390, "some can be read, some cannot"
    assert health_text(found).isascii()


def readable(root: Path, image_id: str) -> bool:
    (path,) = (root / "JPEGImages").glob(f"{image_id}.*")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, of damage that it can live with
            read_image(path)
    except UserError as error:
        assert str(error).startswith(f"{path}: unreadable image (")
        return False
    return True
