"""The tiny project of a session, and the table at its end."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.disk import unmount_all
from faults.project import Tiny, build, scratch
from faults.records import FOUND, ONLY, REPORT, alike_faults, table, write_report


@pytest.fixture(scope="session")
def tiny() -> Iterator[Tiny]:
    yield build("tiny")
    unmount_all()
    if not ONLY:
        shutil.rmtree(scratch(), ignore_errors=True)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not FOUND:
        return
    terminalreporter.section("faults")
    for line in table(FOUND):
        terminalreporter.write_line(line)
    bad = alike_faults(fault for fault in FOUND if fault.outcome not in ("same", "named"))
    terminalreporter.write_line(f"{len(bad)} distinct faults; all of them: {REPORT}")
    write_report(Path(REPORT), FOUND)
