"""The set-up: what it says on machines that lack something, what it installs where, and its locks."""

import hashlib
import os
import re
import stat
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
INSTALLATION = ROOT / "installation"
# The only commands of this machine that the scripts under test see.
TOOLS = (
    "awk basename cat cksum cut df dirname du echo env expr grep head ls mkdir printf rm sed seq sh sort tail tr true"
).split()
Script = Callable[[str, str], Path]


@pytest.fixture
def commands(tmp_path: Path) -> Path:
    """A folder for PATH: shell tools, git, Python and a compiler; a test takes some away or puts others in place."""
    folder = tmp_path / "commands"
    folder.mkdir()
    for tool in [*TOOLS, "git"]:
        found = subprocess.run(["/bin/sh", "-c", f"command -v {tool}"], capture_output=True, text=True).stdout.strip()
        if found.startswith("/"):
            (folder / tool).symlink_to(found)
    write(folder, "uname", "case $1 in -m) echo x86_64 ;; *) echo Linux ;; esac")
    write(folder, "ldd", "echo 'ldd (GNU libc) 2.41'")
    write(folder, "python3", f'exec "{sys.executable}" "$@"')
    write(folder, "compiler", "exit 0")
    return folder


def write(folder: Path, name: str, script: str) -> Path:
    """A command of a test's own."""
    path = folder / name
    path.unlink(missing_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


# What stands in /etc/os-release, in a few words.
SYSTEMS = {
    "debian": 'ID=debian\nPRETTY_NAME="Debian GNU/Linux 13 (trixie)"',
    "ubuntu": 'ID=ubuntu\nID_LIKE=debian\nPRETTY_NAME="Ubuntu 24.04 LTS"',
    "fedora": 'ID=fedora\nPRETTY_NAME="Fedora Linux 43"',
    "rhel": 'ID=rhel\nID_LIKE=fedora\nPRETTY_NAME="Red Hat Enterprise Linux 9.6"',
    "arch": 'ID=arch\nPRETTY_NAME="Arch Linux"',
    "tumbleweed": 'ID=opensuse-tumbleweed\nID_LIKE="opensuse suse"\nPRETTY_NAME="openSUSE Tumbleweed"',
    "leap": 'ID=opensuse-leap\nID_LIKE="suse opensuse"\nPRETTY_NAME="openSUSE Leap 15.6"',
    "alpine": 'ID=alpine\nPRETTY_NAME="Alpine Linux v3.22"',
    "void": 'ID=void\nPRETTY_NAME="Void Linux"',
}


@pytest.fixture
def check(tmp_path: Path, commands: Path) -> Callable[..., str]:
    """What check_machine.sh says where `commands` is all there is, in a repository with one commit."""
    project = tmp_path / "project"
    project.mkdir()
    git = ["git", "-c", "user.name=me", "-c", "user.email=me@localhost"]
    subprocess.run([*git, "init", "--quiet"], cwd=project, check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "--message", "first"], cwd=project, check=True)

    def run(system: str = "debian", python: str = "python3", compiler: str = "compiler") -> str:
        release = tmp_path / "os-release"
        release.write_text(SYSTEMS.get(system, ""))
        environment = {"PATH": str(commands), "OS_RELEASE": str(release), "CXX": compiler, "HOME": str(tmp_path)}
        done = subprocess.run(
            ["sh", INSTALLATION / "check_machine.sh", python],
            cwd=project,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.stderr == ""
        assert done.returncode == (1 if done.stdout else 0)
        return done.stdout

    return run


def test_nothing_is_said_of_a_machine_that_has_all(check: Callable[..., str]) -> None:
    assert check() == ""


@pytest.mark.parametrize(
    ("system", "cure"),
    [
        ("debian", "sudo apt-get install git"),
        ("ubuntu", "sudo apt-get install git"),
        ("fedora", "sudo dnf install git"),
        ("rhel", "sudo dnf install git"),
        ("arch", "sudo pacman -S git"),
        ("tumbleweed", "sudo zypper install git"),
        ("void", "conda create -n cpal -c conda-forge python=3.13 git"),
        ("no os-release", "conda create -n cpal -c conda-forge python=3.13 git"),
    ],
)
def test_missing_git_has_the_cure_of_its_system(
    system: str, cure: str, commands: Path, check: Callable[..., str]
) -> None:
    (commands / "git").unlink()
    said = check(system)
    assert "git is missing" in said
    assert cure in said


@pytest.mark.parametrize(
    ("system", "cure"),
    [
        ("debian", "apt-get install g++"),
        ("fedora", "dnf install gcc-c++"),
        ("arch", "pacman -S gcc"),
        ("leap", "zypper install gcc-c++"),
        ("void", "cxx-compiler"),
    ],
)
def test_missing_compiler(system: str, cure: str, check: Callable[..., str]) -> None:
    said = check(system, compiler="no-such-compiler")
    assert "no C++ compiler (no-such-compiler does not work)" in said
    assert cure in said


@pytest.mark.parametrize(
    ("system", "cure"), [("debian", "python3-dev"), ("fedora", "python3-devel"), ("leap", "python3-devel")]
)
def test_missing_headers(system: str, cure: str, commands: Path, check: Callable[..., str]) -> None:
    write(commands, "compiler", "! grep -q Python.h")
    said = check(system)
    assert "(Python.h)" in said
    assert cure in said


def test_missing_venv_names_the_package_of_that_python(commands: Path, check: Callable[..., str]) -> None:
    write(commands, "python3.12", f'case "$*" in *ensurepip*) exit 1 ;; esac; exec "{sys.executable}" "$@"')
    said = check("ubuntu", python="python3.12")
    assert "python3.12 lacks the venv module" in said
    assert "sudo apt-get install python3.12-venv" in said


def old_python(commands: Path, name: str, version: str) -> None:
    write(commands, name, f'[ "$1" = --version ] && echo "Python {version}"; exit 1')


@pytest.mark.parametrize("version", ["3.10.12", "3.15.0"])
def test_another_python_that_is_there_is_named(version: str, commands: Path, check: Callable[..., str]) -> None:
    old_python(commands, "python3", version)
    write(commands, "python3.13", f'exec "{sys.executable}" "$@"')
    said = check()
    assert f"python3 is Python {version}; CPAL runs on" in said
    assert "use the python3.13 that is here instead: PYTHON=python3.13 make setup" in said


@pytest.mark.parametrize(
    ("system", "cure"),
    [
        ("debian", "uv python install 3.13"),
        ("ubuntu", "sudo add-apt-repository ppa:deadsnakes/ppa"),
        ("fedora", "sudo dnf install python3.13 python3.13-devel"),
        ("rhel", "sudo dnf install python3.12 python3.12-devel"),
        ("tumbleweed", "sudo zypper install python313 python313-devel"),
        ("leap", "sudo zypper install python312 python312-devel"),
        ("arch", "conda create -n cpal -c conda-forge python=3.13"),
    ],
)
def test_no_python_that_fits(system: str, cure: str, commands: Path, check: Callable[..., str]) -> None:
    old_python(commands, "python3", "3.9.2")
    assert cure in check(system)


def test_python_that_does_not_exist(commands: Path, check: Callable[..., str]) -> None:
    said = check(python="python3.7")
    assert "python3.7 is missing" in said
    assert "PYTHON=python3 make setup" in said


def test_macos(commands: Path, check: Callable[..., str]) -> None:
    write(commands, "uname", "case $1 in -m) echo arm64 ;; *) echo Darwin ;; esac")
    said = check("no os-release", compiler="no-such-compiler")
    assert "This machine (macOS)" in said
    assert "xcode-select --install" in said
    write(commands, "uname", "case $1 in -m) echo x86_64 ;; *) echo Darwin ;; esac")
    assert "no wheels for Macs with Intel processors" in check("no os-release")


def test_systems_without_wheels_of_torch(commands: Path, check: Callable[..., str]) -> None:
    assert "torch has no wheels for musl" in check("alpine")
    write(commands, "ldd", "echo 'musl libc (x86_64)' >&2; exit 1")
    assert "torch has no wheels for musl" in check("void")
    write(commands, "ldd", "echo glibc")
    write(commands, "uname", "case $1 in -m) echo armv7l ;; *) echo Linux ;; esac")
    assert "torch has no wheels for armv7l" in check()
    write(commands, "uname", "case $1 in -m) echo x86_64 ;; *) echo MINGW64_NT-10.0 ;; esac")
    assert "WSL" in check("no os-release")


def test_the_cure_for_a_folder_without_git_works(tmp_path: Path, check: Callable[..., str]) -> None:
    project = tmp_path / "project"
    subprocess.run(["rm", "-r", project / ".git"], check=True)
    (project / "file").touch()
    said = check()
    assert "GitHub's ZIP" in said
    cure = next(line for line in said.splitlines() if line.strip().startswith("git init"))
    subprocess.run(cure, shell=True, cwd=project, check=True, capture_output=True)
    assert check() == ""


def test_the_cure_for_a_repository_without_commit_works(tmp_path: Path, check: Callable[..., str]) -> None:
    project = tmp_path / "project"
    subprocess.run("rm -r .git; git init --quiet; touch file", shell=True, cwd=project, check=True)
    said = check()
    assert "git does not read this repository" in said
    cure = next(line for line in said.splitlines() if line.strip().startswith("git add"))
    subprocess.run(cure, shell=True, cwd=project, check=True, capture_output=True)
    assert check() == ""


# --- install.sh ---

VERSION = re.findall(r"^torch==([^ ]+)", (INSTALLATION / "locks" / "torch.txt").read_text(), re.M)[0]
# A venv's python whose pip notes what it was asked for. `pip index versions` says what INDEX holds.
FAKE_PYTHON = f"""
log=$LOG
case "$*" in
    "-m venv --clear "*)
        for last in "$@"; do :; done
        rm -rf "$last"
        mkdir -p "$last/bin" && touch "$last/pyvenv.cfg" && cp "$0" "$last/bin/python"
        echo "venv" >>"$log"
        exit ;;
    *" index versions torch "*) echo "Available versions: $INDEX"; exit ;;
    *" config get "*) exit 1 ;;
    "-m pip "*)
        echo "$*" | sed 's/-m pip --disable-pip-version-check //' >>"$log"
        case "$*" in *"$BREAKS"*) exit 1 ;; esac
        exit ;;
esac
exec "{sys.executable}" "$@"
"""


class Setup:
    """A copy of the project's set-up beside a fake Python, and what its pip was asked for."""

    def __init__(self, folder: Path, commands: Path) -> None:
        self.folder, self.commands, self.log = folder, commands, folder / "log"
        subprocess.run(["cp", "-r", INSTALLATION, folder], check=True)
        write(folder / "installation", "check_machine.sh", "exit 0")
        write(commands, "python3", FAKE_PYTHON)
        for tool in ("cp", "touch", "chmod"):
            (commands / tool).symlink_to(f"/bin/{tool}")

    def __call__(self, code: int = 0, **variables: str) -> str:
        """What the set-up says; `asked` then holds what it asked pip for."""
        self.log.write_text("")
        environment = {"PATH": str(self.commands), "LOG": str(self.log), "INDEX": "", "BREAKS": "nothing breaks"}
        environment |= {"NVIDIA_DRIVER": "/does/not/exist"} | variables
        done = subprocess.run(
            ["sh", self.folder / "installation" / "install.sh"], env=environment, capture_output=True, text=True
        )
        assert done.returncode == code, done.stdout + done.stderr
        self.asked = self.log.read_text()
        return done.stdout + done.stderr


@pytest.fixture
def setup(tmp_path: Path, commands: Path) -> Setup:
    folder = tmp_path / "project"
    folder.mkdir()
    write(commands, "df", "echo Filesystem; echo disk 9 9 40000000 1% /")  # whatever this machine has
    return Setup(folder, commands)


def locks_in(asked: str) -> list[str]:
    return re.findall(r"installation/locks/(\w+)\.txt", asked)


def test_locks_in_their_order_then_the_project(setup: Setup) -> None:
    said = setup()
    assert "though there is no NVIDIA GPU" in said
    assert re.search(r"downloads: about \d{4} MB, \d{4} of them for torch", said)
    assert locks_in(setup.asked) == ["build", "torch", "packages"]
    assert all("--require-hashes" in line for line in setup.asked.splitlines() if "/locks/" in line)
    assert all("--no-deps --no-build-isolation" in line for line in setup.asked.splitlines() if "install" in line)
    assert setup.asked.splitlines()[-1].endswith("--editable .")
    assert not (setup.folder / ".venv" / "tmp").exists()


def test_a_second_set_up_does_nothing(setup: Setup) -> None:
    setup()
    assert (setup(), setup.asked) == ("", "")
    assert (setup(TORCH="cuda", PYTHON="python3"), setup.asked) == ("", "")


def test_without_a_gpu_the_small_torch_where_its_index_has_it(setup: Setup) -> None:
    said = setup(INDEX=f"2.0.0+cpu, {VERSION}+cpu")
    assert "as there is no NVIDIA GPU" in said
    assert f"--index-url https://download.pytorch.org/whl/cpu torch=={VERSION}+cpu torchvision==" in setup.asked
    assert locks_in(setup.asked) == ["build", "packages"]
    assert (setup(), setup.asked) == ("", "")
    assert "have changed" in setup(TORCH="cuda")
    assert locks_in(setup.asked) == ["build", "torch", "packages"]


def test_another_version_of_the_small_torch_is_not_taken(setup: Setup) -> None:
    setup(INDEX="2.0.0+cpu")
    assert locks_in(setup.asked) == ["build", "torch", "packages"]


def test_with_a_gpu_the_build_with_cuda(setup: Setup, tmp_path: Path) -> None:
    assert "as there is an NVIDIA GPU" in setup(INDEX=f"{VERSION}+cpu", NVIDIA_DRIVER=str(tmp_path))
    assert locks_in(setup.asked) == ["build", "torch", "packages"]


def test_torch_is_chosen_by_hand(setup: Setup, tmp_path: Path) -> None:
    setup(TORCH="cpu", TORCH_INDEX="file:///mirror", NVIDIA_DRIVER=str(tmp_path))
    assert f"--index-url file:///mirror torch=={VERSION}+cpu" in setup.asked
    setup(TORCH="cuda", INDEX=f"{VERSION}+cpu")
    assert locks_in(setup.asked) == ["build", "torch", "packages"]
    assert "TORCH=rocm: auto, cpu or cuda" in setup(code=1, TORCH="rocm")


def test_macos_has_one_torch(setup: Setup) -> None:
    write(setup.commands, "uname", "case $1 in -m) echo arm64 ;; *) echo Darwin ;; esac")
    setup(TORCH="cpu")
    assert locks_in(setup.asked) == ["build", "torch", "packages"]
    assert (setup(TORCH="cpu"), setup.asked) == ("", "")
    assert "no torch with CUDA for macOS" in setup(code=1, TORCH="cuda")


def test_changed_locks_build_anew(setup: Setup) -> None:
    setup()
    with (setup.folder / "installation" / "locks" / "packages.txt").open("a") as lock:
        lock.write("# another\n")
    assert "have changed" in setup()
    assert locks_in(setup.asked) == ["build", "torch", "packages"]


def test_a_set_up_that_stopped_begins_anew(setup: Setup) -> None:
    assert "stopped at: the other packages" in setup(code=1, BREAKS="packages.txt")
    assert "did not finish" in setup()
    assert locks_in(setup.asked) == ["build", "torch", "packages"]


def test_a_python_that_is_gone_builds_anew(setup: Setup) -> None:
    setup()
    (setup.folder / ".venv" / "bin" / "python").unlink()
    assert "have changed" in setup()


def test_no_network_names_index_and_proxy_without_passwords(setup: Setup) -> None:
    said = setup(code=1, BREAKS="build.txt", https_proxy="http://me:secret@proxy:8080", PIP_INDEX_URL="https://mirror/")
    assert "index: https://mirror/" in said
    assert "https_proxy=http://***@proxy:8080" in said
    assert "secret" not in said
    assert "proxy: none is set" in setup(code=1, BREAKS="build.txt")


def test_no_space(setup: Setup) -> None:
    write(setup.commands, "df", "echo Filesystem; echo disk 9 9 4000000 1% /")
    said = setup(code=1)
    assert "3906 MB are free where .venv lies, and the set-up needs 10000 MB" in said
    assert "install" not in setup.asked
    setup(TORCH="cpu")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


def stand_in(folder: Path, name: str, version: str) -> None:
    """An index's page of a package with one wheel that holds nothing, and the wheel's hash."""
    folder = folder / name
    folder.mkdir(parents=True)
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    about = f"{name}-{version}.dist-info"
    with ZipFile(wheel, "w") as archive:
        archive.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    link = wheel.name.replace("+", "%2B")
    (folder / "index.html").write_text(f'<a href="{link}#sha256={digest}">{wheel.name}</a>')


@pytest.fixture
def index(tmp_path: Path) -> Iterator[str]:
    """An index of builds for CPUs with stand-ins for the locked torch and torchvision."""
    for name in ("torch", "torchvision"):
        stand_in(tmp_path / "index", name, f"{locked()[name]}+cpu")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path / "index"))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def real_pip(setup: Setup, tmp_path: Path) -> Path:
    """Lets pip itself ask the index of builds for CPUs, and install from it into the folder that this returns."""
    folder = tmp_path / "installed"
    script = FAKE_PYTHON.replace('echo "Available versions: $INDEX"; exit', f'exec "{sys.executable}" "$@"')
    script = script.replace(
        '    "-m pip "*)',
        f'    *" --index-url "*) exec "{sys.executable}" "$@" --target "{folder}" ;;\n    "-m pip "*)',
    )
    write(setup.commands, "python3", script)
    return folder


