#!/bin/sh
# Builds .venv from the locks of this folder: exact versions, each file checked against its hash.
# `make setup` runs it. It does nothing when .venv is complete and is what was asked for; else it builds .venv anew.
#
# Environment, all optional:
#   PYTHON       the Python to build with (python3)
#   TORCH        auto: without an NVIDIA GPU the small build for CPUs, where its index answers; cpu; cuda
#   TORCH_INDEX  where the build for CPUs is taken from (https://download.pytorch.org/whl/cpu)
set -eu
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
torch=${TORCH:-auto}
index=${TORCH_INDEX:-https://download.pytorch.org/whl/cpu}
venv=.venv
locks=installation/locks
ready=$venv/.ready # three lines: the locks' checksum, Python's version, cpu or pypi

# Not the Python of the .venv that is to be built: make and an activated environment put it first.
PATH=$(printf %s ":$PATH:" | sed "s,:$PWD/$venv/bin:,:,g; s,^:,,; s,:\$,,")

say() { echo "setup: $*"; }

fail() {
    echo "setup: $1" >&2
    shift
    printf '    %s\n' "$@" >&2
    exit 1
}

pip() { "$venv/bin/python" -m pip --disable-pip-version-check "$@"; }

# --no-deps: a lock is complete. --no-build-isolation: what has no wheel is built with the locked build tools; pydensecrf2
# asks for a Cython that cannot compile it for Python 3.13.
install() { pip install --no-deps --no-build-isolation "$@"; }

install_lock() {
    lock=$1
    shift
    install --require-hashes --requirement "$locks/$lock.txt" "$@"
}

minor_version() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])'; }

locked_version() { sed -n "s/^$1==\([^ ]*\).*/\1/p" "$locks/torch.txt"; }

# Megabytes that pip downloads for a lock on this system; make.py wrote them into the lock.
download() { sed -n "s/^# download on $(uname -s) $(uname -m): \([0-9]*\) MB/\1/p" "$locks/$1.txt" | grep . || echo 0; }

