"""Opens the runs that a comparison shows: the workspace, git revisions and DVC experiments. Nothing is checked out.

For a revision, a temporary folder gets copies of the small files in git, and links to the outputs in DVC's cache. So
each run is a folder, and the functions that read results work on any run.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from cpal.errors import UserError

WORKSPACE = "workspace"
NAMED = 10  # candidates in a message


@dataclass(frozen=True)
class Places:
    """Paths of a run's files, relative to its folder."""

    params: Path
    lock: Path
    metrics: Path
    dataset: Path
    pseudo_masks: Path
    predictions: Path

    @property
    def outputs(self) -> tuple[Path, ...]:
        """The outputs that DVC keeps in its cache."""
        return self.dataset, self.pseudo_masks, self.predictions


@dataclass(frozen=True)
class Run:
    """A run in a folder. `name` is what the user typed; `commit` is empty for the workspace.

    `absent` lists the outputs that are not in the workspace or, for a revision, not in DVC's cache. `cure` says how to
    get them.
    """

    name: str
    commit: str
    folder: Path
    absent: tuple[str, ...] = ()
    cure: str = ""

    @property
    def missing(self) -> str:
        """The absent outputs in words; empty if no output is absent."""
        where = "DVC's cache" if self.commit else "the workspace"
        return f"{', '.join(self.absent)} not in {where}" if self.absent else ""


def open_runs(names: Sequence[str], scratch: Path, places: Places) -> list[Run]:
    """Open the runs with these names, in this order; `scratch` gets a folder for each revision.

    Raises UserError if a name is given twice, if a name matches no run (the message lists existing names), or if this
    folder is not a project with git and DVC.
    """
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.repo import Repo

    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"{twice}: named twice; name each run once")
    try:
        with Repo() as repo:
            if repo.config["core"].get("no_scm"):
                raise UserError("this project is not in git, so it has no runs to compare: git init, then dvc init -f")
            commits = [_commit(repo, name) for name in names]
            return [
                _opened(repo, name, commit, scratch / str(number), places) if commit else _workspace(places)
                for number, (name, commit) in enumerate(zip(names, commits, strict=True))
            ]
    except NotDvcRepoError:
        raise UserError("no DVC project here; run this command in the project's folder, or: dvc init") from None
    except DvcException as error:
        raise UserError(f"DVC cannot read a run: {error}; check it with: dvc status") from None


def _workspace(places: Places) -> Run:
    absent = tuple(path.as_posix() for path in places.outputs if not path.exists())
    return Run(WORKSPACE, "", Path(), absent, "get them: dvc checkout; or make them: dvc repro" if absent else "")


def _commit(repo: Any, name: str) -> str:
    """The commit of a name; empty for the workspace."""
    from dvc.scm import RevError, resolve_rev

    if name == WORKSPACE:
        return ""
    try:
        return str(resolve_rev(repo.scm, name))
    except RevError as error:
        if "ambiguous" in str(error).lower():
            raise UserError(
                f"{name}: several experiments have this name; give the hash of one: dvc exp list --sha-only -A"
            ) from None
        raise UserError(f"{name}: no git revision and no DVC experiment; {_candidates(repo, name)}") from None


def _candidates(repo: Any, name: str) -> str:
    """Existing names for an error message, those most similar to `name` first."""
    experiments = sorted(set(_experiments(repo).values()))
    known = [WORKSPACE, "HEAD", *repo.scm.list_branches(), *repo.scm.list_tags(), *experiments]
    near = get_close_matches(name, known, n=3)
    rest = [other for other in known if other not in near]
    listed = f"choose {', '.join([*near, *rest][:NAMED])}"
    more = len(known) - NAMED
    return listed + (f", or one of {more} more: dvc exp list --all-commits" if more > 0 else "")


def _experiments(repo: Any) -> dict[str, str]:
    """Name of each experiment by its commit."""
    from dvc.repo.experiments.utils import exp_refs

    return {repo.scm.get_ref(str(ref)): ref.name for ref in exp_refs(repo.scm)}


def _opened(repo: Any, name: str, commit: str, folder: Path, places: Places) -> Run:
    """Copy a revision's small files into `folder`, and link its outputs to DVC's cache."""
    from dvc.repo.brancher import switch

    with switch(repo, commit):
        root, files = repo.root_dir, repo.fs
        for text in (places.params, places.lock, places.metrics):
            for source in files.find(files.join(root, *text.parts)):
                target = folder / files.relpath(source, root)
                target.parent.mkdir(parents=True, exist_ok=True)
                files.get_file(source, str(target))
        outs = {files.relpath(out.fs_path, root): out for out in repo.index.outs}
        absent = [
            path.as_posix()
            for path in places.outputs
            if path.as_posix() not in outs or not _link(outs[path.as_posix()], folder / path)
        ]
    return Run(name, commit, folder, tuple(absent), _cure(repo, name, commit, absent) if absent else "")


def _link(out: Any, folder: Path) -> bool:
    """Link an output's files in the cache into `folder`. Returns False if the cache lacks a file."""
    content = out.get_obj()
    if content is None:
        return False
    files = [("/".join(key), hash_info.value) for key, (_, hash_info) in content.iteritems()]
    if not all(out.cache.exists(value) for _, value in files):
        return False
    folder.mkdir(parents=True)
    for name, value in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(Path(out.cache.oid_to_path(value)).resolve())
    return True


def _cure(repo: Any, name: str, commit: str, absent: Iterable[str]) -> str:
    """How to get outputs that are not in the cache."""
    remote = repo.config["core"].get("remote")
    if experiment := _experiments(repo).get(commit):
        fetch, start = f"dvc exp pull GIT_REMOTE {experiment} --remote {remote}", f"dvc exp apply {experiment}, then "
    else:
        fetch = f"dvc fetch --all-commits {' '.join(absent)}"
        start = "" if commit == repo.scm.get_rev() else f"git switch --detach {name}, then "
    again = f"make them again: {start}dvc repro"
    return f"get them: {fetch}; or {again}" if remote else again