def test_the_small_torch_comes_from_its_index(index: str, setup: Setup, real_pip: Path) -> None:
    assert "as there is no NVIDIA GPU" in setup(TORCH_INDEX=index, PIP_CONFIG_FILE=os.devnull)
    assert {path.name for path in real_pip.glob("*.dist-info")} == {
        f"{name}-{locked()[name]}+cpu.dist-info" for name in ("torch", "torchvision")
    }
    assert locks_in(setup.asked) == ["build", "packages"]


def test_a_file_that_the_index_did_not_mean_is_refused(
    index: str, setup: Setup, real_pip: Path, tmp_path: Path
) -> None:
    for wheel in (tmp_path / "index").rglob("*.whl"):
        with wheel.open("ab") as stream:
            stream.write(b"changed")
    said = setup(code=1, TORCH_INDEX=index, PIP_CONFIG_FILE=os.devnull)
    assert "HASHES" in said
    assert "stopped at: torch" in said
    assert not list(real_pip.glob("*.dist-info"))


def test_an_index_that_does_not_answer(index: str, setup: Setup, real_pip: Path) -> None:
    nobody = index.rsplit(":", 1)[0] + ":1"
    assert f"{nobody}, which has the small build for CPUs, does not answer" in setup(
        TORCH_INDEX=nobody, PIP_CONFIG_FILE=os.devnull
    )
    assert locks_in(setup.asked) == ["build", "torch", "packages"]


