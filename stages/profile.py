"""Merge profiles/NAME.yaml into params.yaml, comments kept; without NAME, list the profiles.

Keys that the profile does not name stay as they are. `git checkout params.yaml` brings the default back.
"""

import difflib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from cpal.config import parse_config
from cpal.errors import UserError
from cpal.files import whole_file
from stages.options import Params, run
from stages.paths import PARAMS

PROFILES = Path("profiles")


def main(
    name: Annotated[str | None, typer.Argument(help="A profile, without .yaml.", show_default=False)] = None,
    params: Params = PARAMS,
) -> None:
    profiles = {path.stem: path for path in sorted(PROFILES.glob("*.yaml"))}
    if name is None:
        for known, path in profiles.items():
            print(f"{known}: {path.read_text(encoding='utf-8').splitlines()[0].lstrip('# ')}")
        return
    if name not in profiles:
        near = difflib.get_close_matches(name, profiles, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known are: {', '.join(profiles)}"
        raise UserError(f"{PROFILES / name}.yaml: no such profile ({hint})")
    text, changes = merged(_read(params), _read(profiles[name]), name=f"{params} with profile {name}")
    for change in changes:
        print(change)
    if not changes:
        print(f"{params} has these settings already")
        return
    with whole_file(params) as temporary:
        temporary.write_text(text, encoding="utf-8")


def merged(params: str, profile: str, *, name: str) -> tuple[str, list[str]]:
    """Text of params.yaml with the profile's values, and each change as `key: old -> new`.

    Raises UserError when the result is not valid, under the title `name`.
    """
    yaml = YAML()
    yaml.width = 10_000  # long comments and values stay on their line
    settings = yaml.load(params)
    changes = list(_merge(settings, _plain_yaml(profile)))
    buffer = io.StringIO()
    yaml.dump(settings, buffer)
    parse_config(_plain_yaml(buffer.getvalue()), name=name)
    return buffer.getvalue(), changes


def _merge(settings: Any, profile: Any, prefix: str = "") -> Iterator[str]:
    """Change `settings` in place; lists are replaced whole."""
    for key, new in profile.items():
        old = settings.get(key)
        if isinstance(new, dict) and isinstance(old, dict):
            yield from _merge(old, new, f"{prefix}{key}.")
        elif old != new or key not in settings:
            settings[key] = new
            yield f"{prefix}{key}: {_shown(old)} -> {_shown(new)}"


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_shown, value))}]"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return str(value)


def _plain_yaml(text: str) -> Any:
    """Values without the comments of their file."""
    return YAML(typ="safe", pure=True).load(text)


def _read(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
        if not isinstance(_plain_yaml(text), dict):
            raise UserError(f"{path}: holds no settings")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run from the project's folder or name one with --params") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML: {error}") from None
    return text


if __name__ == "__main__":
    run(main)
