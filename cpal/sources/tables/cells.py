"""The names in a cell of labels: separated by a sign, by blanks, or written as a list."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from cpal.sources.tables.grid import Cell, cell_of_json

SIGNS = (";", ",", "|", "\n")
DOUBTFUL = re.compile(r"\s*[/+&:_、，；]\s*|\s+(?:and|und|et|y|e|og|och|en)\s+")  # between names, or in a name
LIST = re.compile(r"^[\[({]\s*(.*?)\s*,?\s*[\])}]$", re.DOTALL)
QUOTED = re.compile(r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"")
SET = "data.label_separator"


def split_cells(
    cells: Sequence[Cell], separator: str | None, where: str, problems: list[str]
) -> tuple[list[frozenset[str]], str]:
    """Names of each cell, and how they were separated; empty if each cell holds one name at most.

    `separator`: data.label_separator. If a cell can be one name or several names, a problem asks the user.
    """
    lists = [cell if isinstance(cell, tuple) else _listed(cell) for cell in cells]
    decided = separator is not None
    texts = list(dict.fromkeys(str(cell) for cell, names in zip(cells, lists, strict=True) if names is None and cell))
    if separator is None:
        alone = {name for names in lists if names is not None for name in names}
        separator = _separator(texts, alone, where, problems)
    several = any(names is not None and len(names) > 1 for names in lists)
    told = "lists of names" if any(names is not None for names in lists) else ""
    parts = {text: _parted(text, separator) for text in texts} | {"": frozenset[str]()}
    if any(len(names) > 1 for names in parts.values()):
        told = f"names separated by {'blanks' if separator == ' ' else repr(separator)}"
    found = [
        frozenset(filter(None, names)) if names is not None else parts[str(cell)]
        for cell, names in zip(cells, lists, strict=True)
    ]
    if not decided:
        _doubt(found, where, problems)
    return found, told if told or not several else "lists of names"


def _parted(text: str, separator: str | None) -> frozenset[str]:
    if not separator:
        return frozenset({text})
    parts = text.split() if separator == " " else text.split(separator)
    return frozenset(part.strip() for part in parts if part.strip())


def _listed(text: str) -> tuple[str, ...] | None:
    """Names of `['a', 'b']`, `["a"]`, `('a',)`, `{'a'}`, `[a, b]` or NumPy's `['a' 'b']`; None for other text.

    The list is searched for names and not evaluated: Python reads `['a' 'b']` as one name.
    """
    if text[:2] in ('{"', '["', "[{"):  # Label Studio's CSV holds regions as JSON
        try:
            return tuple(filter(None, cell_of_json(json.loads(text))))
        except (ValueError, RecursionError):
            pass
    found = LIST.match(text)
    if found is None:
        return None
    inner = found[1]
    quoted = QUOTED.findall(inner)
    if quoted:
        if QUOTED.sub("", inner).strip(", \n"):
            return None
        return tuple((one or two).replace("\\'", "'").replace('\\"', '"').strip() for one, two in quoted)
    if text.startswith("("):  # a remark rather than a list
        return None
    return tuple(part.strip() for part in inner.split(",") if part.strip())


def _separator(texts: Sequence[str], alone: set[str], where: str, problems: list[str]) -> str | None:
    """The sign or blank between names; None if cells hold one name."""
    used = [sign for sign in SIGNS if any(sign in text for text in texts)]
    if len(used) > 1:
        example = next(text for text in texts if used[1] in text)
        problems.append(
            f"{where}: labels hold {' and '.join(map(repr, used))}, as in {example[:60]!r}; set {SET} to the one that "
            "separates names"
        )
        return used[0]
    if used:
        if used[0] != ";":
            _check_sign(texts, used[0], where, problems)
        return used[0]
    return " " if _blank_separates(texts, alone, where, problems) else None


def _check_sign(texts: Sequence[str], sign: str, where: str, problems: list[str]) -> None:
    """Ask if the sign may belong to the names, as in ImageNet: the parts then never occur elsewhere."""
    parts = Counter(part for text in texts for part in _parted(text, sign))
    joint = [text for text in texts if sign in text.strip(sign)]
    if joint and all(parts[part] == 1 for text in joint for part in _parted(text, sign)):
        _ask(joint, sign, where, problems)


def _blank_separates(texts: Sequence[str], alone: set[str], where: str, problems: list[str]) -> bool:
    """Whether blanks separate names: every part of every cell is then a name that also stands alone."""
    single = {text for text in texts if " " not in text} | {name for name in alone if " " not in name}
    joint = [text for text in texts if " " in text]
    parts = Counter(part for text in joint for part in text.split())
    if not joint:
        return False
    if parts.keys() <= single:
        return True
    mixed = [text for text in joint if any(part in single for part in text.split())]
    if mixed or len(parts) <= len(joint):
        _ask(mixed or joint, " ", where, problems)
    return False


def _ask(joint: Sequence[str], sign: str, where: str, problems: list[str]) -> None:
    example = joint[0]
    parts = " and ".join(map(repr, dict.fromkeys(example.split() if sign == " " else _clean(example.split(sign)))))
    spoken = {" ": "' ' (a blank)"}.get(sign, f"'{sign}'")
    other = "';'" if sign != ";" else "'|'"
    problems.append(
        f"{where}: {example[:60]!r} can be one name or the names {parts[:90]} ({len(joint)} different labels like "
        f"this); if several, set {SET} to {spoken}, if one, to {other}"
    )


def _clean(parts: Iterable[str]) -> list[str]:
    return [part.strip() for part in parts if part.strip()]


def _doubt(found: Sequence[frozenset[str]], where: str, problems: list[str]) -> None:
    """Ask about names such as `cat/dog` or `cat and dog`, if `cat` and `dog` are also names."""
    names = sorted(frozenset().union(*found))
    known = set(names)
    if code := [name for name in names if name.startswith(("{", "[{"))]:
        problems.append(
            f"{where}: labels hold {code[0][:60]!r}, which is no name and no JSON; write the names with ; between them"
        )
    for name in names:
        parts = DOUBTFUL.split(name)
        if len(parts) > 1 and known.issuperset(parts):
            problems.append(
                f"{where}: {name[:60]!r} can be one name or the names {' and '.join(map(repr, parts))[:90]}, which "
                f"also stand alone; write ; between names, or set {SET} to ';' if it is one"
            )
