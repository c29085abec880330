"""What the pages say is so: commands and their options, settings, links, files, and what scripts write into pages."""

import argparse
import inspect
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import typer
from dvc.cli import DvcParserError
from dvc.cli.parser import get_main_parser
from markdown_it import MarkdownIt
from ruamel.yaml import YAML
from test_structure import ROOMS, ROOT, STAGES, run
from torch.distributed.run import get_args_parser

import cpal
from cpal.maps.cams import MAP_NAMES
from docs.scripts import architecture, settings
from experiments.origin import read_rows
from experiments.results import STEP_NAMES

PAGES = sorted(path for pattern in ("*.md", "data/*.md", "docs/**/*.md") for path in ROOT.glob(pattern))
NAMES = [path.relative_to(ROOT).as_posix() for path in PAGES]
TEXTS = {name: path.read_text(encoding="utf-8") for name, path in zip(NAMES, PAGES, strict=True)}
SHELL = ("bash", "sh", "console", "shell")
FENCES = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
# Programs of others, whose options are not known here.
OTHERS = set(
    ". apt-get brew cd conda dnf docker export git labelme pacman pip-audit pre-commit ray sbatch sudo uv xcode-select "
    "zypper".split()
)
FOLDERS = "benchmarks|cpal|data|docs|examples|experiments|installation|profiles|stages|tests"


class Parsed(Exception):
    """A command line that its program has understood."""


def blocks(text: str) -> list[str]:
    return [block for language, block in FENCES.findall(text) if language in SHELL]


def commands(block: str) -> Iterator[list[str]]:
    """The words of each simple command of a shell block, without comments and assignments in front."""
    for line in re.sub(r"\$\([^)]*\)", "X", block.replace("\\\n", " ")).splitlines():
        lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars="&|;")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set("&|;"):
                while words and re.match(r"\w+=", words[0]):
                    words = words[1:]
                if words:
                    yield words
                words = []
            else:
                words.append(word)


FENCED = [(name, words) for name, text in TEXTS.items() for block in blocks(text) for words in commands(block)]


@cache
def parser_of(module: str) -> Callable[[list[str]], object]:
    """How a module of ours parses its command line: it is run as a command, up to where it does."""
    found: list[Callable[[list[str]], object]] = []
    parse_args = argparse.ArgumentParser.parse_args

    def typer_app(app: typer.Typer) -> None:
        command = typer.main.get_command(app)
        found.append(lambda words: command.make_context(module, list(words)))
        raise Parsed

    def plain(parser: argparse.ArgumentParser, *_: object) -> None:
        found.append(partial(parse_args, parser))
        raise Parsed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.Typer, "__call__", typer_app)
        patch.setattr(argparse.ArgumentParser, "parse_args", plain)
        patch.setattr(sys, "argv", [module])
        patch.delitem(sys.modules, module, raising=False)  # another test may have imported it
        with pytest.raises(Parsed):
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    return found[0]


def check(words: list[str]) -> None:
    """Raise, or fail, where a command line is none."""
    program, *rest = words
    if program.endswith(("python", "python3")):
        check_python(rest)
    elif program == "dvc":
        get_main_parser().parse_args(rest)
        check_dvc(rest)
    elif program == "make":
        assert {word for word in rest if "=" not in word} <= targets(), rest
    elif program == "torchrun":
        options = get_args_parser().parse_args(rest)
        assert options.module
        parser_of(options.training_script)(options.training_script_args)
    elif program.endswith("pip"):
        for extras in re.findall(r"\.\[([\w,]+)\]", " ".join(rest)):
            assert set(extras.split(",")) <= extra_names(), rest
        for path in re.findall(r"-r (\S+)", " ".join(rest)):
            assert (ROOT / path).exists(), path
    else:
        assert program in OTHERS, f"{program}: not known; name it in OTHERS if it is a program of others"


def check_python(words: list[str]) -> None:
    if words[0] != "-m":
        assert words[0].startswith("-") or (ROOT / words[0]).is_file(), words
        return
    module = words[1]
    if module == "stages":
        assert words[2:] in ([], ["--help"])
    elif module.startswith(("stages.", "experiments.", "benchmarks.")):
        parser_of(module)([word for word in words[2:] if word != "--help"])
    elif module.startswith("docs."):
        assert (ROOT / module.replace(".", "/")).with_suffix(".py").is_file()
    else:
        assert module in ("dask", "pip", "venv", "pytest"), module


