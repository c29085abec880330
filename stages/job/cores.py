"""How many processors a process may use: fewer than the machine has, in a container or a batch job."""

import math
import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")


def available_cores() -> int:
    """The processors that this process may run on, or the whole number above its share of processor time if smaller.

    `docker run --cpus 2` and batch systems limit the time and not the processors, which Python counts.
    """
    seen = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(seen, granted(CGROUPS, OWN_CGROUP))))


def granted(cgroups: Path, own: Path) -> float:
    """Processors by the CPU quotas of the control group in the file `own` and of all above it; infinite without any.

    Reads version 2 (cpu.max) and version 1 (cpu.cfs_quota_us); see cgroups(7) and the kernel's documentation of both.
    """
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:  # no Linux
        return math.inf
    least = math.inf
    for line in lines:
        controllers, path = line.split(":", 2)[1:]
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = cgroups / "cpu" if controllers else cgroups
        folder = top / path.strip("/")
        for place in (folder, *(parent for parent in folder.parents if parent.is_relative_to(top))):
            least = min(least, _quota(place))
    return least


def _quota(folder: Path) -> float:
    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        try:
            quota, period = " ".join((folder / name).read_text(encoding="utf-8") for name in names).split()
            if int(quota) > 0:
                return int(quota) / int(period)
        except (OSError, ValueError):  # no such file; "max", which is no limit
            continue
    return math.inf
