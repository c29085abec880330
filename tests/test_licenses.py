"""docs/licenses.md names every locked package with the license that its own metadata name."""

import fnmatch
import importlib.util
import re
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/licenses.md").read_text(encoding="utf-8")
LOCKED = sorted(
    {
        line.partition("==")[0]
        for path in (ROOT / "installation/locks").glob("*.txt")
        for line in path.read_text(encoding="utf-8").splitlines()
        if "==" in line and not line.startswith((" ", "#"))
    }
)
# Terms that ask something of those who pass a program on, beside naming its authors.
DEMANDING = re.compile(
    r"GPL|General Public|MPL|Mozilla|EPL|Eclipse|CDDL|EUPL|CeCILL|SSPL|Proprietary|NVIDIA", re.IGNORECASE
)
FREE = re.compile(
    r"[^()]*\b(MIT|BSD|Apache)\S* OR [^()]*|[^()]* OR (MIT|BSD|Apache)\S*"
)  # a choice that asks for nothing


def rows(part: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in part.splitlines() if line[:1] == "|"][
        2:
    ]


ALL = {
    name: license_
    for license_, names in rows(PAGE.split("## All locked packages")[1].split("## ")[0])
    for name in names.split(", ")
}
MENTIONED = [
    name
    for row in rows(PAGE.split("do not have a permissive license:")[1].split("## ")[0])
    for name in re.findall(r"[\w*.-]+", row[0])
]


def test_every_locked_package_is_on_the_page() -> None:
    assert len(LOCKED) > 150
    assert sorted(ALL) == LOCKED, "run: .venv/bin/python installation/licenses.py"


@pytest.mark.parametrize("package", LOCKED)
def test_who_asks_for_more_is_named_apart(package: str) -> None:
    try:
        about = metadata.metadata(package)
    except metadata.PackageNotFoundError:
        pytest.skip("locked for another system")
    classifiers = [text for text in about.get_all("Classifier") or [] if text.startswith("License ::")]
    text = " / ".join([about["License-Expression"] or "", (about["License"] or "")[:200], *classifiers])
    # Its license field says Apache, its classifier what all of NVIDIA's have; its license file is Apache's.
    if package == "nvidia-nvtx":
        assert about["License"] == "Apache 2.0"
        return
    if DEMANDING.search(text) and not FREE.fullmatch(about["License-Expression"] or ""):
        named = any(fnmatch.fnmatch(package, pattern) for pattern in MENTIONED) or package == "tqdm"
        assert named, f"{package}: {text}: name it in docs/licenses.md, among what is not permissive"
        assert DEMANDING.search(ALL[package]), package
    for word in ("MIT", "Apache", "BSD", "MPL", "GPL"):  # the table says what the metadata say
        if word in (about["License-Expression"] or ""):
            assert word in ALL[package], package


def test_the_page_is_what_the_script_writes() -> None:
    spec = importlib.util.spec_from_file_location("licenses", ROOT / "installation/licenses.py")
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.table(PAGE) == PAGE, "run: .venv/bin/python installation/licenses.py"
    without = re.sub(r"^\| ZPL-2\.1 \| .*\n", "", PAGE, flags=re.MULTILINE)
    assert without != PAGE and script.table(without) == PAGE, "what is lost comes back"


def test_tqdm_is_named_where_packages_have_a_purpose() -> None:
    """It is part permissive, and so stands in the first table."""
    assert "| tqdm | MPL-2.0 and MIT |" in PAGE
