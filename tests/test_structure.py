"""dvc.yaml, imports, settings and documents agree with each other."""

import ast
import importlib
import re
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
from ruamel.yaml import YAML

import stages.job.command
import stages.job.paths
import stages.job.run
from cpal.settings.config import Config, load_config
from cpal.settings.hosts import HostsConfig
from cpal.settings.profiles import load_profile, merged

ROOT = Path(__file__).parent.parent
PACKAGES = ("cpal", "stages")
STAGES = YAML(typ="safe", pure=True).load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
PROFILES = sorted((ROOT / "profiles").glob("*.yaml"))
COMMANDS = sorted(
    path for path in (ROOT / "stages").glob("[a-z]*.py") if "\ndef main(" in path.read_text(encoding="utf-8")
)
MODULES = sorted(path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
ROOMS = (  # of cpal, from the ground up: a room imports only rooms before it
    *("running", "settings", "data", "maps", "networks", "training", "sources", "hosts", "affinity"),
    *("segmentation", "exports", "evaluation", "method", "report", "explain", "compare"),
)
# What no result depends on: values are watched as params, and files are read and written the same way.
GROUND = ("errors", "files")  # modules beside the rooms
PLUMBING = ("cpal/running/", "cpal/settings/", *(f"cpal/{name}.py" for name in GROUND), "stages/job/")


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"))


def imported(path: Path) -> set[str]:
    """Dotted names of all that a module imports, also inside functions; `from a import b` gives a and a.b."""
    names = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; name the package"
            assert node.module is not None
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def files(name: str) -> set[Path]:
    """Our files behind a dotted name: the module, and each package's __init__.py that holds more than a docstring."""
    parts = name.split(".")
    if parts[0] not in PACKAGES:
        return set()
    inits = [Path(*parts[:end], "__init__.py") for end in range(1, len(parts) + 1)]
    # cpal/__init__.py hands out the plug-in to those who ask for it by that name, which no module here does.
    found = {path for path in inits[1:] if (ROOT / path).is_file() and len(tree(path).body) > 1}
    module = Path(*parts).with_suffix(".py")
    return found | ({module} if (ROOT / module).is_file() else set())


def closure(path: Path) -> set[Path]:
    """A module, all of ours that it imports, and so on."""
    reached: set[Path] = set()
    waiting = {path}
    while waiting:
        reached |= waiting
        waiting = {file for module in waiting for name in imported(module) for file in files(name)} - reached
    return reached


def module_of(stage: str) -> Path:
    command = STAGES[stage]["cmd"].split()
    assert command[:2] == ["python", "-m"], command
    return Path(*command[2].split(".")).with_suffix(".py")


def data_paths(stage: str) -> set[Path]:
    """All that a stage reads and writes, but for code, the user's own data set and the folder that seeds.maps names."""
    entries = [entry for key in ("deps", "outs", "metrics", "plots") for entry in STAGES[stage].get(key, [])]
    names = {entry if isinstance(entry, str) else next(iter(entry)) for entry in entries}
    return {Path(name) for name in names if not is_code(name) and name not in ("${data.root}", "${seeds.maps}")}


def settings_read(path: Path) -> list[str]:
    """What a module reads of its config, as fine as dvc.yaml can name it: `seed`, `cpal`, `cam.scales`.

    A section that is used as a whole anywhere counts as a whole; all of them count where the module hands on the whole
    config, or reads the file's text. `chosen_host` is the section of the host that `host` names.
    """
    nodes = list(ast.walk(tree(path)))
    inner = {id(n.value): n.attr for n in nodes if isinstance(n, ast.Attribute) and not n.attr.startswith("model_")}
    owned = [n for n in nodes if isinstance(n, ast.Attribute) and ast.unparse(n.value) in ("config", "job.config")]
    loads = [n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)]
    handed_on = loads.count("config") > sum(ast.unparse(n.value) == "config" for n in owned)
    if handed_on or "job.params.read_text" in map(ast.unparse, nodes):
        return list(Config.model_fields)
    found: list[str] = []
    chosen = [inner.get(id(n)) for n in owned if n.attr == "chosen_host"]
    if chosen:
        found.append("host")
    if not set(chosen) <= {"first_round", "name"}:  # these are facts of the host and no settings
        found.append("hosts.${host}")
    if "job.maps" in map(ast.unparse, nodes):
        found.append("seeds.maps")
    if "job.predicted" in map(ast.unparse, nodes):
        found += ["seed", "evaluate.train_images"]
    for name, field in Config.model_fields.items():
        uses = [inner.get(id(n)) for n in owned if n.attr == name]
        if uses and None not in uses:
            keys = getattr(field.annotation, "model_fields", {})
            found += [f"{name}.{key}" for key in keys if key in uses]
        elif uses:
            found.append(name)
    return found


