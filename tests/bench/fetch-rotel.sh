#!/bin/sh
# Gets the Rotel release that `loadgen bench` compares with, from PyPI through pip, into target/bench/rotel.
# The wheel is checked by its hash: the binary in it names an older version (0.0.1-alpha10).
# The binary needs libpython3.11 at run time (Debian: libpython3.11).
set -eu

version=0.0.1a15
sha256=2f4117e58410c933e0dc042a268ef738dab2e3a5d63b5831209acdac2a6ddcb7

root=$(cd "$(dirname "$0")/../.." && pwd)
target=$root/target/bench/rotel

if [ "$(cat "$target/version" 2>/dev/null)" = "$version $sha256" ] && "$target/rotel-agent" --version >/dev/null; then
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
"$target/rotel-agent" --version >/dev/null || {
    echo "rotel $version does not run here: is libpython3.11 installed?" >&2
    exit 1
}
echo "$version $sha256" >"$target/version"
echo "rotel $version: $target/rotel-agent"
