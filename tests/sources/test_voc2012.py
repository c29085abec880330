"""VOC 2012 from a real server on this machine, and its lists; archives that are cut, wrong or hostile."""

import hashlib
import io
import os
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from PIL import Image

from cpal.data.dataset import read_dataset
from cpal.errors import UserError
from cpal.settings.data import DataConfig, Voc2012Config
from cpal.sources.download import ATTEMPTS, download, unpack
from cpal.sources.import_listing import import_listing
from cpal.sources.voc2012 import fetch_voc2012, list_voc2012

IDS = {"train": ["2007_1", "2007_2"], "val": ["2007_3"], "sbd": ["2008_4", "2008_5"]}
COUNTS = {"train": 2, "train_aug": 4, "val": 1, "test": 1}
Mode = Literal["w", "w:gz"]


class Server:
    """Serves bytes by path. `cuts`: bytes after which the next connections end; `answers`: statuses given first."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cuts: list[int] = []
        self.answers: list[int] = []
        self.ranges = True
        self.redirects: dict[str, str] = {}
        self.asked: list[str | None] = []
        self.sent = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        wanted = handler.headers.get("Range")
        self.asked.append(wanted)
        if handler.path in self.redirects:
            handler.send_response(302)
            handler.send_header("Location", self.redirects[handler.path])
            handler.end_headers()
            return
        status = self.answers.pop(0) if self.answers else 200 if handler.path in self.files else 404
        if status != 200:
            handler.send_error(status)
            return
        content = self.files[handler.path]
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.ranges else 0
        if start >= len(content):
            handler.send_error(416)
            return
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        handler.send_header("Content-Length", str(len(content) - start))
        handler.end_headers()
        part = content[start : start + self.cuts.pop(0)] if self.cuts else content[start:]
        self.sent += len(part)
        handler.wfile.write(part)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A folder to write to; nothing may appear beside it."""
    place = tmp_path / "here"
    place.mkdir()
    yield place
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def tar(members: dict[str, bytes | tarfile.TarInfo], mode: Mode = "w") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        for name, content in members.items():
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.name = name
            data = b"" if isinstance(content, tarfile.TarInfo) else content
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def png(value: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((12, 14), value, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def jpeg() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (14, 12)).save(stream, "JPEG")
    return stream.getvalue()


def voc_members() -> dict[str, bytes | tarfile.TarInfo]:
    base = "VOCdevkit/VOC2012"
    members: dict[str, bytes | tarfile.TarInfo] = {}
    for ids in IDS.values():
        for image_id in ids:
            members[f"{base}/JPEGImages/{image_id}.jpg"] = jpeg()
            text = b"<annotation><object><name>cat</name></object></annotation>"
            members[f"{base}/Annotations/{image_id}.xml"] = text
    for name in ("train", "val"):
        members[f"{base}/ImageSets/Segmentation/{name}.txt"] = "\n".join(IDS[name]).encode()
        for image_id in IDS[name]:
            members[f"{base}/SegmentationClass/{image_id}.png"] = png(8)
    return members


def sbd_members() -> dict[str, bytes | tarfile.TarInfo]:
    base = "benchmark_RELEASE/dataset"
    return {
        f"{base}/train.txt": b"2008_4\n2007_1\n",
        f"{base}/val.txt": b"2008_5\n2007_3\n",  # the last is in VOC's val
        f"{base}/cls/2008_4.mat": b"mat",
        "benchmark_RELEASE/README": b"hello",
    }


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def get(server: Server, place: Path, content: bytes, *, checksum: str | None = None) -> list[float]:
    waits: list[float] = []
    server.files["/a.tar"] = content
    download(f"{server.url}/a.tar", place / "a.tar", md5=checksum or md5(content), wait=waits.append)
    return waits


# The download


def test_whole_file(server: Server, place: Path) -> None:
    content = os.urandom(3_000_000)
    assert get(server, place, content) == []
    assert (place / "a.tar").read_bytes() == content
    get(server, place, content)
    assert server.asked == [None], "what is there is not fetched again"


def test_goes_on_where_the_connection_broke(server: Server, place: Path) -> None:
    content = os.urandom(5_000_000)
    server.cuts = [2_000_000, 1_500_000]
    assert len(get(server, place, content)) == 2
    assert (place / "a.tar").read_bytes() == content
    starts = [int(asked[6:-1]) for asked in server.asked[1:] if asked]
    assert len(starts) == 2 and 0 < starts[0] <= 2_000_000 and starts[0] < starts[1] <= 3_500_000
    assert server.sent <= len(content) + 2 * (1 << 20), "no more than a block is fetched twice"


def test_a_later_run_goes_on(server: Server, place: Path) -> None:
    content = os.urandom(100_000)
    (place / "a.tar.part").write_bytes(content[:60_000])
    get(server, place, content)
    assert server.asked == ["bytes=60000-"] and (place / "a.tar").read_bytes() == content


def test_a_part_that_is_whole(server: Server, place: Path) -> None:
    content = os.urandom(1000)
    (place / "a.tar.part").write_bytes(content)
    get(server, place, content)
    assert (place / "a.tar").read_bytes() == content and server.sent == 0


def test_server_without_ranges(server: Server, place: Path) -> None:
    content = os.urandom(100_000)
    server.ranges = False
    (place / "a.tar.part").write_bytes(b"x" * 60_000)
    get(server, place, content)
    assert (place / "a.tar").read_bytes() == content


def test_busy_server(server: Server, place: Path) -> None:
    server.answers = [500, 503, 429]
    waits = get(server, place, b"content")
    assert len(waits) == 3 and waits == sorted(waits)


def test_server_that_never_answers(server: Server, place: Path) -> None:
    server.answers = [500] * 50
    with pytest.raises(UserError, match=f"{ATTEMPTS} attempts without a byte"):
        get(server, place, b"content")
    assert len(server.asked) == ATTEMPTS


def test_wrong_content_is_removed(server: Server, place: Path) -> None:
    with pytest.raises(UserError, match=f"has MD5 {md5(b'content')}, but {md5(b'other')} is expected"):
        get(server, place, b"content", checksum=md5(b"other"))
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("address", ["/gone.tar", "/moved.tar"])
def test_no_such_file(server: Server, place: Path, address: str) -> None:
    server.redirects["/moved.tar"] = "/gone.tar"
    with pytest.raises(UserError, match="the server answers 404"):
        download(f"{server.url}{address}", place / "a.tar", md5="", wait=lambda _: None)


def test_other_schemes(server: Server, place: Path) -> None:
    (place / "secret").write_text("x")
    server.redirects["/a.tar"] = f"file://{place}/secret"
    for url in (f"file://{place}/secret", "ftp://127.0.0.1/a.tar", f"{server.url}/a.tar"):
        with pytest.raises(UserError, match="not an http or https address|attempts without a byte"):
            download(url, place / "a.tar", md5=md5(b"x"), wait=lambda _: None)
    assert [path.name for path in place.iterdir()] == ["secret"]


def test_full_disk_keeps_what_has_arrived(server: Server, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = os.urandom(3_000_000)
    opened = Path.open

    def full(self: Path, mode: str = "r", *rest: Any, **options: Any) -> Any:
        stream = opened(self, mode, *rest, **options)
        if mode in ("ab", "wb"):
            write = stream.write

            class Full:
                def __enter__(self) -> "Full":
                    return self

                def __exit__(self, *_: Any) -> None:
                    stream.close()

                def write(self, block: bytes) -> None:
                    write(block[:1000])
                    raise OSError(28, "No space left on device")

            return Full()
        return stream

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        with pytest.raises(OSError, match="No space left"):
            get(server, place, content)
    assert (place / "a.tar.part").stat().st_size == 1000
    get(server, place, content)
    assert server.asked == [None, "bytes=1000-"]


# Unpacking


def special(kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo()
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    ("name", "members"),
    [
        ("../x", {"../x": b"evil"}),
        ("a/../../x", {"a/../../x": b"evil"}),
        ("/tmp/cpal_evil", {"/tmp/cpal_evil": b"evil"}),
        ("link", {"link": special(tarfile.SYMTYPE, ".."), "link/x": b"evil"}),
        ("hard", {"hard": special(tarfile.LNKTYPE, "../../x")}),
        ("dev", {"dev": special(tarfile.CHRTYPE)}),
        ("pipe", {"pipe": special(tarfile.FIFOTYPE)}),
        ("a\\b", {"a\\b": b"evil"}),
    ],
)
def test_members_that_lead_out(place: Path, name: str, members: dict[str, Any]) -> None:
    archive = place / "a.tar"
    archive.write_bytes(tar({"fine": b"x"} | members))
    with pytest.raises(UserError, match="refused: fetch it from its authors$") as caught:
        unpack(archive, place / "out")
    assert repr(name) in str(caught.value)
    assert [path.name for path in place.iterdir()] == ["a.tar"] and not Path("/tmp/cpal_evil").exists()


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.7])
def test_cut_archives(place: Path, mode: Mode, share: float) -> None:
    content = tar({f"f{n}": os.urandom(4000) for n in range(10)}, mode)
    (place / "a.tar").write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match="damaged archive"):
        unpack(place / "a.tar", place / "out")
    assert [path.name for path in place.iterdir()] == ["a.tar"]