def code_deps(stage: str) -> list[str]:
    """The closure of a stage without plumbing; a room of which all files are in it is one entry, its folder."""
    names = {path.as_posix() for path in closure(module_of(stage))}
    names = {name for name in names if not name.startswith(PLUMBING)}
    if "cpal/hosts/build.py" in names:  # of the hosts that it builds a run has one
        read = [name.partition(".")[2] for name in params(stage) if name.startswith("hosts.")]
        names -= {f"cpal/hosts/{host}.py" for host in HostsConfig.model_fields}
        names |= {f"cpal/hosts/{host}.py" for host in read}
    for room in ROOMS:
        inside = {
            path.as_posix() for path in MODULES if path.is_relative_to(f"cpal/{room}") and len(tree(path).body) > 1
        }
        if len(inside) > 1 and inside <= names:
            names = names - inside | {f"cpal/{room}"}
    return sorted(names)


def is_code(dep: str) -> bool:
    return dep.startswith(tuple(f"{package}/" for package in PACKAGES))


@pytest.mark.parametrize("stage", STAGES)
def test_deps_are_the_import_closure(stage: str) -> None:
    listed = [dep for dep in STAGES[stage]["deps"] if is_code(dep)]
    right = code_deps(stage)
    assert listed == right, "dvc.yaml should list:\n" + "".join(f"      - {path}\n" for path in right)


@pytest.mark.parametrize("path", [path for path in MODULES if path.parts[0] == "cpal" and len(path.parts) > 2], ids=str)
def test_a_room_imports_only_rooms_below_it(path: Path) -> None:
    below = ROOMS[: ROOMS.index(path.parts[1]) + 1]
    rooms = {name.split(".")[1] for name in imported(path) if name.startswith("cpal.")}
    assert rooms <= {*below, *GROUND}, f"{path} imports {sorted(rooms - {*below})}"


def params(stage: str) -> list[str]:
    """What a stage reads of the settings, itself and through the classifier that it loads."""
    module, loader = module_of(stage), Path("stages/job/classifier.py")
    modules = [module, loader] if loader in closure(module) else [module]
    found = {name for path in modules for name in settings_read(path)}
    # Of a section that is read as a whole no key counts.
    found = {name for name in found if name.partition(".")[0] == name or name.partition(".")[0] not in found}
    order = [*Config.model_fields]
    return sorted(found, key=lambda name: (order.index(name.split(".")[0]), name))


@pytest.mark.parametrize("stage", STAGES)
def test_params_are_the_settings_read(stage: str) -> None:
    right = params(stage)
    assert STAGES[stage].get("params", []) == right, "dvc.yaml should list:\n" + "".join(
        f"      - {name}\n" for name in right
    )


@pytest.mark.parametrize("stage", STAGES)
def test_outputs_of_other_stages_are_listed_before_code(stage: str) -> None:
    deps = STAGES[stage]["deps"]
    assert deps == sorted(deps, key=lambda dep: (is_code(dep), dep))


