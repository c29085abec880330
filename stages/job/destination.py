"""Where a stage writes: its DVC output, or below the folder of --out."""

from pathlib import Path

from cpal.errors import UserError

WRITTEN = ".cpal"  # file below --out: names of outputs that stages wrote there, and may replace


def destination(out: Path, limit: int | None, debug: Path | None) -> Path:
    """The path that a stage writes: its DVC output, or the same name below --out. Call it before any work.

    Raises UserError for --limit without --out; if --out is the folder of DVC's outputs, because DVC would then keep a
    partial result; and if a file of the user would be replaced.
    """
    if debug is None:
        if limit is not None:
            raise UserError("--limit makes a partial result, which must not become a DVC output; add --out DIR")
        return out
    target, written = debug / out.name, debug / WRITTEN
    if target.resolve() == out.resolve():
        raise UserError(f"--out {debug}: there lies DVC's output {out}; give --out a new folder")
    if not debug.exists():
        debug.mkdir(parents=True, exist_ok=True)
    if not written.exists() or out.name not in written.read_text(encoding="utf-8").splitlines():
        if any(target.iterdir()) if target.is_dir() else target.exists():
            raise UserError(f"{debug}: holds {out.name}, which this command did not write; give --out a new folder")
        with written.open("a", encoding="utf-8") as stream:
            stream.write(f"{out.name}\n")
    return target
