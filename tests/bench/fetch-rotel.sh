#!/bin/sh
# Gets the Rotel release that `loadgen bench` compares with, from PyPI through pip, into target/bench/rotel.
# The binary needs libpython3.11 at run time (Debian: libpython3.11).
set -eu

version=0.0.1a15
sha256=2f4117e58410c933e0dc042a268ef738dab2e3a5d63b5831209acdac2a6ddcb7

root=$(cd "$(dirname "$0")/../.." && pwd)
target=$root/target/bench/rotel

works() {
    [ -x "$target/rotel-agent" ] && [ "$("$target/rotel-agent" --version 2>/dev/null)" = "rotel $version" ]
}

if works; then
    echo "rotel $version is there: $target/rotel-agent"
    exit 0
fi

download=$(mktemp -d)
trap 'rm -rf "$download"' EXIT INT TERM

python3 -m pip download --quiet --disable-pip-version-check --no-deps \
    --only-binary :all: --python-version 3.11 --implementation cp --abi cp311 --platform manylinux_2_34_x86_64 \
    --dest "$download" "rotel==$version"
wheel=$download/rotel-$version-cp311-cp311-manylinux_2_34_x86_64.whl
echo "$sha256  $wheel" | sha256sum --check --quiet -

python3 -m zipfile -e "$wheel" "$download/unpacked"
mkdir -p "$target"
install -m 755 "$download/unpacked/rotel/rotel-agent" "$target/rotel-agent"

if ! works; then
    echo "rotel does not run; what it says:" >&2
    "$target/rotel-agent" --version >&2 || true
    exit 1
fi
echo "rotel $version: $target/rotel-agent"