checksum() { cat "$locks"/*.txt | cksum; }

up_to_date() {
    [ -f "$ready" ] && "$venv/bin/python" -c '' 2>/dev/null || return 1
    [ "$(sed -n 1p "$ready")" = "$(checksum)" ] || return 1
    [ -z "${PYTHON:-}" ] || [ "$(sed -n 2p "$ready")" = "$(minor_version "$python" 2>/dev/null)" ] || return 1
    case $torch in
        cpu) [ "$(sed -n 3p "$ready")" = cpu ] || [ "$(uname -s)" = Darwin ] ;;
        cuda) [ "$(sed -n 3p "$ready")" = pypi ] ;;
    esac
}

has_gpu() { [ -e "${NVIDIA_DRIVER:-/proc/driver/nvidia}" ] || nvidia-smi >/dev/null 2>&1; }

# Does the index of the builds for CPUs answer, and has it torch's locked version for this Python and system?
cpu_build_exists() {
    pip index versions torch --index-url "$index" --retries 0 --timeout 5 2>/dev/null | grep -qF "$(locked_version torch)+cpu"
}

# Sets `build`, cpu or pypi, and says why.
choose_build() {
    build=pypi
    case $(uname -s)-$torch in
        Darwin-*) say "torch: PyPI's build for macOS" ;;
        *-cuda) say "torch: PyPI's build with CUDA, as TORCH=cuda asks for" ;;
        *-cpu)
            build=cpu
            say "torch: the build for CPUs from $index, as TORCH=cpu asks for"
            ;;
        *-auto)
            if has_gpu; then
                say "torch: PyPI's build with CUDA, as there is an NVIDIA GPU (TORCH=cpu chooses the small build)"
            elif cpu_build_exists; then
                build=cpu
                say "torch: the build for CPUs from $index, as there is no NVIDIA GPU (TORCH=cuda chooses the other)"
            else
                say "torch: PyPI's build with CUDA, although there is no NVIDIA GPU: $index, which has the small build for CPUs, does not answer"
            fi
            ;;
    esac
}

# Megabytes on the disk: what is installed, and the downloads beside it while pip unpacks them.
check_space() {
    case $(uname -s)-$build in
        Darwin-* | *-cpu) need=3500 ;;
        *) need=10000 ;;
    esac
    free=$(($(df -Pk "$venv" | awk 'NR == 2 {print $4}') / 1024))
    [ "$free" -ge "$need" ] || fail "$free MB are free where .venv lies, and the set-up needs $need MB" \
        "Free some, or let .venv be a link to a folder on a larger disk: mkdir /large/venv && ln -s /large/venv .venv" \
        "TORCH=cpu make setup needs 3500 MB."
}

say_download() {
    rest=$(($(download build) + $(download packages)))
    if [ $build = cpu ]; then
        say "downloads: about $rest MB, and torch for CPUs, about 200 MB; less what pip has in its cache"
    elif [ "$(download torch)" != 0 ]; then
        say "downloads: about $(($(download torch) + rest)) MB, $(download torch) of them for torch; less what pip has in its cache"
    fi
}

hide_passwords() { sed 's,//[^@/]*@,//***@,g'; }

no_network() {
    address=$(pip config get global.index-url 2>/dev/null || echo https://pypi.org/simple)
    proxies=$(env | grep -iE '^(https?|all)_proxy=.' || true)
    fail "pip could not get its first, small packages; its own message is above" \
        "index: $(echo "${PIP_INDEX_URL:-$address}" | hide_passwords)" \
        "proxy: $(echo "${PIP_PROXY:-${proxies:-none is set}}" | hide_passwords | tr '\n' ' ')" \
        "No network: connect, then call make setup again." \
        "A proxy that is missing: export https_proxy=http://HOST:PORT. One that is set and wrong: unset https_proxy http_proxy all_proxy" \
        "A company's mirror: $python -m pip config set global.index-url URL. Its certificates: ... config set global.cert FILE" \
        "\"Hashes do not match\": the mirror serves other files than PyPI does; choose another index."
}

stopped() {
    [ "$1" = 0 ] || echo "setup: stopped at: $step. Its message is above; make setup begins anew, and pip's cache has what was downloaded." >&2
}

case $(uname -s)-$torch in
    Darwin-cuda) fail "there is no torch with CUDA for macOS; leave TORCH=cuda out" ;;
    *-auto | *-cpu | *-cuda) ;;
    *) fail "TORCH=$torch: auto, cpu or cuda" ;;
esac
up_to_date && exit 0
installation/check_machine.sh "$python" >&2

[ ! -e $ready ] || say "the locks, the Python or the torch that is asked for have changed: building .venv anew"
[ -e $ready ] || [ ! -e $venv/pyvenv.cfg ] || say "building .venv anew: a set-up before this one did not finish"
rm -f $ready
"$python" -m venv --clear $venv
# Not in /tmp, which is small on many systems: it lies in memory.
TMPDIR=$PWD/$venv/tmp
export TMPDIR
mkdir "$TMPDIR"

choose_build
check_space
say_download

step="build tools"
install_lock build --quiet --retries 1 --timeout 15 || no_network

trap 'stopped $?' EXIT
step=torch
if [ $build = cpu ]; then
    # These two are not in the locks: PyPI does not have them. pip checks them against the hashes of the index's page.
    install --index-url "$index" "torch==$(locked_version torch)+cpu" "torchvision==$(locked_version torchvision)+cpu"
else
    install_lock torch
fi
step="the other packages (pydensecrf2 compiles for half a minute)"
say "$step"
MMCV_WITH_OPS=0 install_lock packages # nothing here uses mmcv's compiled operations
step="CPAL itself"
install --quiet --editable .
rm -r "$TMPDIR"

{
    checksum
    minor_version $venv/bin/python
    echo $build
} >$ready
say "done: Python $(sed -n 2p $ready), torch $(sed -n '3s/pypi/from PyPI/p;3s/cpu/for CPUs/p' $ready), $(du -sm $venv | cut -f1) MB in .venv"
