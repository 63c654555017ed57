#!/bin/sh
# A container engine as far as a run knows one: a container is a process apart from who asked for it, kept by its name.
# What it was asked stands in `asked` beside it. Where there is a file `down` beside it, no engine answers.
set -u
here=$(dirname "$0")
echo "$*" >>"$here/asked"
if [ -e "$here/down" ]; then
    echo "Cannot connect to the engine" >&2
    exit 1
fi

for name; do :; done # the last word
known() {
    [ -s "$here/$name.pid" ] && return
    echo "Error: no such container: $name" >&2
    exit 1
}
signal() { kill "-$1" "-$(cat "$here/$name.pid")"; }

case $1 in
version) ;;
run)
    shift
    while :; do
        case $1 in
        --rm) shift ;;
        --name) name=$2 && shift 2 ;;
        --env) export "${2?}" && shift 2 ;;
        --network | --cpuset-cpus) shift 2 ;;
        *) break ;;
        esac
    done
    if [ "$1" = absent ]; then
        echo "Unable to find image '$1'" >&2
        exit 125
    fi
    shift
    # The mark of a run is for its own processes.
    unset LOADGEN_SUITE_RUN
    setsid "$@" &
    pid=$!
    echo $pid >"$here/$name.pid"
    trap 'kill -TERM $pid' TERM
    trap 'kill -INT $pid' INT
    # A signal that is passed on ends a wait, too.
    while wait $pid; status=$?; kill -0 $pid 2>/dev/null; do :; done
    rm -f "$here/$name.pid"
    exit $status
    ;;
container) known && cat "$here/$name.pid" ;;
kill)
    known
    if [ "$2" = --signal ]; then signal "$3"; else signal KILL; fi
    ;;
pause) known && signal STOP ;;
unpause) known && signal CONT ;;
rm) rm -f "$here/$name.pid" ;;
*)
    echo "unknown: $*" >&2
    exit 2
    ;;
esac