def test_fresh_systems_are_skipped_with_a_reason(setup: Setup, tmp_path: Path) -> None:
    write(setup.commands, "id", "echo 1000")
    done = subprocess.run(
        ["sh", setup.folder / "installation" / "test_fresh.sh"],
        env={"PATH": str(setup.commands), "FRESH_KEEP": str(tmp_path / "fresh")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "test-fresh is skipped: it needs debootstrap" in done.stdout


# --- The locks, and what pyproject.toml asks for ---

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def locked() -> dict[str, str]:
    """Version by package of all locks; each is there once."""
    found = [
        match
        for path in sorted((INSTALLATION / "locks").glob("*.txt"))
        for match in re.findall(r"^([a-z0-9-]+)==([^ ]+)", path.read_text(), re.M)
    ]
    assert len(found) == len(dict(found))
    return dict(found)


def test_locks_hold_what_pyproject_asks_for() -> None:
    asked = [
        *PROJECT["dependencies"],
        *(
            entry
            for name, extra in PROJECT["optional-dependencies"].items()
            if name not in ("heif", "ray")
            for entry in extra
        ),
    ]
    versions = locked()
    for requirement in map(Requirement, asked):
        if requirement.name != "cpal":
            assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)]), requirement


def test_locked_opencv_needs_no_x_libraries() -> None:
    assert "opencv-python-headless" in locked()
    assert "opencv-python" not in locked()


