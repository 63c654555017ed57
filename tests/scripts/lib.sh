# Shared by the scripts beside it: where things are, and what must be there.
# shellcheck shell=bash
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

say() { printf '\n== %s\n' "$*"; }

die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# need COMMAND WHAT-TO-DO
need() { command -v "$1" >/dev/null 2>&1 || die "$1 is missing: $2"; }

need_rust() {
    [ -f "$HOME/.cargo/env" ] && . "$HOME/.cargo/env"
    need cargo "install Rust with rustup (https://rustup.rs)"
    cargo --version >/dev/null || die "cargo does not run"
    if ! cc --version >/dev/null 2>&1; then
        die "a C compiler is missing: apt-get install build-essential"
    fi
}

# What plugins are compiled for.
need_plugin_target() {
    rustup target list --installed 2>/dev/null | grep -q '^wasm32-wasip2$' \
        || rustup target add wasm32-wasip2 \
        || die "plugins need a target of Rust: rustup target add wasm32-wasip2"
}

# What is not tested on this machine, and why: `make test` says it at its end. Tests that need it pass without a look.
NOT_TESTED=()
export TIDEGATE_TEST_WITHOUT=

# What plugins in C are built with. Where it cannot be installed they are not tested, but in CI everything is.
need_c_plugins() {
    local packages=()
    command -v clang >/dev/null || packages+=(clang)
    command -v wasm-ld >/dev/null || packages+=(lld)
    [ -d /usr/include/wasm32-wasi ] || packages+=(wasi-libc)
    [ "${#packages[@]}" -eq 0 ] && return
    say "Packages for plugins in C: ${packages[*]}"
    local as_root=()
    [ "$(id -u)" -eq 0 ] || as_root=(sudo -n)
    if command -v apt-get >/dev/null && { [ "$(id -u)" -eq 0 ] || sudo -n true 2>/dev/null; }; then
        "${as_root[@]}" apt-get update -qq && "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
            apt-get install -qq -y --no-install-recommends "${packages[@]}" >/dev/null && return
    fi
    [ -z "${TIDEGATE_TEST_EVERYTHING:-}" ] || die "plugins in C need packages: apt-get install ${packages[*]}"
    TIDEGATE_TEST_WITHOUT="$TIDEGATE_TEST_WITHOUT c"
    NOT_TESTED+=("plugins in C: apt-get install ${packages[*]}")
}

# The embedded ClickHouse engine, fetched once.
need_engine() { # BINARY
    say "The embedded ClickHouse engine"
    need npm "the engine comes as an npm package: apt-get install npm"
    "$1" localdb --fetch-only
}
