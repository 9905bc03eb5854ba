#!/bin/sh
# Proves the README: in a new, minimal Debian 12 root with nothing else installed, ./dev demo and ./dev test succeed.
#
# usage: clean_root.sh [--keep] [COMMAND...]      COMMAND: what to run instead of demo and test, e.g. demo
#
# Takes the committed tree (HEAD). The mirror, the proxy and the extra apt sources are those this machine's apt uses.
# Needs root, debootstrap and git, else exits with 77 (skipped). Everything it makes lies in one temporary folder;
# mounts and folder go away at exit, also after a failure or a signal. --keep leaves the folder, without mounts.
set -eu

suite=bookworm
skip() { echo "clean_root: skipped: $*"; exit 77; }
note() { echo "clean_root: $*"; }

keep=no
if [ "${1:-}" = --keep ]; then
    keep=yes
    shift
fi
[ "$#" -gt 0 ] || set -- demo test

[ "$(id -u)" -eq 0 ] || skip 'needs root'
for command in debootstrap git apt-get apt-config chroot; do
    command -v "$command" >/dev/null 2>&1 || skip "needs $command"
done

source_dir=$(cd "$(dirname "$0")/.." && pwd)
git -C "$source_dir" rev-parse -q --verify HEAD >/dev/null 2>&1 || skip "$source_dir has no commit"

# --- apt, as on this machine ------------------------------------------------------------------------------------------

# "uri suite component" of each source of this Debian release.
apt_sources() {
    # shellcheck disable=SC2016 # apt's variables, not the shell's
    apt-get indextargets --format '$(CREATED_BY) $(SITE) $(RELEASE) $(COMPONENT)' 2>/dev/null |
        awk -v suite="$suite" '$1 == "Packages" && $3 ~ "^" suite && !seen[$0]++ { print $2, $3, $4 }'
}

sources=$(apt_sources)
mirror=$(echo "$sources" | awk -v suite="$suite" '$2 == suite && $3 == "main" { print $1; exit }')
[ -n "$mirror" ] || skip "this machine's apt has no source for $suite main"

# --- the root, and its end --------------------------------------------------------------------------------------------

work=$(mktemp -d "${TMPDIR:-/tmp}/snakebridge-root.XXXXXX")
root=$work/root

# Innermost mount first, each only if it is one; nothing is removed while something is still mounted below.
# shellcheck disable=SC2317 # called by the trap
clean_up() {
    status=$?
    trap - EXIT HUP INT TERM
    for point in dev/shm proc; do
        if mountpoint -q "$root/$point" 2>/dev/null; then
            umount "$root/$point" 2>/dev/null || umount -l "$root/$point" || :
        fi
    done
    if grep -qF " $root/" /proc/self/mounts; then
        note "something is still mounted below $root; it stays"
    elif [ "$keep" = yes ]; then
        note "kept: $root"
    else
        rm -rf --one-file-system "$work"
    fi
    exit "$status"
}
trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# A mirror reached by https needs certificates in the root, the machine's own ones included.
include=
case $sources in
*https://*) include=--include=ca-certificates ;;
esac

note "making a $suite root from $mirror"
if ! debootstrap --variant=minbase $include "$suite" "$root" "$mirror" >"$work/debootstrap.log" 2>&1; then
    tail -n 30 "$work/debootstrap.log"
    note 'debootstrap failed'
    exit 1
fi

echo "$sources" | while read -r uri release component; do
    echo "deb $uri $release $component"
done >"$root/etc/apt/sources.list"
apt-config dump | grep -E '^Acquire::(http|https)::|^Acquire::Check-' |
    grep -vi 'Proxy-Auto-Detect' >"$root/etc/apt/apt.conf.d/99host" || :
for file in /etc/apt/trusted.gpg.d/*; do
    if [ -f "$file" ]; then cp "$file" "$root/etc/apt/trusted.gpg.d/"; fi
done
for file in /etc/resolv.conf /etc/hosts; do
    if [ -f "$file" ]; then cp -L "$file" "$root$file"; fi
done
if [ -n "$include" ] && [ -f /etc/ssl/certs/ca-certificates.crt ]; then
    cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
fi

mount -t proc proc "$root/proc"
mkdir -p "$root/dev/shm"
mount -t tmpfs -o nosuid,nodev,mode=1777,size=50% tmpfs "$root/dev/shm"

# A path with a space, because a user's may have one.
checkout='/srv/snake bridge'
mkdir -p "$root$checkout"
git -C "$source_dir" archive HEAD | tar -x -C "$root$checkout"

# --- the README's commands --------------------------------------------------------------------------------------------

# run COMMAND: ./dev COMMAND in the root, with nothing of this environment but proxies.
run() {
    # shellcheck disable=SC2016 # expanded by the inner shell
    env -i HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        TERM="${TERM:-dumb}" LANG=C.UTF-8 \
        ${http_proxy:+"http_proxy=$http_proxy"} ${https_proxy:+"https_proxy=$https_proxy"} \
        ${HTTP_PROXY:+"HTTP_PROXY=$HTTP_PROXY"} ${HTTPS_PROXY:+"HTTPS_PROXY=$HTTPS_PROXY"} \
        ${no_proxy:+"no_proxy=$no_proxy"} ${NO_PROXY:+"NO_PROXY=$NO_PROXY"} \
        chroot "$root" /bin/sh -c 'cd "$1" && exec ./dev "$2"' sh "$checkout" "$1"
}

bad=0
for command in "$@"; do
    note "./dev $command"
    if run "$command"; then
        note "./dev $command: ok"
    else
        note "./dev $command: FAILED with status $?"
        bad=1
    fi
done
exit "$bad"
