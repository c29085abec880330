#!/bin/sh
# Does a newcomer's machine get through README's two commands? Builds bare systems, with README's packages and nothing
# else, copies the last commit into each, runs `make repro` and `make test` there with an empty home and environment,
# and prints a table. `make test-fresh` runs it; it takes about half an hour a system.
#
# Environment, all optional:
#   FRESH_SYSTEMS  Debian's releases to try ("bookworm trixie": Debian 12 and 13)
#   FRESH_BIND     files and folders of this machine that each system sees at the same place, or at B for A:B;
#                  for a local package index, pip's settings (~/.config/pip/pip.conf:/etc/pip.conf), certificates
#   FRESH_ENV      variables for the two commands: "TORCH=cpu https_proxy=http://proxy:8080"
#   FRESH_MIRROR   of Debian's packages (http://deb.debian.org/debian)
#   FRESH_KEEP     a folder: the systems are made in it, and stay there with their logs
set -u
cd "$(dirname "$0")/.." || exit 1

systems=${FRESH_SYSTEMS:-bookworm trixie}
mirror=${FRESH_MIRROR:-http://deb.debian.org/debian}
packages="git make g++ python3 python3-venv python3-dev ca-certificates"
folder=${FRESH_KEEP:-$(mktemp -d "${TMPDIR:-/tmp}/fresh.XXXXXX")}
mkdir -p "$folder"

if [ "$(id -u)" = 0 ] && command -v debootstrap >/dev/null && unshare --mount true 2>/dev/null; then
    way=chroot
elif docker info >/dev/null 2>&1; then
    way=docker
elif podman info >/dev/null 2>&1; then
    way=podman
else
    echo "test-fresh is skipped: it needs debootstrap and to be root, or docker or podman that answer"
    exit 0
fi

# What runs inside, as root, in an empty environment. $1 is the release.
cat >"$folder/inside.sh" <<END
exec 2>&1
export DEBIAN_FRONTEND=noninteractive
apt-get -q update >/dev/null && apt-get -qqy install --no-install-recommends $packages >/dev/null || exit 1
git config --system --add safe.directory '*' # the commit may be another user's
git clone --quiet /fresh/commit.git /srv/cpal && cd /srv/cpal || exit 1
export ${FRESH_ENV:-LC_ALL=C.UTF-8}
minutes() { awk "BEGIN {printf \"%.1f\", (\$(date +%s) - \$1) / 60}"; }
start=\$(date +%s)
make setup; rc=\$?
echo "FRESH setup \$rc \$(minutes \$start) \$(.venv/bin/python -V | cut -d' ' -f2) \$(du -sm .venv | cut -f1)"
start=\$(date +%s)
make repro; rc=\$?
echo "FRESH repro \$rc \$(minutes \$start)"
ran=\$rc
start=\$(date +%s)
make test; rc=\$?
echo "FRESH test \$rc \$(minutes \$start)"
[ \$ran = 0 ] || exit # the metrics that lie there are the commit's
.venv/bin/python - <<PY
import json
for file, keys in {"seed": ("cam", "pacam", "taught"), "crf": ("",), "pseudo_mask": ("",), "segmentation": ("",)}.items():
    scores = json.load(open(f"data/metrics/{file}.json"))
    for key in keys:
        print("FRESH metric", f"{file}.{key}".rstrip("."), scores[key or "miou"])
PY
END
git clone --quiet --bare . "$folder/commit.git.new" && rm -rf "$folder/commit.git" && mv "$folder/commit.git.new" "$folder/commit.git" || exit 1

in_chroot() {
    root=$folder/$1
    rm -rf "$root"
    debootstrap --variant=minbase --include=ca-certificates "$1" "$root" "$mirror" >"$folder/$1.debootstrap.log" || return 1
    # The mounts are the new process's own, and end with it: nothing of this machine hangs below the folder afterwards.
    unshare --mount --propagation private sh -eu -c '
        root=$1 fresh=$2
        mount -t proc proc "$root/proc"
        mount --rbind /dev "$root/dev"
        mkdir -p "$root/fresh"
        mount --bind "$fresh" "$root/fresh"
        cp /etc/resolv.conf "$root/etc/resolv.conf"
        shift 2
        for pair in "$@"; do
            to=$root${pair#*:}
            if [ -d "${pair%%:*}" ]; then mkdir -p "$to"; else mkdir -p "$(dirname "$to")" && touch "$to"; fi
            mount --bind "${pair%%:*}" "$to"
            mount -o remount,bind,ro "$to"
        done
        exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root chroot "$root" sh /fresh/inside.sh
    ' sh "$root" "$folder" ${FRESH_BIND:-}
}

in_container() {
    binds=""
    for pair in ${FRESH_BIND:-}; do
        binds="$binds --volume ${pair%%:*}:${pair#*:}:ro"
    done
    # shellcheck disable=SC2086  # one word each
    $way run --rm --shm-size 2g --volume "$folder:/fresh:ro" $binds "docker.io/library/debian:$1" sh /fresh/inside.sh
}

failed=0
for system in $systems; do
    echo "$system: made in a $way; its log is $folder/$system.log"
    case $way in
        chroot) in_chroot "$system" ;;
        *) in_container "$system" ;;
    esac >"$folder/$system.log" 2>&1 </dev/null
    for step in setup repro test; do
        grep -q "^FRESH $step 0 " "$folder/$system.log" || failed=1
    done
done

row() {
    printf '%-22s' "$1"
    shift
    for system in $systems; do
        printf ' %-20s' "$(sed -n "$1" "$folder/$system.log" | tail -n 1)"
    done
    echo
}
echo
printf '%-22s' ""
for system in $systems; do printf ' %-20s' "$system"; done
echo
row "Python" 's/^FRESH setup [0-9]* [0-9.]* \([0-9.]*\) .*/\1/p'
row "set-up, exit code" 's/^FRESH setup \([0-9]*\) .*/\1/p'
row "set-up, minutes" 's/^FRESH setup [0-9]* \([0-9.]*\).*/\1/p'
row ".venv, MB" 's/^FRESH setup .* \([0-9]*\)$/\1/p'
row "repro, exit code" 's/^FRESH repro \([0-9]*\) .*/\1/p'
row "repro, minutes" 's/^FRESH repro [0-9]* //p'
row "tests, exit code" 's/^FRESH test \([0-9]*\) .*/\1/p'
row "tests, minutes" 's/^FRESH test [0-9]* //p'
row "tests" 's/^=*  *\([0-9]* \(passed\|failed\|error\).*\) in .*/\1/p'
for metric in $(sed -n 's/^FRESH metric \([^ ]*\) .*/\1/p' "$folder"/*.log | awk '!seen[$0]++'); do
    row "$metric" "s/^FRESH metric $metric //p"
done

[ -n "${FRESH_KEEP:-}" ] || [ $failed = 1 ] || rm -rf "$folder"
exit $failed