# The data set


@pytest.fixture
def data(data_settings: Callable[..., DataConfig], place: Path) -> Callable[..., DataConfig]:
    values = {"source": "voc2012", "labels": "xml", "train_list": "train_aug", "classes": ["cat"]}
    return lambda **changes: data_settings(**(values | {"root": str(place / "data")} | changes))


@pytest.fixture
def urls(server: Server) -> Voc2012Config:
    voc, sbd = tar(voc_members()), tar(sbd_members(), "w:gz")
    server.files |= {"/voc.tar": voc, "/benchmark.tgz": sbd}
    return Voc2012Config(
        download=True,
        trainval_url=f"{server.url}/voc.tar",
        trainval_md5=md5(voc),
        sbd_url=f"{server.url}/benchmark.tgz",
        sbd_md5=md5(sbd),
    )


def test_fetched_and_imported(
    server: Server, urls: Voc2012Config, data: Callable[..., DataConfig], place: Path
) -> None:
    root, told = place / "data", dict[str, int]()
    fetch_voc2012(root, urls, report=lambda what: lambda done, total: told.update({what: done}))
    assert told == {"voc.tar": len(server.files["/voc.tar"]), "benchmark.tgz": len(server.files["/benchmark.tgz"])}
    assert sorted(path.name for path in root.iterdir()) == ["VOCdevkit", "benchmark_RELEASE"]
    fetch_voc2012(root, urls)
    assert len(server.asked) == 2, "what is there is not fetched again"
    listing = list_voc2012(data(), counts=COUNTS)
    import_listing(place / "out", listing, other_classes="background", drop_unlabeled=False, complete=True, workers=1)
    dataset = read_dataset(place / "out")
    assert [(r.image_id, r.split, r.scored) for r in dataset.records] == [
        ("2007_1", "train", True),
        ("2007_2", "train", True),
        ("2008_4", "train", False),
        ("2008_5", "train", False),
        ("2007_3", "val", True),
    ]


