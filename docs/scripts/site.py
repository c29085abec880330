"""Hooks of MkDocs (mkdocs.yml): the site has the folders of the repository, and shows the docstrings of its modules.

A link such as ../README.md must work on GitHub and on the site. Therefore, docs/ is a folder of the site, and the files
that the pages link to are at the same places as in the repository.
"""

import shutil
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
COPY = ROOT / ".cache/docs-modules"
BESIDE = (
    *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "data/README.md", "LICENSE", "CITATION.cff"),
    *("params.yaml", "examples/explore.ipynb", "examples/one_image.py", "examples/plug_in.py"),
)


def on_startup(**_: object) -> None:
    """Copy the modules into folders with an __init__.py, because griffe ignores folders without this file."""
    shutil.rmtree(COPY, ignore_errors=True)
    for path in modules():
        target = COPY / path
        target.parent.mkdir(parents=True, exist_ok=True)
        (target.parent / "__init__.py").touch()
        shutil.copy(ROOT / path, target)


def modules() -> list[Path]:
    return sorted(path.relative_to(ROOT) for path in (ROOT / "cpal").rglob("*.py"))


def on_files(files: Files, config: MkDocsConfig) -> Files:
    own = [file for file in files if file.src_dir == config.docs_dir]
    for file in own:
        files.remove(file)
    pages = [f"docs/{file.src_uri}" for file in own if file.inclusion.is_included()]
    for name in (*BESIDE, *pages, *(path.as_posix() for path in modules())):
        files.append(File(name, str(ROOT), config.site_dir, config.use_directory_urls))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Show the members of a module where a page has a comment with its name; GitHub hides comments."""
    return markdown.replace("<!-- ::: ", "::: ").replace(" ::: -->", "")
