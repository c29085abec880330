"""What became of each fault, and the table of them all."""

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Literal, TypeVar

from faults.project import MAY_STAY, Tiny, content, outs_of, tree
from faults.runner import HUNG, Ending

Outcome = Literal["same", "named", "silent", "traceback", "lost", "leftovers", "unclear"]
OUTCOMES: tuple[Outcome, ...] = ("same", "named", "silent", "traceback", "lost", "leftovers", "unclear")
GOOD = ("same", "named")
CURE = re.compile(
    r"\b(run|make|replace|free|set|give|choose|use|save|check|add|remove|delete|wait|lower|move|put|name|take|write|restore|correct|raise|"
    r"goes on|continue|continues|again|copy|names like it|order)\b",
    re.IGNORECASE,
)
MESSAGE = re.compile(r"(?:^|[\r\n]) *error: ")
REPORT = os.environ.get("FAULTS_REPORT", ".cache/faults.json")  # where the JSON of all faults goes
ONLY = os.environ.get("FAULTS_ONLY", "")  # run the faults whose id holds this, and print what they say
JOBS = int(os.environ.get("FAULTS_JOBS", "2"))


@dataclass(frozen=True)
class Fault:
    """One fault: `id` is KIND/STAGE/WHAT. `detail` is the last line of a traceback or what is wrong."""

    id: str
    outcome: Outcome
    detail: str = ""

    @property
    def kind(self) -> str:
        return self.id.partition("/")[0]


FOUND: list[Fault] = []
Item = TypeVar("Item")


def error_of(output: str) -> str:
    """The message of a stage that ends with code 2, from `error:` to its end."""
    return MESSAGE.split(output, maxsplit=1)[-1].strip()


def last_line(output: str) -> str:
    lines = [line for line in output.splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else ""


def refused(ending: Ending, names: Iterable[str] = ()) -> tuple[Outcome, str]:
    """How a run that gave no result tells it; `names` are the files that a good message has one of."""
    message = error_of(ending.output)
    names = list(names)
    if ending.code != 2 or "Traceback (most recent" in ending.output:
        said = last_line(ending.output)
        if ending.code == HUNG:
            return "traceback", f"hangs: {said}"
        return "traceback", said if ending.code >= 0 else f"ended by signal {-ending.code}; {said}"
    if not MESSAGE.search(ending.output) or not CURE.search(message):
        return "unclear", f"no cure: {message or last_line(ending.output)}"
    if len(MESSAGE.findall(ending.output)) > 1:
        return "unclear", f"more than one message: {ending.output.strip()[-300:]}"
    if names and not any(name in message for name in names):
        return "unclear", f"names none of {', '.join(names)}: {message}"
    return "named", message[:300]


def judged(tiny: Tiny, project: Path, stage: str, ending: Ending, names: Iterable[str] = ()) -> tuple[Outcome, str]:
    """What a run of the stage in a copy of the tiny project gave, beside the undisturbed run's."""
    if ending.code != 0:
        return refused(ending, names)
    found, wanted = content(project, outs_of(stage)), tiny.outs[stage]
    if found != wanted and found.items() > wanted.items():
        return "leftovers", f"in an output: {', '.join(sorted(found.keys() - wanted.keys())[:3])}"
    if found != wanted:
        different = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
        return "silent", f"{len(different)} files differ: {', '.join(different[:3])}"
    there = tree(project)
    if gone := sorted(name for name in tiny.tree[stage] - there if not name.startswith(".cache")):
        return "lost", f"gone: {', '.join(gone[:3])}"
    if extra := sorted(n for n in there - tiny.tree[stage] if not any(p.search(n) for p in MAY_STAY)):
        return "leftovers", ", ".join(extra[:3])
    return "same", ""


def spread(function: Callable[[Item], Fault | None], items: Sequence[Item]) -> list[Fault]:
    """The faults in JOBS processes forked from this one, all of them remembered for the table; REPORT.log grows."""
    found = []
    log = Path(REPORT).with_suffix(".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    with get_context("fork").Pool(JOBS) as pool, log.open("a", encoding="utf-8") as stream:
        for n, fault in enumerate(pool.imap_unordered(function, items), 1):
            if fault is not None:
                found.append(fault)
                print(f"{n}/{len(items)} {fault.id}: {fault.outcome} {fault.detail}", file=stream, flush=True)
    found.sort(key=lambda fault: fault.id)
    FOUND.extend(found)
    return found


def wanted(fault_id: str) -> bool:
    return ONLY in fault_id


def stage_wanted(stage: str) -> bool:
    """Whether a wanted fault can be one of this stage."""
    return "/" not in ONLY or f"/{stage}/" in f"{ONLY}/"


def check(found: Sequence[Fault]) -> None:
    """Fail with all bad faults, those alike in one line, and the command that shows the first."""
    bad = [fault for fault in found if fault.outcome not in GOOD]
    if not bad:
        return
    lines = [f"{len(bad)} of {len(found)} faults are not survived; {count(bad)}"]
    for (outcome, stage, said), alike in alike_faults(bad).items():
        lines.append(f"{len(alike):5d} {outcome:9s} {stage:22s} {said}")
    lines.append(f"To see one: FAULTS_ONLY='{bad[0].id}' make test-faults")
    raise AssertionError("\n".join(lines))


def alike_faults(faults: Iterable[Fault]) -> dict[tuple[str, str, str], list[Fault]]:
    """Faults by outcome, stage and what they say, without its numbers and names."""
    groups: dict[tuple[str, str, str], list[Fault]] = {}
    for fault in faults:
        said = re.sub(r"/dev/shm/\S*|/tmp/\S*", "PATH", fault.detail)
        said = re.sub(r"\d+|0x[0-9a-f]+", "N", re.sub(r"[0-9a-f]{16,}", "HASH", said))[:150]
        groups.setdefault((fault.outcome, fault.id.split("/")[1], said), []).append(fault)
    return groups


def count(faults: Iterable[Fault]) -> str:
    counts = Counter(fault.outcome for fault in faults)
    return ", ".join(f"{counts[name]} {name}" for name in OUTCOMES if counts[name])


def table(faults: Sequence[Fault]) -> list[str]:
    kinds = list(dict.fromkeys(fault.kind for fault in faults))
    lines = [f"{'fault':14s}{'tried':>7s}" + "".join(f"{name:>11s}" for name in OUTCOMES)]
    for kind in [*kinds, "all"]:
        counts = Counter(fault.outcome for fault in faults if kind in (fault.kind, "all"))
        lines.append(f"{kind:14s}{counts.total():7d}" + "".join(f"{counts[name]:11d}" for name in OUTCOMES))
    return lines


def write_report(path: Path, faults: Sequence[Fault]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"table": table(faults), "faults": [asdict(fault) for fault in faults]}, indent=1)
    path.write_text(text + "\n", encoding="utf-8")
