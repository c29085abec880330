"""Reading pictures of every format, and naming those that are not read."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from cpal.data.dataset import Record
from cpal.data.images import (
    ENDINGS,
    PICTURES,
    UNREAD_ENDINGS,
    files_passed_over,
    heif_is_installed,
    passed_over,
    passed_over_lines,
    read_image,
    read_record_image,
)
from cpal.errors import UserError

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200)  # as an iPhone's file begins
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"  # git-lfs's specification
EXACT = {".png", ".bmp", ".tif", ".tiff", ".apng", ".dib", ".ppm", ".pnm", ".qoi", ".tga", ".pcx"}


def photo() -> Image.Image:
    patches = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(patches).resize((48, 40), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("ending", [ending for ending, names in PICTURES.items() if names != ("HEIF",)])
def test_every_ending_is_read(tmp_path: Path, ending: str) -> None:
    if ending == ".avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    path = tmp_path / f"a{ending}"
    picture = photo().convert("L") if ending in (".pgm", ".pbm") else photo()
    picture.save(path, format=PICTURES[ending][0])
    image = read_image(path)
    assert image.shape == (40, 48, 3) and image.dtype == np.uint8
    difference = np.abs(image.astype(int) - np.asarray(picture.convert("RGB"))).mean()
    assert difference <= (0 if ending in EXACT else 25 if ending == ".gif" else 8)


def test_a_picture_is_known_by_its_content(tmp_path: Path) -> None:
    photo().save(tmp_path / "a.png", format="JPEG")
    photo().save(tmp_path / "b.jpg_large", format="JPEG")  # as some sites name downloads
    for name in ("a.png", "b.jpg_large"):
        assert read_image(tmp_path / name).shape == (40, 48, 3)


def test_heic_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    heif_is_installed.cache_clear()
    for name in ("IMG_1.HEIC", "renamed.jpg"):
        (tmp_path / name).write_bytes(HEIC)
        with pytest.raises(UserError) as error:
            read_image(tmp_path / name)
        assert str(error.value) == (
            f"{tmp_path / name}: not read as a picture (HEIC pictures, which need pillow-heif); pip install "
            "pillow-heif, or save them as JPEG"
        )
    heif_is_installed.cache_clear()


def test_heic_with_its_package(tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    heif_is_installed.cache_clear()
    pillow_heif.from_pillow(photo()).save(tmp_path / "a.heic", quality=95)
    assert np.abs(read_image(tmp_path / "a.heic").astype(int) - np.asarray(photo())).mean() < 8
    (tmp_path / "b.heic").write_bytes(HEIC)
    with pytest.raises(UserError, match="b.heic: unreadable image"):
        read_image(tmp_path / "b.heic")


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("a.jpg", POINTER, "a Git LFS pointer instead of the file); fetch the file itself: git lfs pull"),
        ("a.png", "<!DOCTYPE html>\n<html><title>Sign in</title></html>", "a web page instead of the file); download"),
        ("a.jpg", "<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "a server's message instead of"),
        ("a.jpg", "%!PS-Adobe-3.0 EPSF-3.0\n", "vector drawings, which other programs draw); save them as PNG"),
        ("a.eps", "%!PS-Adobe-3.0 EPSF-3.0\n", "vector drawings"),
        ("a.NEF", "II*\0" + "\0" * 99, "raw files of a camera); develop them into JPEG or PNG"),
    ],
)
def test_what_is_not_read(tmp_path: Path, name: str, content: str, what: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError) as error:
        read_image(tmp_path / name)
    assert str(error.value).startswith(f"{tmp_path / name}: not read as a picture ({what}")


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_gray_values_of_more_than_a_byte_are_refused(tmp_path: Path, mode: str) -> None:
    """They would all be read as white."""
    values = np.full((4, 5), 3000, {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode])
    Image.fromarray(values).save(tmp_path / "a.tif")
    with pytest.raises(UserError, match="a.tif: gray values above 255 would all be read as white; save it with 8 bits"):
        read_image(tmp_path / "a.tif")


def test_a_camera_held_sideways(tmp_path: Path) -> None:
    """The picture is upright, and so is the size that the record must have."""
    exif = Image.Exif()
    exif[0x0112] = 6
    photo().save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.rot90(np.asarray(photo()), -1))
    upright, lying = (Record("a", "train", False, "a.png", *size, (), None, "") for size in ((40, 48), (48, 40)))
    assert read_record_image(tmp_path / "a.png", upright).shape == (48, 40, 3)
    with pytest.raises(UserError, match=r"is of \(48, 40\), but was of \(40, 48\) at prepare"):
        read_record_image(tmp_path / "a.png", lying)


def test_no_other_program_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subprocess.Popen", lambda *arguments, **named: pytest.fail("a program was started"))
    (tmp_path / "a.jpg").write_text("\n%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")  # past the signature
    with pytest.raises(UserError, match="unreadable image"):
        read_image(tmp_path / "a.jpg")


def test_pictures_that_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / ".cache").mkdir()
    photo().save(tmp_path / "a.jpg")
    photo().save(tmp_path / "deep/b.jpg_large", format="JPEG")
    photo().save(tmp_path / "deep/c", format="PNG")
    photo().save(tmp_path / ".cache/hidden", format="PNG")
    for name in ("IMG_1.CR2", "IMG_2.cr2", "logo.svg", "x.psd"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "phone").write_bytes(HEIC)
    (tmp_path / "BMW.txt").write_text("BM is how a bitmap starts, and this is none")
    (tmp_path / "labels.csv").write_text("image,labels")
    (tmp_path / "gone").symlink_to("nothing")
    assert list(passed_over_lines(files_passed_over(tmp_path))) == [
        "2 file(s) not used, raw files of a camera: IMG_1.CR2, IMG_2.cr2; develop them into JPEG or PNG",
        "1 file(s) not used, vector drawings, which other programs draw: logo.svg; save them as PNG",
        "1 file(s) not used, pictures whose names do not end as a picture's: phone; rename them to end in .heic",
        "1 file(s) not used, files of an image editor: x.psd; export them as PNG",
        "1 file(s) not used, pictures whose names do not end as a picture's: deep/b.jpg_large; rename them to end in "
        ".jpg",
        "1 file(s) not used, pictures whose names do not end as a picture's: deep/c; rename them to end in .png",
    ]


def test_endings_are_read_or_not() -> None:
    assert not set(ENDINGS) & set(UNREAD_ENDINGS)
    assert passed_over(Path("a.jpg")) is None
