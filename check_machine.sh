#!/bin/sh
# What `make setup` needs and pip cannot bring: Python 3.10-3.12 with venv and headers, git, a C++ compiler.
# Usage: check_machine.sh PYTHON. Names all that is missing, says how to get it, and exits with 1.

python=$1
problems=""
problem() { problems="$problems  - $1
"; }

supported() { "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 13))' 2>/dev/null; }

sysconfig() { "$python" -c "import sysconfig; print($1)"; }

# Compiles one line of C++ against this Python's headers.
compiles() { echo "$1" | $compiler -x c++ -fsyntax-only "-I$headers" - 2>/dev/null; }

command -v git >/dev/null 2>&1 || problem "git is missing"

if ! command -v "$python" >/dev/null 2>&1; then
    problem "$python is missing"
elif ! supported "$python"; then
    problem "$python is $("$python" --version 2>&1); CPAL runs on Python 3.10, 3.11 and 3.12"
    for other in python3.12 python3.11 python3.10; do
        supported "$other" && problem "use the $other that is here instead: PYTHON=$other make setup" && break
    done
else
    "$python" -c 'import ensurepip, venv' 2>/dev/null || problem "$python lacks the venv module"
    # As pip does: the compiler that this Python was built with, unless CXX names another.
    compiler=${CXX:-$(sysconfig '(sysconfig.get_config_var("CXX") or "c++").split()[0]')}
    headers=$(sysconfig 'sysconfig.get_path("include")')
    if ! compiles '#include <vector>'; then
        problem "no C++ compiler ($compiler does not work), which pydensecrf2 needs"
    elif ! compiles '#include <Python.h>'; then
        problem "the C headers of $python are missing (Python.h), which pydensecrf2 needs"
    fi
fi

[ -z "$problems" ] && exit 0
cat >&2 <<END
This machine is not ready for make setup:
$problems
Debian, Ubuntu:  sudo apt-get install git g++ python3-dev python3-venv
Fedora:          sudo dnf install git gcc-c++ python3.12 python3.12-devel     (then PYTHON=python3.12 make setup)
macOS:           xcode-select --install, then brew install python@3.12        (then PYTHON=python3.12 make setup)
elsewhere:       conda create -n py312 -c conda-forge python=3.12 git cxx-compiler, conda activate py312

Where the system's Python is too new, a second one beside it will do: PYTHON=/path/to/python3.12 make setup
END
exit 1
