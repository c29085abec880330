"""Merges a profile of settings into params.yaml; the file's comments and layout stay."""

import io
import json
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from cpal.errors import UserError
from cpal.settings.config import NO_SETTINGS, RESTORE, parse_config
from cpal.settings.cpal import read_preset
from cpal.settings.yaml_files import parse_yaml, read_text


def all_profiles(folder: Path) -> dict[str, Path]:
    """The files of the profiles in a folder, by name. Raises UserError if there are none."""
    found = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    if not found:
        raise UserError(f"{folder}: no profiles here; run from the project's folder")
    return found


def find_profile(folder: Path, name: str) -> Path:
    """The file of a profile. Raises UserError, with names like it, if there is none of this name."""
    profiles = all_profiles(folder)
    if name not in profiles:
        near = get_close_matches(name, profiles, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known are: {', '.join(profiles)}"
        raise UserError(f"{folder / name}.yaml: no such profile ({hint})")
    return profiles[name]


def load_profile(path: Path) -> dict[str, Any]:
    """Values of a profile by section.

    The key `base` names another profile in the same folder, whose values apply where this profile has none. The key
    `preset` names a preset of the package, which gives all values of the section `cpal`.

    Raises UserError if a file is missing or holds no settings, and if the bases form a loop.
    """
    layers: list[dict[str, Any]] = []
    seen: list[Path] = []
    while path not in seen:
        seen.append(path)
        layer = plain_yaml(read_settings(path))
        if (preset := layer.pop("preset", None)) is not None:
            own = layer.pop("cpal", {})
            # If `cpal` is not a mapping, the check of the settings reports it.
            layer = {"cpal": read_preset(str(preset)) | own if isinstance(own, dict) else own} | layer
        layers.append(layer)
        if (base := layers[-1].pop("base", None)) is None:
            break
        path = path.with_name(f"{base}.yaml")
    else:
        raise UserError(f"{path}: its bases lead back to it: {', '.join(one.stem for one in seen)}; remove a `base`")
    values: dict[str, Any] = {}
    for layer in reversed(layers):
        list(_merge(values, layer))
    return values


def merged(params: str, profile: dict[str, Any], *, name: str) -> tuple[str, list[str]]:
    """Text of params.yaml with the profile's values, and a line `key: old -> new` for each change.

    Raises UserError with the title `name` if the resulting settings are not valid.
    """
    yaml = YAML()
    yaml.width = 10_000  # long comments and values are not wrapped
    settings = yaml.load(params)
    changes = list(_merge(settings, profile))
    buffer = io.StringIO()
    yaml.dump(settings, buffer)
    parse_config(plain_yaml(buffer.getvalue()), name=name)
    return buffer.getvalue(), changes


def _merge(settings: Any, profile: Any, prefix: str = "") -> Iterator[str]:
    """Change `settings` in place and yield a line for each change; a list is replaced as a whole."""
    for key, new in profile.items():
        old = settings.get(key)
        if isinstance(new, dict) and isinstance(old, dict):
            yield from _merge(old, new, f"{prefix}{key}.")
        elif old != new or key not in settings:
            settings[key] = new
            yield f"{prefix}{key}: {shown(old)} -> {shown(new)}"


def shown(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(shown, value))}]"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return str(value)


def plain_yaml(text: str, *, name: str = "text") -> Any:
    """Values of a YAML text, without its comments. Raises UserError as `parse_yaml`."""
    return parse_yaml(text, name=name, cure=RESTORE.replace("params.yaml", name))


def read_settings(path: Path) -> str:
    """Text of a YAML file of settings.

    Raises UserError if the file cannot be read or holds no settings.
    """
    restore = RESTORE.replace("params.yaml", str(path))
    text = read_text(path, missing=NO_SETTINGS, cure=restore)
    if not isinstance(plain_yaml(text, name=str(path)), dict):
        raise UserError(f"{path}: holds no settings; {restore}")
    return text