def test_every_locked_package_has_hashes() -> None:
    for path in (INSTALLATION / "locks").glob("*.txt"):
        for entry in re.split(r"\n(?=[a-z])", path.read_text())[1:]:
            assert "--hash=sha256:" in entry, entry


def test_supported_pythons_are_said_alike() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert PROJECT["requires-python"] == ">=3.11,<3.15"
    assert re.findall(r"Python :: (3\.\d+)", text) == ["3.11", "3.12", "3.13", "3.14"]
    assert 'target-version = "py311"' in text and 'python_version = "3.11"' in text
    assert "(3, 11) <= sys.version_info[:2] <= (3, 14)" in (INSTALLATION / "check_machine.sh").read_text()


# The library alone: CPAL in another network. What the pipeline needs on top must not be imported.
LIBRARY = ["cpal.method.learner", "cpal.method.prototypes", "cpal.settings.config"]
BLOCK = """
import importlib, sys
for name in {blocked}:
    sys.modules[name] = None  # importing it is an ImportError
for name in {modules}:
    importlib.import_module(name)
"""


def test_the_plug_in_needs_no_package_of_the_pipeline() -> None:
    blocked = (
        "open_clip mmseg mmengine mmcv pydensecrf joblib ijson pycocotools sklearn requests tqdm dvc dvclive typer"
    )
    code = BLOCK.format(blocked=blocked.split(), modules=LIBRARY)
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, cwd=ROOT)
