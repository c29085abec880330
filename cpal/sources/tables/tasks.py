"""Label Studio's exports: JSON with tasks and annotations, and JSON-MIN."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cpal.errors import UserError
from cpal.sources.tables.columns import LABELS, word
from cpal.sources.tables.rows import Row, Table, counted

ABOUT = {"id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "meta", "inner_id", "agreement"}
PICTURE_KEYS = ("image", "img", "picture", "photo", "url", "captioning", "ocr")


def is_task(entry: dict[str, Any]) -> bool:
    return isinstance(entry.get("data"), dict) and any(
        key in entry for key in ("annotations", "completions", "predictions")
    )


def is_short_task(entry: dict[str, Any]) -> bool:
    """Whether this is JSON-MIN: the address of an image, and results by the names of their tags."""
    return {"annotation_id", "annotator"} <= entry.keys() or {"id", "lead_time"} <= entry.keys()


def read_tasks(entries: Sequence[dict[str, Any]], path: Path, problems: list[str]) -> Table:
    """Labels from the full JSON. Tasks without annotation are left out. Annotations that disagree are a problem."""
    rows, empty, tags = list[Row](), 0, dict[str, None]()
    for entry in entries:
        name = picture_of(entry.get("data"))
        if name is None:
            problems.append(f"{path}: task {entry.get('id')!r} names no image; take it out")
            continue
        done = [
            one for one in _list(entry, "annotations") + _list(entry, "completions") if not one.get("was_cancelled")
        ]
        answers = [_names_of_results(_list(one, "result")) for one in done]
        tags |= {
            str(result.get("from_name")): None for one in done for result in _list(one, "result") if _holds(result)
        }
        empty += not answers
        rows += _agreed(name, answers, path, problems)
    told = f"Label Studio's JSON, {counted(len(rows), 'labeled task')}"
    told += f", names of the tags {', '.join(tags)}" if len(tags) > 1 else ""
    return Table(tuple(rows), told + (f", {empty} without annotation left out" if empty else ""))


def read_short_tasks(entries: Sequence[dict[str, Any]], path: Path, problems: list[str]) -> Table:
    """Labels from JSON-MIN, which has an entry for each annotation."""
    keys, others = _label_keys(entries, path)
    answers: dict[str, list[frozenset[str]]] = {}
    for entry in entries:
        name = picture_of(entry)
        if name is None:
            problems.append(f"{path}: task {entry.get('id')!r} names no image; take it out")
            continue
        answers.setdefault(name, []).append(frozenset[str]().union(*(_names(entry.get(key)) for key in keys)))
    rows = [row for name, given in answers.items() for row in _agreed(name, given, path, problems)]
    told = f"Label Studio's JSON-MIN, {counted(len(rows), 'labeled task')}, labels from {', '.join(keys) or 'no key'}"
    return Table(tuple(rows), told + (f" (passed over: {', '.join(others)})" if others else ""))


def _label_keys(entries: Sequence[dict[str, Any]], path: Path) -> tuple[list[str], list[str]]:
    """The keys that hold labels, and other keys with text.

    JSON-MIN also copies the task's own data, such as the name of a camera, and typed remarks. Lists and objects of
    names are labels; so is text under a usual word for labels, or under the only key with text.
    Raises UserError if several keys with text can be the labels.
    """
    texts, sure = dict[str, None](), dict[str, None]()
    for entry in entries:
        for key, value in entry.items():
            if key not in ABOUT and key != _key(entry) and _names(value):
                (texts if isinstance(value, str) else sure)[key] = None
    labels = [*sure, *(key for key in texts if key not in sure and word(key) in LABELS)]
    others = [key for key in texts if key not in labels]
    if labels or len(others) < 2:
        return labels or others, others if labels else []
    raise UserError(
        f"{path}: the keys {', '.join(others)} can each hold the labels: JSON-MIN does not tell choices from other "
        "text; export as JSON"
    )


def _agreed(name: str, answers: Sequence[frozenset[str]], path: Path, problems: list[str]) -> list[Row]:
    if len(set(answers)) > 1:
        shown = " and ".join(f"[{', '.join(sorted(one))}]" for one in dict.fromkeys(answers))
        problems.append(f"{path}: {name} was labeled {len(answers)} times, as {shown[:120]}; keep one annotation")
    return [Row(name, answers[0])] if answers else []


def _key(entry: dict[str, Any]) -> str:
    """The key of the picture's address."""
    texts = [key for key, value in entry.items() if isinstance(value, str) and key not in ABOUT]
    known = [key for key in PICTURE_KEYS if key in texts]
    paths = [key for key in texts if "/" in entry[key] or "." in entry[key]]
    return next(iter([*known, *paths]), "")


def picture_of(data: Any) -> str | None:
    """The address of the picture in a task's data, whose key the labeling interface chooses."""
    value = data.get(_key(data)) if isinstance(data, dict) else None
    return value if isinstance(value, str) and value.strip() else None


def _list(entry: dict[str, Any], key: str) -> list[dict[str, Any]]:
    value = entry.get(key)
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _holds(result: dict[str, Any]) -> bool:
    """Whether a result holds classes: choices, or labels of a region. Ratings, texts and relations hold none."""
    kind = result.get("type")
    return isinstance(kind, str) and (kind in ("choices", "taxonomy") or "labels" in kind)


def _names_of_results(results: Sequence[dict[str, Any]]) -> frozenset[str]:
    """Choices, labels of regions, and choices in a taxonomy."""
    found = frozenset[str]()
    for result in filter(_holds, results):
        value = result.get("value")
        held = value.get(result["type"]) if isinstance(value, dict) else None
        found |= _names(held)
    return found


def _names(value: Any) -> frozenset[str]:
    """Names in a choice: text, a list of them, of regions with keys such as `rectanglelabels`, or of paths."""
    if isinstance(value, str):
        return frozenset({value.strip()} - {""})
    if isinstance(value, dict):
        held = [inner for key, inner in value.items() if key == "choices" or key.endswith("labels")]
        return frozenset[str]().union(*map(_names, held))
    if isinstance(value, list):
        ends = [one[-1] if isinstance(one, list) and one else one for one in value]  # of a path in a taxonomy
        return frozenset[str]().union(*map(_names, ends))
    return frozenset()
