"""Write docs/settings.md: every key of params.yaml with its default, what is allowed, and its comment.

python -m docs.scripts.settings
"""

import math
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from cpal.settings.config import Config

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/settings.md"
HEAD = """\
# Settings

This page answers: what does each key of `params.yaml` mean, what is its default, and which values are allowed?

`python -m docs.scripts.settings` writes this page from [params.yaml](../params.yaml) and the checks of `cpal/settings`.
The defaults are those of the drawn toy data set on a CPU; a [profile](commands.md#profiles) has those of other data.
"ours" marks what the paper leaves open; "paper:" and other names in front of a value give the value there.
`dvc exp run -S cpal.topk=10` changes a setting for one run.
"""
LINE = re.compile(r"^(?P<indent> *)(?P<key>\w+):(?: (?P<value>(?! *#).*?))??(?: *# (?P<comment>.*))?$")
BANNER = re.compile(r"^# -+ (.+?) -+$")


class Key(NamedTuple):
    """A key with its path, its text in params.yaml, and its comment; `value` is None for a block of keys."""

    path: str
    value: str | None
    comment: str


def keys(text: str) -> Iterator[str | Key]:
    """The banners and keys of params.yaml in their order."""
    above: list[str] = []
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if banner := BANNER.match(line):
            yield banner[1]
        elif (found := LINE.match(line)) and not line.startswith("#"):
            depth = len(found["indent"]) // 2
            above[depth:] = [found["key"]]
            following = next((other for other in lines[number + 1 :] if other.strip()), "")
            items = following_items(lines[number + 1 :])
            block = len(following) - len(following.lstrip()) > len(found["indent"]) and not items
            value = None if block else ", ".join(items) or (found["value"] or "null").strip()
            yield Key(".".join(above), value, found["comment"] or "")


def following_items(lines: list[str]) -> list[str]:
    """The entries `- x` right below a key."""
    found: list[str] = []
    for line in lines:
        if (item := re.match(r"^ *- (.+?)(?: *# .*)?$", line)) is None:
            return found
        found.append(item[1])
    return found


def schema(path: str) -> dict[str, Any]:
    """JSON Schema of a key, as pydantic checks it."""
    full = checks()
    node = full
    for part in path.split("."):
        node = resolved(node["properties"][part], full)
    return node


@cache
def checks() -> dict[str, Any]:
    return Config.model_json_schema()


def resolved(node: dict[str, Any], full: dict[str, Any]) -> dict[str, Any]:
    return full["$defs"][node["$ref"].rpartition("/")[2]] if "$ref" in node else node


def allowed(node: dict[str, Any]) -> str:
    """In words: the values that a JSON Schema lets pass."""
    if "anyOf" in node:
        return " or ".join(allowed(part) for part in node["anyOf"])
    if "const" in node or "enum" in node:
        return ", ".join(f"`{value}`" for value in node.get("enum", [node.get("const")]))
    kind = node.get("type")
    if kind == "array":
        return f"list: {allowed(node['items'] if 'items' in node else node['prefixItems'][0])}"
    if kind in ("integer", "number"):
        return number(node)
    return {"boolean": "`true`, `false`", "null": "`null`", "string": "text"}[str(kind)]


def number(node: dict[str, Any]) -> str:
    """The bounds of a number; an upper one from a million on only keeps mistakes out, and is not told."""
    whole = node["type"] == "integer"
    lowest = max(node.get("minimum", -math.inf), node.get("exclusiveMinimum", -math.inf) + whole)
    highest = min(node.get("maximum", math.inf), node.get("exclusiveMaximum", math.inf))
    above = not whole and node.get("exclusiveMinimum", -math.inf) >= lowest
    below = "exclusiveMaximum" in node
    words = ["whole"] if whole else []
    if lowest <= -1e6:
        return "number"
    if highest >= 1e6:
        return " ".join([*words, f"above {lowest:g}" if above else f"{lowest:g} or more"])
    if not (above or below):
        return " ".join([*words, f"{lowest:g} to {highest:g}"])
    return f"{'above' if above else 'from'} {lowest:g}, {'below' if below else 'up to'} {highest:g}"


def page() -> str:
    """The page: a heading for each banner and block of params.yaml, and a row for each key."""
    lines = [HEAD]
    for entry in keys((ROOT / "params.yaml").read_text(encoding="utf-8")):
        if isinstance(entry, Key) and entry.value is not None:
            if not lines[-1].startswith("|"):
                lines += ["| key | default | allowed | meaning |", "|---|---|---|---|"]
            cells = [f"`{entry.path}`", f"`{entry.value}`", allowed(schema(entry.path)), escaped(entry.comment)]
            lines.append("| " + " | ".join(cells) + " |")
            continue
        if lines[-1].startswith("|"):
            lines.append("")
        if isinstance(entry, str):
            lines.append(f"## {entry}\n")
        else:
            lines.append(f"### `{entry.path}`\n")
            lines += [f"{escaped(entry.comment[0].upper() + entry.comment[1:])}.\n"] if entry.comment else []
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    """A comment as a cell of a table."""
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