def check_dvc(words: list[str]) -> None:
    """Settings and stages that a dvc command names."""
    for key in re.findall(r"-S ([\w.]+)=", " ".join(words)):
        assert key in setting_keys(), f"params.yaml has no {key}"
    if words[0] in ("repro", "commit", "status") or words[:2] == ["exp", "run"]:
        named = {word for word in words if re.fullmatch(r"[a-z]+_[a-z_]+|prepare|report", word)}
        assert named <= set(STAGES), named


@cache
def targets() -> set[str]:
    rules = re.findall(r"^([a-z0-9_ -]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    return set(" ".join(rules).split())


@cache
def extra_names() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return set(project["optional-dependencies"])


@cache
def setting_keys() -> set[str]:
    return {
        entry.path
        for entry in settings.keys((ROOT / "params.yaml").read_text(encoding="utf-8"))
        if not isinstance(entry, str)
    }


@pytest.mark.parametrize(("page", "words"), FENCED, ids=[f"{page}: {' '.join(words)}"[:90] for page, words in FENCED])
def test_a_command_is_understood_by_its_program(page: str, words: list[str]) -> None:
    check(words)


PROGRAM = re.compile(r"(\w+=\S+ )*(\.venv/bin/)?(python -m (stages|experiments|benchmarks|docs)\b|(dvc|make) )")


@pytest.mark.parametrize("page", NAMES)
def test_a_command_inside_a_sentence_exists(page: str) -> None:
    """Here what the command needs may be left out: `dvc add`, `python -m stages.import_cams`."""
    for code in re.findall(r"`([^`\n]+)`", FENCES.sub("", TEXTS[page])):
        for words in commands(code) if PROGRAM.match(code) else ():
            try:
                check(words)
            except DvcParserError:
                with pytest.raises(SystemExit, match="^0$"):
                    get_main_parser().parse_args([*words[1:], "--help"])
            except Exception as error:
                if type(error).__name__ != "MissingParameter":  # of click, or of typer's own copy of it
                    raise


@pytest.mark.parametrize(
    "line",
    [
        "python -m stages.prepare photo.jpg",
        "python -m stages.make_cams --limits 8",
        "python -m stages.export_masks --format psd --out exports",
        "python -m stages.no_such",
        "python -m benchmarks.run --fast",
        "python examples/no_such.py",
        "dvc exp run -S cpal.topkk=10",
        "dvc exp shows",
        "dvc repro train_cams",
        "make tests",
        "pip install '.[gpu]'",
        "torchrun --nproc 2 --modul -m stages.train_cam",
        "no-such-program",
    ],
)
def test_a_command_that_is_none_is_found(line: str) -> None:
    with pytest.raises((Exception, SystemExit)) as raised:
        check(next(commands(line)))
    assert not isinstance(raised.value, AttributeError | KeyError | IndexError), "a fault of the test"


# Links and files


def slugs(text: str) -> set[str]:
    """The names that GitHub, and the site, give the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", FENCES.sub("", text), re.MULTILINE)
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)|`", r"\1", heading) for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", NAMES)
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCES.sub("", TEXTS[page])):
        if target.startswith(("https://", "http://")):
            continue
        path, _, heading = target.partition("#")
        file = (PAGES[NAMES.index(page)].parent / path).resolve() if path else PAGES[NAMES.index(page)]
        assert file.is_file(), f"{target}: no such file; a link to a folder works on GitHub alone"
        if heading:
            assert heading in slugs(file.read_text(encoding="utf-8")), f"{target}: no such heading"


# What a command or the user makes, or what stands for a name; the history names files that are gone.
ELSEWHERE = re.compile(r".*(NAME|\bX\b|STEP|\*|\.\.\.)|(data|results|tests)/(?!README|\w+/test_\w+\.py|test_\w+\.py)")


@pytest.mark.parametrize("page", [name for name in NAMES if name != "CHANGELOG.md"])
def test_files_that_a_page_names_exist(page: str) -> None:
    for code in re.findall(r"`([^`\n]+)`", FENCES.sub("", TEXTS[page])):
        if re.fullmatch(rf"({FOLDERS})/[\w./-]+", code) and not ELSEWHERE.match(code):
            assert (ROOT / code).exists(), f"{code}: no such file"


def test_messages_to_look_for_are_those_of_the_code() -> None:
    part = TEXTS["docs/troubleshooting.md"].partition("## By message")[2].partition("Messages of other programs")[0]
    messages = re.findall(r"^\| `([^`]+)` \|", part, re.MULTILINE)
    assert len(messages) > 10
    files = [
        path for folder in ("cpal", "stages", "experiments", "installation") for path in (ROOT / folder).rglob("*")
    ]
    code = "".join(path.read_text(encoding="utf-8") for path in files if path.suffix in (".py", ".sh"))
    code = re.sub(r'"\n +f?"', "", code)  # a string that is written in parts
    for message in messages:
        for piece in message.split(" ... "):
            assert piece in code, f"{message}: no module has this message"


# The list of pages, the navigation of the site, and what scripts write


def test_every_page_is_in_the_list_and_in_the_navigation_in_one_order() -> None:
    listed = re.findall(r"^\| \[([^]]+)\]\(\1\)", TEXTS["docs/README.md"], re.MULTILINE)
    assert all(
        re.search(r"\?$", row) for row in re.findall(r"^\| \[.*\| (.+) \|$", TEXTS["docs/README.md"], re.MULTILINE)
    )
    listed = [(ROOT / "docs" / path).resolve().relative_to(ROOT).as_posix() for path in listed]
    shown = re.findall(
        r"^ *- (?:[^:\n]+: )?([\w/.]+\.md)$", (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2], re.MULTILINE
    )
    assert sorted(shown) == sorted(NAMES)
    inside = ("docs/hosts/", "docs/results/", "docs/README.md")  # these have lists of their own
    assert listed == [name for name in shown if not name.startswith(inside) or name in listed]
    for folder in ("docs/hosts", "docs/results"):
        pages = {Path(name).name for name in NAMES if name.startswith(f"{folder}/")} - {"README.md"}
        assert pages <= set(re.findall(r"\]\((\w+\.md)\)", TEXTS[f"{folder}/README.md"])), folder


@pytest.mark.parametrize("page", [name for name in NAMES if name.startswith(("docs/", "data/"))])
def test_a_page_says_first_what_it_answers(page: str) -> None:
    lines = TEXTS[page].splitlines()
    assert lines[0].startswith("# ")
    generated = page.startswith(("docs/results/table", "docs/results/figure")) or page == "docs/README.md"
    assert generated or re.match(r"This page answers: .*", lines[2]), lines[2]


def test_the_page_of_settings_is_of_these_settings() -> None:
    assert TEXTS["docs/settings.md"] == settings.page(), "run: python -m docs.scripts.settings"
    yaml = YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    assert setting_keys() == set(key_paths(yaml))
    row = next(line for line in TEXTS["docs/settings.md"].splitlines() if line.startswith("| `hosts.irn.momentum`"))
    assert row.startswith("| `hosts.irn.momentum` | `0.9` | from 0, below 1 |"), "as TrainingSection says"


def key_paths(values: dict[str, object], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from key_paths(value, f"{prefix}{key}.")


def test_the_picture_of_the_architecture_is_of_this_code() -> None:
    """All arrows, those left out too, follow from the picture; and it has the order that test_structure enforces."""
    root = ElementTree.fromstring(architecture.PICTURE.read_text(encoding="utf-8"))
    marks = [element.get("id", "") for element in root.iter()]
    arrows = {tuple(mark.split("-imports-")) for mark in marks if "-imports-" in mark}
    boxes = {mark.removeprefix("box-") for mark in marks if mark.startswith("box-")}
    assert boxes == {"stages", *ROOMS}, "run: python -m docs.scripts.architecture"
    reached: dict[str, set[str]] = {}
    for name in (*ROOMS, "stages"):
        below = {target for source, target in arrows if source == name}
        reached[name] = below.union(*(reached[other] for other in below))
    graph = architecture.imports()
    assert graph.number_of_edges() > 40
    assert reached == {name: reachable(graph, name) for name in graph}, "run: python -m docs.scripts.architecture"
    words = "".join(root.itertext())
    assert all(name in words for name in boxes)
    assert tuple(architecture.sub_packages()) == ROOMS


def reachable(graph: Any, name: str) -> set[str]:
    found: set[str] = set()
    waiting = set(graph[name])
    while waiting:
        found |= waiting
        waiting = {other for near in waiting for other in graph[near]} - found
    return found


def test_the_table_of_sub_packages_is_that_of_the_code() -> None:
    rows = re.findall(r"^\| \d+ \| `(\w+)` \| (.+) \|$", TEXTS["docs/architecture.md"], re.MULTILINE)
    assert tuple(name for name, _ in rows) == ROOMS


def test_the_reference_names_modules_and_letters_that_exist() -> None:
    page = TEXTS["docs/reference.md"]
    named = re.findall(r"^<!-- ::: ([\w.]+) ::: -->$", page, re.MULTILINE)
    links = re.findall(r"^\[`([\w.]+)`\]\(\.\./([\w/.]+)\)", page, re.MULTILINE)
    assert [name for name, _ in links] == [re.sub(r"\.[A-Z]\w+$", "", name) for name in named]
    for name, path in links:
        assert path in (f"{name.replace('.', '/')}.py", f"{name.replace('.', '/')}/__init__.py")
    letters = re.search(r"Shapes: (.+?)\.\n\n", inspect.getdoc(cpal) or "", re.DOTALL)
    assert letters and " ".join(letters[1].split()) in " ".join(page.split())


def test_the_toys_scores_on_pages_are_those_of_its_file() -> None:
    """Row by row: README of the results, hosts, taught CAM."""
    values = {
        row["row"]: float(row["value"]) for row in read_rows(ROOT / "docs/results/toy.csv") if row["figure"] == "mIoU"
    }
    cam, pacam, taught = (next(v for k, v in values.items() if k.startswith(f"{m}, fixed")) for m in MAP_NAMES.values())
    steps = [values[name] for name in STEP_NAMES.values()]
    table = TEXTS["docs/results/README.md"].partition("## With CPAL\n\n")[2].partition("\n\n")[0]
    column = [line.rsplit("|", 2)[1].strip() for line in table.splitlines()]
    right = [f"{value:.1f}" for value in (cam, pacam, taught, *steps[1:])]
    assert [cell for cell in column if re.fullmatch(r"[\d.]+", cell)] == right
    assert f"| irn | {' | '.join(right)} |" in TEXTS["docs/results/hosts.md"]
    one_lesson = re.search(r"^\| toy, seeds.*$", TEXTS["docs/taught_cam.md"], re.MULTILINE)
    assert one_lesson and [right[i] in one_lesson[0] for i in range(3)] == [True] * 3
    assert steps[0] == taught, "the seeds are those of the taught CAM"


def test_the_pipelines_page_shows_the_dag() -> None:
    graphs = [block for language, block in FENCES.findall(TEXTS["docs/pipeline.md"]) if language == "mermaid"]
    dag = run("-m", "dvc", "dag", "--md").strip()
    assert [f"```mermaid\n{graph}```" for graph in graphs] == [dag], f"docs/pipeline.md should show:\n{dag}"


# The site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    mkdocs = ROOT / ".cache/docs/bin/mkdocs"
    if not mkdocs.exists():
        pytest.skip("mkdocs is not installed: make docs installs it")
    folder = tmp_path_factory.mktemp("site")
    command = [str(mkdocs), "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(site: Path) -> None:
    reference = (site / "docs/reference/index.html").read_text(encoding="utf-8")
    assert 'id="cpal.method.prototypes.instance_prototypes"' in reference and "masked average pooling" in reference
    assert (site / "docs/architecture.svg").is_file() and (site / "index.html").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("page", [name for name in NAMES if name != "docs/reference.md"])
def test_a_page_means_the_same_on_github_and_on_the_site(site: Path, page: str) -> None:
    """MkDocs has another Markdown: there a list needs an empty line above, and a nested table four blanks."""
    path = Path(page)
    built = site / path.parent / ("index.html" if path.name == "README.md" else f"{path.stem}/index.html")
    article = re.search(r"<article[^>]*>(.*?)</article>", built.read_text(encoding="utf-8"), re.DOTALL)
    assert article
    github = MarkdownIt("commonmark", {"html": True}).enable("table").render(TEXTS[page])
    for tag in ("h1", "h2", "h3", "table", "tr", "li", "pre", "strong", "img"):
        assert len(re.findall(rf"<{tag}\b", article[1])) == len(re.findall(rf"<{tag}\b", github)), tag