def test_killed_while_unpacking(urls: Voc2012Config, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("shutil.copyfileobj", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            fetch_voc2012(place / "data", urls)
    assert not (place / "data/VOCdevkit").exists()
    fetch_voc2012(place / "data", urls)
    assert (place / "data/VOCdevkit/VOC2012/JPEGImages/2007_1.jpg").exists()


def test_an_archive_of_something_else(server: Server, urls: Voc2012Config, place: Path) -> None:
    server.files["/voc.tar"] = tar({"other/x": b""})
    other = urls.model_copy(update={"trainval_md5": md5(server.files["/voc.tar"])})
    with pytest.raises(UserError, match="holds no VOCdevkit/VOC2012; check its address"):
        fetch_voc2012(place / "data", other)


def write_tree(root: Path, members: dict[str, Any]) -> None:
    for name, content in members.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


@pytest.mark.parametrize("below", ["", "VOCdevkit/VOC2012"])
@pytest.mark.parametrize("kind", ["list", "masks", "sbd"])
def test_train_aug_from_what_is_there(place: Path, data: Callable[..., DataConfig], below: str, kind: str) -> None:
    root = place / "data"
    write_tree(root, voc_members())
    voc = root / "VOCdevkit/VOC2012"
    ids = [*IDS["train"], *IDS["sbd"]]
    if kind == "list":
        (voc / "ImageSets/Segmentation/trainaug.txt").write_text("\n".join(ids))
    elif kind == "masks":
        write_tree(voc, {f"SegmentationClassAug/{name}.png": png(8) for name in [*ids, "2007_3"]})
    else:
        write_tree(root, sbd_members())
    before = sorted(root.rglob("*"))
    listing = list_voc2012(data(root=str(root / below)), counts=COUNTS)
    assert listing.problems == ()
    assert [item.image_id for item in listing.images] == [*ids, "2007_3"]
    assert sorted(root.rglob("*")) == before, "nothing is written into data.root"


def test_counts_are_checked(place: Path, data: Callable[..., DataConfig]) -> None:
    write_tree(place / "data", voc_members())
    listing = list_voc2012(data(train_list="train"))
    voc = place / "data/VOCdevkit/VOC2012/ImageSets/Segmentation"
    assert [problem.partition(",")[0] for problem in listing.problems] == [
        f"list train: 2 images from {voc / 'train.txt'}",
        f"list val: 1 images from {voc / 'val.txt'}",
    ]
    listing = list_voc2012(data(), counts=COUNTS)
    assert listing.problems[0].startswith("list train_aug: 2 images from ")


def test_nothing_there(place: Path, data: Callable[..., DataConfig]) -> None:
    assert "voc2012.download: true" in list_voc2012(data()).problems[0]
    (place / "data").mkdir()
    assert "neither" in list_voc2012(data()).problems[0]
