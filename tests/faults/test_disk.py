"""A full disk is said, spoils nothing, and with room again the stage goes on."""

import pytest

from faults.disk import INODES, PAGES, Full, fill_and_run, mounts_here
from faults.project import Tiny
from faults.records import check, spread, wanted

pytestmark = pytest.mark.faults


def test_full_disks(tiny: Tiny) -> None:
    if reason := mounts_here():
        pytest.skip(reason)
    fulls = [
        Full(tiny, stage, what, free)
        for stage in tiny.changes
        for what, amounts in (("pages", PAGES), ("inodes", INODES))
        for free in amounts
    ]
    check(spread(fill_and_run, [item for item in fulls if wanted(item.id)]))
