"""Merge profiles/NAME.yaml into params.yaml, with comments kept; without NAME, list the profiles.

A profile can build on another profile, its `base`. Keys that are in neither keep their values. `git checkout
params.yaml` restores the default.
"""

import difflib
from pathlib import Path
from typing import Annotated

import typer

from cpal.errors import UserError
from cpal.files import whole_file
from cpal.settings.profiles import load_profile, merged, read_settings
from stages.job.options import Params, run
from stages.job.paths import PARAMS

PROFILES = Path("profiles")


def main(
    name: Annotated[str | None, typer.Argument(help="A profile, without .yaml.", show_default=False)] = None,
    params: Params = PARAMS,
) -> None:
    profiles = {path.stem: path for path in sorted(PROFILES.glob("*.yaml"))}
    if not profiles:
        raise UserError(f"{PROFILES}: no profiles here; run from the project's folder")
    if name is None:
        for known, path in profiles.items():
            print(f"{known}: {path.read_text(encoding='utf-8').splitlines()[0].lstrip('# ')}")
        return
    if name not in profiles:
        near = difflib.get_close_matches(name, profiles, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known are: {', '.join(profiles)}"
        raise UserError(f"{PROFILES / name}.yaml: no such profile ({hint})")
    text, changes = merged(read_settings(params), load_profile(profiles[name]), name=f"{params} with profile {name}")
    for change in changes:
        print(change)
    if not changes:
        print(f"{params} has these settings already")
        return
    with whole_file(params) as temporary:
        temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    run(main)
