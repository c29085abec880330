"""Writes the locks beside it: exact versions with hashes, for Python 3.11 to 3.14 on Linux, macOS and Windows.

Run by `make lock`, with uv and packaging installed. A version that a lock has stays as long as pyproject.toml allows
it; `make lock UPGRADE=1` takes the newest, `make lock UPGRADE=torch` the newest of one package.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from packaging.markers import Marker
from packaging.tags import compatible_tags, cpython_tags, mac_platforms
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

HERE = Path(__file__).parent
PYPROJECT = HERE.parent.parent / "pyproject.toml"
# The locks in the order of their installation, and what belongs to each; the last one takes the rest.
LOCKS = {
    "build": r"cython|packaging|setuptools|wheel",  # what packages without a wheel are built with
    "torch": r"torch|torchvision|triton|cuda-.*|nvidia-(?!ml-py).*",  # torch as PyPI has it, with its CUDA libraries
    "packages": r".*",
}
# Packages that no other asks for. Cython 3.1 is the first that compiles pydensecrf2 for Python 3.13.
WANTED = ["cython>=3.1", "setuptools>=77", "wheel", "opencv-python-headless"]
# mmcv and mmseg ask for opencv-python, which needs X and GL libraries; the headless build has the same module.
OVERRIDES = ["opencv-python ; sys_platform == 'never'"]
MANYLINUX = [*(f"manylinux_2_{minor}" for minor in range(36, 4, -1)), "manylinux2014", "manylinux2010", "manylinux1"]
SYSTEMS = {
    "Linux x86_64": ("linux", "x86_64", [f"{name}_x86_64" for name in MANYLINUX]),
    "Linux aarch64": ("linux", "aarch64", [f"{name}_aarch64" for name in MANYLINUX]),
    "Darwin arm64": ("darwin", "arm64", list(mac_platforms((15, 0), "arm64"))),
}
PYTHON = (3, 13)  # sizes differ by a few MB between Pythons


def resolve() -> str:
    """uv's lock of everything, one entry a package: name==version ; marker, hashes, who asks for it."""
    upgrade = os.environ.get("UPGRADE", "")
    with tempfile.TemporaryDirectory() as folder:
        wanted, overrides, lock = (Path(folder, name) for name in ("wanted.in", "overrides.txt", "lock.txt"))
        wanted.write_text("\n".join(WANTED))
        overrides.write_text("\n".join(OVERRIDES))
        lock.write_text("".join(path.read_text() for path in map(path_of, LOCKS) if path.exists()))
        command = [sys.executable, "-m", "uv", "pip", "compile", PYPROJECT, wanted, "--extra", "dev", "--universal"]
        command += ["--python-version", "3.11", "--generate-hashes", "--no-header", "--no-annotate", "--quiet"]
        command += ["--override", overrides, "--output-file", lock]
        command += ["--upgrade"] if upgrade == "1" else ["--upgrade-package", upgrade] if upgrade else []
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return lock.read_text()


def path_of(lock: str) -> Path:
    return HERE / f"{lock}.txt"


@cache
def files_on_pypi(name: str) -> list[dict[str, object]]:
    request = urllib.request.Request(
        f"https://pypi.org/simple/{name}/", headers={"Accept": "application/vnd.pypi.simple.v1+json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)["files"]


def megabytes(entries: list[str], system: str) -> int:
    """What pip downloads for these entries on a system, by the files' sizes on PyPI."""
    platform, machine, platforms = SYSTEMS[system]
    version = ".".join(map(str, PYTHON))
    environment = {"python_version": version, "python_full_version": f"{version}.0", "sys_platform": platform}
    environment |= {"platform_machine": machine, "implementation_name": "cpython"}
    interpreter = "cp" + version.replace(".", "")
    tags = [*cpython_tags(PYTHON, platforms=platforms), *compatible_tags(PYTHON, interpreter, platforms)]
    rank = {tag: index for index, tag in enumerate(tags)}

    def size(entry: str) -> int:
        name, found, marker = re.match(r"(\S+)==(\S+)(?: ; (.*?))? \\", entry).groups()
        if marker and not Marker(marker).evaluate(environment):
            return 0
        hashes = set(re.findall(r"sha256:(\w+)", entry))
        wheels, source = [], 0
        for file in files_on_pypi(name):
            if file["hashes"]["sha256"] not in hashes:
                continue
            try:
                fits = [rank[tag] for tag in parse_wheel_filename(file["filename"])[3] if tag in rank]
                wheels += [(min(fits), file["size"])] if fits else []
            except InvalidWheelFilename:
                source = file["size"]
        if not wheels and not source:
            raise SystemExit(f"{name} {found} has no file for Python {version} on {system}")
        return min(wheels)[1] if wheels else source

    with ThreadPoolExecutor(8) as pool:
        return round(sum(pool.map(size, entries)) / 1e6)


def main() -> None:
    waiting = [entry for entry in re.split(r"\n(?=\S)", resolve().strip()) if "'never'" not in entry]
    for lock, pattern in LOCKS.items():
        entries = [entry for entry in waiting if re.fullmatch(pattern, entry.split("==")[0])]
        waiting = [entry for entry in waiting if entry not in entries]
        sizes = "".join(f"# download on {system}: {megabytes(entries, system)} MB\n" for system in SYSTEMS)
        path_of(lock).write_text(f"# Written by `make lock`.\n{sizes}" + "\n".join(entries) + "\n")
        print(f"{path_of(lock).name}: {len(entries)} packages")


main()
