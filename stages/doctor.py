"""Show what this machine and checkout have, and what a profile lacks here; exit code 2 if a run would fail."""

from typing import Annotated

import typer

from cpal.errors import UserError
from cpal.settings.profiles import all_profiles, read_settings
from stages.job import findings, profile_findings
from stages.job.options import Params
from stages.job.paths import PARAMS, PROFILES
from stages.job.run import run


def main(
    profiles: Annotated[bool, typer.Option("--profiles", help="Also tell what each profile lacks.")] = False,
    params: Params = PARAMS,
) -> None:
    found = [*findings.packages(), *findings.machine(), *findings.disks(), *findings.project()]
    found += [profile_findings.settings("params.yaml", read_settings(params))]
    if profiles:
        found += [profile_findings.profile(path, params) for path in all_profiles(PROFILES).values()]
    width = max(len(finding.what) for finding in found)
    for finding in found:
        mark = "ok" if finding.cure is None else "MISSING" if finding.needed else "note"
        print(f"{mark:<8}{finding.what:<{width}}  {finding.found}")
        if finding.cure is not None:
            print(f"{'':<8}{'':<{width}}  -> {finding.cure}")
    if missing := [finding.what for finding in found if finding.needed and finding.cure is not None]:
        raise UserError(f"{', '.join(missing)}: a run would fail; the lines above tell the cure")


if __name__ == "__main__":
    run(main)
