"""List the stages of the pipeline in their order, and the other commands."""

import ast
import sys
from pathlib import Path

from stages.job.pipeline import read_pipeline

FOLDER = Path(__file__).parent


def main() -> None:
    """Read the modules without running them, and so without importing torch."""
    commands = {path.stem: summary for path in sorted(FOLDER.glob("*.py")) if (summary := _summary(path)) is not None}
    width = max(map(len, commands))
    print("Each is a command of its own: python -m stages.NAME --help\n\nStages, as `dvc repro` runs them:")
    for name in read_pipeline(FOLDER.parent):
        print(f"  {name:<{width}}  {commands.pop(name)}")
    print("\nBeside the pipeline:")
    for name, summary in commands.items():
        print(f"  {name:<{width}}  {summary}")


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
