#!/usr/bin/env bash
# Boots a systemd of its own and runs a command under it:
#
#   tests/systemd/boot.sh COMMAND [ARGUMENT...]          exit status: COMMAND's; 77: it cannot be done here, and why
#
# The root file system is a copy-on-write layer in memory over this machine's: whatever is installed, changed or deleted inside is
# gone afterwards. Process ids, mounts, network (loopback only), host name and control groups are its own. This repository is
# mounted read-only at its path, and TIDEGATE_BOOT_FILES names more files and folders to mount, as FROM:TO separated
# by spaces. Needs root, util-linux, overlayfs and the systemd package, and says so when one of them is missing.
set -euo pipefail

skip() { printf 'SKIP: %s\n' "$*" >&2; exit 77; }

[ $# -ge 1 ] || { sed -n '2,9p' "$0" >&2; exit 2; }
manager=
for path in /lib/systemd/systemd /usr/lib/systemd/systemd; do [ -x "$path" ] && manager=$path && break; done
[ -n "$manager" ] || skip "systemd is not installed (apt-get install systemd)"
[ "$(id -u)" = 0 ] || skip "booting a systemd takes root"
for tool in unshare nsenter pivot_root mount setsid; do
    command -v "$tool" >/dev/null || skip "$tool is missing (apt-get install util-linux)"
done

repository=$(cd "$(dirname "$0")/../.." && pwd -P)
stage=$(mktemp -d /var/tmp/tidegate-boot.XXXXXX)
outer='' init=''
end() {
    # The kernel ends everything in the process namespace with its first process.
    [ -n "$init" ] && kill -KILL "$init" 2>/dev/null
    [ -n "$outer" ] && { kill -KILL "$outer" 2>/dev/null; wait "$outer" 2>/dev/null; }
    rm -rf "$stage"
}
trap 'end || true' EXIT

# Runs as the first process of the new namespaces, and becomes systemd.
become_systemd() {
    set -euo pipefail
    mount --make-rprivate /
    mount -t tmpfs -o size=75% tmpfs "$stage"
    mkdir "$stage/changes" "$stage/work" "$stage/root"
    mount -t overlay -o "lowerdir=/,upperdir=$stage/changes,workdir=$stage/work" overlay "$stage/root"
    cd "$stage/root"
    mount_into "$repository" "$repository"
    local pair
    for pair in ${TIDEGATE_BOOT_FILES:-}; do mount_into "${pair%%:*}" "${pair#*:}"; done
    mount -t proc proc proc
    mount --bind proc/sys proc/sys && mount -o remount,bind,ro proc/sys
    mount --rbind /sys sys
    umount -R sys/fs/cgroup 2>/dev/null || true
    mount -t cgroup2 cgroup2 sys/fs/cgroup 2>/dev/null || mount -t cgroup2 cgroup2 sys/fs/cgroup
    private_devices
    mount -t tmpfs tmpfs run
    mount -t tmpfs tmpfs tmp
    mkdir -p run/lock run/systemd/system
    # Containers tell packages to start no service, and to leave manual pages out; this is a machine.
    rm -rf etc/machine-id var/log/journal usr/sbin/policy-rc.d etc/dpkg/dpkg.cfg.d
    echo 0123456789abcdef0123456789abcdef >etc/machine-id
    # What would change this machine's kernel is left out, and so is what takes time for nothing.
    local unit
    for unit in systemd-sysctl systemd-modules-load systemd-binfmt systemd-udevd systemd-udev-trigger systemd-random-seed \
        systemd-update-utmp systemd-remount-fs; do
        ln -s /dev/null "run/systemd/system/$unit.service"
    done
    # Only what a service needs is started, not what this machine has installed.
    printf '[Unit]\nDescription=Test\nRequires=sockets.target\nAfter=sockets.target\nAllowIsolate=yes\n' \
        >run/systemd/system/tidegate-boot.target
    mkdir old-root
    pivot_root . old-root
    cd /
    umount -l /old-root
    # As on every machine: what is mounted for a service, such as its credentials, is mounted for all of it.
    mount --make-rshared /
    exec env -i PATH="$PATH" container=tidegate-boot "$manager" --system --unit=tidegate-boot.target \
        --log-target=console --show-status=no
}

# What every container has. The machine's own /dev would be changed by the systemd inside.
private_devices() {
    mount -t tmpfs -o mode=755,nosuid tmpfs dev
    local node
    for node in null zero full random urandom tty; do
        touch "dev/$node"
        mount --bind "/dev/$node" "dev/$node"
    done
    mkdir dev/pts dev/shm dev/mqueue
    mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts
    mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs dev/shm
    ln -s pts/ptmx dev/ptmx
    ln -s /proc/self/fd dev/fd
    ln -s fd/0 dev/stdin
    ln -s fd/1 dev/stdout
    ln -s fd/2 dev/stderr
}

mount_into() { # FROM TO
    [ -e "$1" ] || return 0
    if [ -d "$1" ]; then
        mkdir -p "./$2"
    else
        mkdir -p "./$(dirname "$2")" && touch "./$2"
    fi
    mount --bind "$1" "./$2" && mount -o remount,bind,ro "./$2"
}

export -f become_systemd private_devices mount_into
export repository stage manager
cd /
setsid unshare --fork --kill-child --pid --mount --uts --ipc --cgroup --net --mount-proc \
    bash -c become_systemd >"$stage.log" 2>&1 &
outer=$!
trap 'end || true; rm -f "$stage.log"' EXIT

inside() {
    nsenter --target "$init" --mount --pid --uts --ipc --net --cgroup --root -- env --chdir=/ -i \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 "$@"
}

# Which of its children is the first process is known as soon as there is one.
for _ in $(seq 300); do
    kill -0 "$outer" 2>/dev/null || break
    init=$(cat "/proc/$outer/task/$outer/children" 2>/dev/null || true)
    init=${init%% *}
    if [ -n "$init" ] && inside systemctl is-system-running 2>/dev/null | grep -qE 'running|degraded'; then
        inside "$@"
        exit
    fi
    sleep 0.1
done
cat "$stage.log" >&2
skip "systemd does not boot in namespaces of its own on this machine"
