"""Merge profiles/NAME.yaml into params.yaml, with comments kept; without NAME, list the profiles.

A profile can build on another profile, its `base`. Keys that are in neither keep their values. `git checkout
params.yaml` restores the default.
"""

from typing import Annotated

import typer

from cpal.files import whole_file
from cpal.settings.profiles import all_profiles, find_profile, load_profile, merged, read_settings
from stages.job.options import Params
from stages.job.paths import PARAMS, PROFILES
from stages.job.run import run


def main(
    name: Annotated[str | None, typer.Argument(help="A profile, without .yaml.", show_default=False)] = None,
    params: Params = PARAMS,
) -> None:
    if name is None:
        for known, path in all_profiles(PROFILES).items():
            print(f"{known}: {path.read_text(encoding='utf-8').splitlines()[0].lstrip('# ')}")
        return
    values = load_profile(find_profile(PROFILES, name))
    text, changes = merged(read_settings(params), values, name=f"{params} with profile {name}")
    for change in changes:
        print(change)
    if not changes:
        print(f"{params} has these settings already")
        return
    with whole_file(params) as temporary:
        temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    run(main)
