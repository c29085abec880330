#!/bin/sh
# Is here what `make setup` needs and pip cannot bring: git, Python 3.11 to 3.14 with venv and headers, a C++ compiler?
# Usage: check_machine.sh PYTHON, in the project's folder. Names all that is missing with the cure for this system, and
# exits with 1. OS_RELEASE names another file than /etc/os-release.

python=$1
problems=""
packages=""
problem() { problems="$problems  - $1
"; }

# --- This system: its packages by what they bring, and the command that installs them ---

ID="" ID_LIKE="" PRETTY_NAME=$(uname -s)
[ -r "${OS_RELEASE:-/etc/os-release}" ] && . "${OS_RELEASE:-/etc/os-release}"
family=other
for name in $(uname -s) $ID $ID_LIKE; do
    case $name in
        Darwin) family=macos PRETTY_NAME=macOS ;;
        MINGW* | MSYS* | CYGWIN*) family=windows ;;
        debian | ubuntu) family=debian ;;
        fedora | rhel | centos) family=fedora ;;
        arch | archlinux) family=arch ;;
        *suse*) family=suse ;;
        alpine) family=alpine ;;
        *) continue ;;
    esac
    break
done

# A package of this Python: python3 and its parts where the system's own is meant, python3.13 and so on where another is.
case $(basename "$python") in
    python3.1[1-4]) own=$(basename "$python") ;;
    *) own=python3 ;;
esac
case $family in
    debian) command="sudo apt-get install" git=git compiler_package=g++ headers_package=$own-dev venv_package=$own-venv ;;
    fedora) command="sudo dnf install" git=git compiler_package=gcc-c++ headers_package=$own-devel venv_package=$own ;;
    arch) command="sudo pacman -S" git=git compiler_package=gcc headers_package=python venv_package=python ;;
    suse)
        own=$(echo "$own" | tr -d .)
        command="sudo zypper install" git=git compiler_package=gcc-c++ headers_package=$own-devel venv_package=$own
        ;;
esac
need() { packages="$packages $1"; }

# How to get a Python that fits, on this system.
another_python() {
    case $family-$ID in
        debian-ubuntu)
            echo "sudo add-apt-repository ppa:deadsnakes/ppa && sudo apt-get install python3.13-venv python3.13-dev,"
            echo "    then PYTHON=python3.13 make setup"
            ;;
        fedora-fedora) echo "sudo dnf install python3.13 python3.13-devel, then PYTHON=python3.13 make setup" ;;
        fedora-*) echo "sudo dnf install python3.12 python3.12-devel, then PYTHON=python3.12 make setup" ;;
        suse-opensuse-leap | suse-sle*) echo "sudo zypper install python312 python312-devel, then PYTHON=python3.12 make setup" ;;
        suse-*) echo "sudo zypper install python313 python313-devel, then PYTHON=python3.13 make setup" ;;
        macos-*) echo "brew install python@3.13, then PYTHON=python3.13 make setup" ;;
        *)
            echo "with uv (https://docs.astral.sh/uv): uv python install 3.13, then PYTHON=\$(uv python find 3.13) make setup"
            echo "    or with conda: conda create -n cpal -c conda-forge python=3.13 git make cxx-compiler, conda activate cpal,"
            echo "    then make setup"
            ;;
    esac
}

# --- What is missing ---

supported() {
    "$1" -c 'import sys, sysconfig as s
sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14) or s.get_config_var("Py_GIL_DISABLED") == 1
         or sys.implementation.name != "cpython")' 2>/dev/null
}

sysconfig() { "$python" -c "import sysconfig; print($1)"; }

# Compiles one line of C++ against this Python's headers.
compiles() { echo "$1" | $compiler -x c++ -fsyntax-only "-I$headers" - 2>/dev/null; }

if [ $family = alpine ] || ldd --version 2>&1 | grep -qi musl; then
    problem "$PRETTY_NAME has musl for its C library, and torch has no wheels for musl: use a system with glibc, as Debian,
    in a container for example: docker run -it debian:13"
elif [ $family = windows ]; then
    problem "this is Windows: use WSL (wsl --install in PowerShell), and call make setup there"
elif [ "$(uname -s)-$(uname -m)" = Darwin-x86_64 ]; then
    problem "torch has no wheels for Macs with Intel processors any more: use Linux there, in a virtual machine for example"
elif ! expr "$(uname -m)" : '\(x86_64\|aarch64\|arm64\)$' >/dev/null; then
    problem "torch has no wheels for $(uname -m): use a 64-bit system on x86_64 or ARM"
fi

if ! command -v git >/dev/null 2>&1; then
    problem "git is missing"
    need "$git"
elif [ ! -e .git ]; then
    problem "this folder is no git repository, as after a download of GitHub's ZIP, and DVC needs one. Make it one here:
    git init && git add --all && git -c user.name=me -c user.email=me@localhost commit --quiet --message 'CPAL as downloaded'"
elif ! reason=$(git rev-parse --verify --quiet HEAD 2>&1 >/dev/null); then
    problem "git does not read this repository${reason:+: $reason}. If it has no commit yet:
    git add --all && git -c user.name=me -c user.email=me@localhost commit --quiet --message 'CPAL as downloaded'"
fi

if ! supported "$python"; then
    if ! command -v "$python" >/dev/null 2>&1; then
        problem "$python is missing; CPAL runs on Python 3.11, 3.12, 3.13 and 3.14"
    else
        problem "$python is $("$python" --version 2>&1); CPAL runs on CPython 3.11, 3.12, 3.13 and 3.14 (with the GIL)"
    fi
    for other in python3 python3.13 python3.14 python3.12 python3.11 ""; do
        if [ -z "$other" ]; then
            problem "get a Python that fits: $(another_python)"
        elif supported "$other"; then
            problem "use the $other that is here instead: PYTHON=$other make setup"
            break
        fi
    done
else
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        problem "$python lacks the venv module"
        need "$venv_package"
    fi
    # As pip does: the compiler that this Python was built with, unless CXX names another.
    compiler=${CXX:-$(sysconfig '(sysconfig.get_config_var("CXX") or "c++").split()[0]')}
    headers=$(sysconfig 'sysconfig.get_path("include")')
    if ! compiles '#include <vector>'; then
        problem "no C++ compiler ($compiler does not work), which pydensecrf2 needs"
        need "$compiler_package"
        # What is not there cannot be tried: the headers come along.
        [ -e "$headers/Python.h" ] || need "$headers_package"
    elif ! compiles '#include <Python.h>'; then
        problem "the C headers of $python are missing (Python.h), which pydensecrf2 needs"
        need "$headers_package"
    fi
fi

[ -z "$problems" ] && exit 0

echo "This machine ($PRETTY_NAME) is not ready for make setup:"
echo
printf %s "$problems"
if [ -n "$packages" ]; then
    echo
    case $family in
        macos) echo "Get it: xcode-select --install; what is Python's own: brew install python@3.13, PYTHON=python3.13 make setup" ;;
        other) echo "Get it: conda create -n cpal -c conda-forge python=3.13 git make cxx-compiler, conda activate cpal, make setup" ;;
        alpine | windows) ;;
        *) echo "Get it: $command$(echo "$packages" | tr ' ' '\n' | awk 'NF && !seen[$0]++ {printf " %s", $0}')" ;;
    esac
fi
exit 1
