"""Reads YAML files from any source in bounded time and memory. The version is YAML 1.2, as in DVC."""

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import CollectionEndEvent, CollectionStartEvent, NodeEvent
from ruamel.yaml.parser import Parser
from ruamel.yaml.scanner import Scanner

from cpal.errors import UserError
from cpal.settings.access import check_readable

LARGEST = 100_000  # bytes of a settings file, five times our params.yaml; reading takes two seconds
DEEPEST = 20  # levels of nested mappings and lists; our params.yaml has four
TOO_DEEP = f"is nested deeper than {DEEPEST} levels"


class _Scanner(Scanner):
    """Limits the nesting of brackets. The parser would take seconds before it sees the first of a thousand brackets."""

    def fetch_flow_collection_start(self, *arguments: Any, **named: Any) -> None:
        if self.flow_level >= DEEPEST:
            raise YAMLError(TOO_DEEP)
        super().fetch_flow_collection_start(*arguments, **named)


class _Parser(Parser):
    """Refuses deep nesting, which exceeds Python's recursion limit, and anchors and aliases, which multiply content."""

    depth = 0

    def get_event(self) -> Any:
        event = super().get_event()
        if isinstance(event, NodeEvent) and event.anchor is not None:
            raise YAMLError(f"uses an anchor or alias (&{event.anchor} or *{event.anchor}); write its content out")
        if isinstance(event, CollectionStartEvent):
            self.depth += 1
        elif isinstance(event, CollectionEndEvent):
            self.depth -= 1
        if self.depth > DEEPEST:
            raise YAMLError(TOO_DEEP)
        return event


def read_yaml(path: Path, *, missing: str, cure: str, largest: int = LARGEST) -> Any:
    """Content of a YAML file.

    `missing` is the message, with its cure, if the file does not exist; `cure` is the advice if it is not valid YAML.
    Raises UserError if the file cannot be read, has more than `largest` bytes, or is refused by `parse_yaml`.
    """
    return parse_yaml(read_text(path, missing=missing, cure=cure, largest=largest), name=str(path), cure=cure)


def read_text(path: Path, *, missing: str, cure: str, largest: int = LARGEST) -> str:
    """Text of a file, read in bounded memory. Parameters and errors as in `read_yaml`."""
    check_readable(path, missing=missing)
    with path.open("rb") as stream:
        content = stream.read(largest + 1)
    if len(content) > largest:
        raise UserError(f"{path}: has more than {largest} bytes; {cure}")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not valid YAML: {error}; {cure}") from None


def parse_yaml(text: str, *, name: str, cure: str) -> Any:
    """Content of a YAML text, without its comments.

    Raises UserError, whose message begins with `name`, if the text is not YAML, is nested too deeply, or has anchors or
    aliases.
    """
    yaml = YAML(typ="safe", pure=True)
    yaml.Scanner, yaml.Parser = _Scanner, _Parser
    try:
        return yaml.load(text)
    except Exception as error:  # of the reader: damaged text fails in many ways
        raise UserError(f"{name}: not valid YAML: {_said(error)}; {cure}") from None


def _said(error: Exception) -> str:
    """The message of a parser's error, on one line."""
    if isinstance(error, MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        return where + " ".join(str(error.problem or error.context).split())
    return " ".join(str(error).split())[:200]
