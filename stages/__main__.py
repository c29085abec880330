"""List the stages of the pipeline in their order, and the other commands."""

import ast
import sys
from pathlib import Path

from cpal.settings.yaml_files import read_yaml
from stages.job.paths import PIPELINE

FOLDER = Path(__file__).parent


def main() -> None:
    """Read the modules without running them, and so without importing torch."""
    commands = {path.stem: summary for path in sorted(FOLDER.glob("*.py")) if (summary := _summary(path)) is not None}
    order = dict.fromkeys(stage["cmd"].split()[2].removeprefix("stages.") for stage in _pipeline().values())
    width = max(map(len, commands))
    print("Each is a command of its own: python -m stages.NAME --help\n\nStages, as `dvc repro` runs them:")
    for name in order:
        print(f"  {name:<{width}}  {commands.pop(name)}")
    print("\nBeside the pipeline:")
    for name, summary in commands.items():
        print(f"  {name:<{width}}  {summary}")


def _pipeline() -> dict[str, dict[str, str]]:
    path = FOLDER.parent / PIPELINE
    cure = f"restore it with: git checkout {PIPELINE}"
    pipeline: dict[str, dict[str, str]] = read_yaml(path, missing=f"no such file; {cure}", cure=cure)["stages"]
    return pipeline


def _summary(path: Path) -> str | None:
    """First line of a command's docstring; None for a module without `main`."""
    module = ast.parse(path.read_text(encoding="utf-8"))
    if path == Path(__file__) or not any(
        isinstance(node, ast.FunctionDef) and node.name == "main" for node in module.body
    ):
        return None
    return (ast.get_docstring(module) or "").partition("\n")[0]


if __name__ == "__main__":
    if sys.argv[1:] not in ([], ["--help"]):
        print("error: python -m stages takes no argument; name a stage: python -m stages.NAME", file=sys.stderr)
        sys.exit(2)
    main()