@pytest.mark.parametrize("module", sorted({module_of(stage) for stage in STAGES}), ids=str)
def test_paths_of_a_stage_are_its_deps_and_outputs(module: Path) -> None:
    names = {
        name.removeprefix("stages.job.paths.") for name in imported(module) if name.startswith("stages.job.paths.")
    }
    # The report shows the classifier's curves and prototypes only beside maps that the classifier made: these bring the
    # order, and imported maps need no classifier.
    # What the stages took is no result, and no reason to run the report again.
    apart = {"PARAMS", "PIPELINE", "METRICS", "TIMES"}
    apart |= {"CLASSIFIER_CURVES", "PROTOTYPES"} if module.stem == "report" else set()
    used = {getattr(stages.job.paths, name) for name in names - apart if name.isupper()}
    # What a job reads for its stage.
    text = (ROOT / module).read_text(encoding="utf-8")
    if module.stem != "prepare":
        used.add(stages.job.paths.DATASET)
    if "trained_host(" in text or "fitted_classifier(" in text:
        used.add(stages.job.paths.CLASSIFIER)
    if "fitted_classifier(" in text:
        used.add(stages.job.paths.PROTOTYPES)
    if "fitted_classifier(" in text and "taught=False" not in text:
        used.add(stages.job.paths.TAUGHT_CAM)
    listed = {path for stage in STAGES if module_of(stage) == module for path in data_paths(stage)}
    above = {parent for path in listed for parent in (path, *path.parents)}
    assert used <= above, f"dvc.yaml misses {sorted(map(str, used - above))}"
    unused = {
        path for path in listed - used - {stages.job.paths.PARAMS} if stages.job.paths.METRICS not in path.parents
    }
    assert not unused, f"{module} does not use {sorted(map(str, unused))}"


@pytest.mark.parametrize("module", sorted({module_of(stage) for stage in STAGES}), ids=str)
def test_maps_come_from_where_the_settings_say(module: Path) -> None:
    deps = [dep for stage in STAGES if module_of(stage) == module for dep in STAGES[stage]["deps"]]
    assert ("${seeds.maps}" in deps) == ("job.maps" in ast.unparse(tree(module)))
    assert "data/cams" not in deps, "imported maps would then need a trained classifier"


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_go_one_way(path: Path) -> None:
    names = {name.split(".")[0] for name in imported(path)}
    text = (ROOT / path).read_text(encoding="utf-8")
    assert "import_module" not in text and "__import__" not in text, "an import by text hides a dependency"
    if path.parts[0] == "cpal":
        assert not names & {"stages", "typer", "click"}
    if path not in (Path("cpal/segmentation/deeplab.py"), Path("cpal/segmentation/heads.py")):
        assert "mmseg" not in names
    if path in (Path("cpal/method/prototypes.py"), Path("cpal/method/cam.py")):
        assert closure(path) == {path}, "the paper's functions stand alone"


def test_no_import_cycle() -> None:
    for path in MODULES:
        reached = {file for name in imported(path) for file in files(name)} - {path}
        assert all(path not in closure(file) for file in reached), f"{path} is imported by what it imports"


@pytest.mark.parametrize("path", [path for path in MODULES if path.parts[0] == "cpal"], ids=str)
def test_core_does_not_print(path: Path) -> None:
    calls = [
        node.func.id for node in ast.walk(tree(path)) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    assert "print" not in calls


def test_every_import_is_a_direct_dependency() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    declared = re.findall(r'^    "([\w.-]+)(?:\[\w+\])?>=', text, re.MULTILINE)
    for name in ("pillow-heif", "ray"):  # of extras that `make setup` leaves out
        declared.remove(name)
    provided = {"pillow_heif", "ray"} | {
        file.parts[0].removesuffix(".py") for name in declared for file in metadata.files(name) or []
    }
    for path in MODULES:
        tops = {name.split(".")[0] for name in imported(path)} - set(sys.stdlib_module_names) - set(PACKAGES)
        assert tops <= provided, f"{path}: {tops - provided} not in pyproject.toml"


def test_params_yaml_is_written_as_dvc_writes_it() -> None:
    """Else `dvc exp run -S` would change lines that it was not asked to change."""
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    same, _ = merged(text, {}, name="params.yaml")
    assert text == same


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_profile_is_valid_and_keeps_comments(path: Path) -> None:
    before = (ROOT / "params.yaml").read_text(encoding="utf-8")
    after, changes = merged(before, load_profile(path), name=path.name)
    assert changes
    comments = [re.findall(r"#.*", text) for text in (before, after)]
    assert comments[0] == comments[1]
    assert before.count("\n\n") == after.count("\n\n")


def test_params_yaml_is_valid() -> None:
    assert load_config(ROOT / "params.yaml").data.source == "toy"


def test_commands_are_listed_in_order() -> None:
    text = run("-m", "stages")
    names = [line.split()[0] for line in text.splitlines() if line.startswith("  ")]
    pipeline = list(dict.fromkeys(module_of(stage).stem for stage in STAGES))
    assert names == pipeline + sorted({path.stem for path in COMMANDS} - set(pipeline))
    assert all(line.split(maxsplit=1)[1].endswith(".") for line in text.splitlines() if line.startswith("  "))


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.stem)
def test_command_has_help(path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", [path.name, "--help"])
    main = importlib.import_module(f"stages.{path.stem}").main
    with pytest.raises(SystemExit, match="^0$"):
        if "run_stage(main" in path.read_text(encoding="utf-8"):
            stages.job.command.run_stage(main)
        else:
            stages.job.run.run(main)
    text = capsys.readouterr().out
    assert "--params" in text or path.stem in (
        *("compare", "import_cams", "import_labels", "import_masks", "convert_weights", "export_masks", "export_voc"),
    )


def test_every_stage_has_a_module_and_a_description() -> None:
    for stage, entry in STAGES.items():
        assert ROOT / module_of(stage) in COMMANDS, f"{stage}: no command {module_of(stage)}"
        assert entry["desc"], stage


def run(*arguments: str) -> str:
    """Output of a Python command in the project's folder."""
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, text=True, check=True, capture_output=True).stdout


# What reruns after a change


@pytest.mark.parametrize("stage", STAGES)
def test_no_plumbing_among_the_deps(stage: str) -> None:
    """A comment in errors.py or settings/ reruns nothing; values are watched as params."""
    assert not [dep for dep in STAGES[stage]["deps"] if f"{dep}/".startswith(PLUMBING) or dep in PLUMBING]


def test_params_yaml_says_which_stages_read_a_section() -> None:
    stages_ = [stage for stage in STAGES if stage != "report"]
    text, said = (ROOT / "params.yaml").read_text(encoding="utf-8"), dict[str, list[str]]()
    for names, found in re.findall(r"^#   (\w+(?:, \w+)*)  +(.+)$", text, re.MULTILINE):
        said |= dict.fromkeys(names.split(", "), found.split(", "))
    every = Config.model_fields.keys() - {"seed", "report"}
    assert said == {name: [stage for stage in stages_ if name in sections(stage)] for name in every}


def test_a_changed_setting_reruns_what_reads_it() -> None:
    readers = {name: {stage for stage in STAGES if name in sections(stage)} for name in Config.model_fields}
    assert readers["report"] == {"report"}
    assert readers["final_test"] == {"predict_segmentation", "report"}
    assert readers["walk"] == {"propagate_affinity", "report"}
    assert readers["pseudo_mask"] == {
        *("write_pseudo_masks", "evaluate_pseudo_mask", "train_segmentation", "report")  # the third reads one value
    }
    assert "train_cam" not in readers["cam"] | readers["seeds"] | readers["crf"] | readers["taught_cam"]


def sections(stage: str) -> set[str]:
    return {name.partition(".")[0] for name in STAGES[stage].get("params", [])}


@pytest.mark.parametrize("host", HostsConfig.model_fields)
def test_only_the_chosen_host_is_watched(host: str) -> None:
    others = {f"cpal/hosts/{name}.py" for name in HostsConfig.model_fields if name != host}
    for stage in set(STAGES) - {"first_round", "report"}:
        deps = {dep.replace("${host}", host) for dep in STAGES[stage]["deps"]}
        assert not deps & others, stage
        assert f"cpal/hosts/{host}.py" in deps or "cpal/hosts/build.py" not in deps, stage


def test_every_file_outside_the_cache_is_a_metric_or_a_plot() -> None:
    """DVC writes no run-cache entry for a stage that has another one: it would be trained anew in each clone."""
    for stage, entry in STAGES.items():
        assert all(isinstance(out, str) for out in entry.get("outs", [])), stage


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_functions_take_at_most_seven_parameters(path: Path) -> None:
    """But for commands, whose parameters are the options of the command line."""
    for node in ast.walk(tree(path)):
        if not isinstance(node, ast.FunctionDef) or node.name.startswith("_") or node.name == "main":
            continue
        names = {argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)} - {"self", "cls"}
        assert len(names) <= 7, f"{node.name}: {len(names)} parameters"
