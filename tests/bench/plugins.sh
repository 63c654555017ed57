#!/usr/bin/env bash
# What plugins cost: `tidegate plugin bench` on the examples, and their native twins beside them. Part of `make bench`.
#
#     tests/bench/plugins.sh [TIDEGATE]     default: target/release/tidegate
. "$(dirname "$0")/../scripts/lib.sh"
tidegate=${1:-target/release/tidegate}
need_rust
need_plugin_target
say "Plugins and their twins"
(cd plugins && cargo build --release --locked --target wasm32-wasip2 && cargo build --release --locked -p twins)
built=plugins/target/wasm32-wasip2/release
config=$(mktemp)
trap 'rm -f "$config"' EXIT

# measure TITLE PLUGIN CONFIG: a block of figures.
measure() {
    printf '\n%s\n' "$1"
    printf '%s\n' "$3" >"$config"
    "$tidegate" plugin bench "$built/$2.wasm" --config "$config"
}

measure "no-op" hostile $'harm = "panic"\nafter = 1000000000'
measure "set-attribute" set_attribute $'key = "environment"\nvalue = "production"'
measure "redact, one masked key" redact 'mask = ["password"]'
measure "redact, one pattern" redact "patterns = { email = '[\\w.+-]+@[\\w-]+\\.[\\w.]+' }"
measure "filter, one rule by name" filter $'[[drop]]\nreason = "other"\nname = "other"'
measure "sample, all are kept" sample 'percentage = 100'
printf '\nset-attribute, swapped under load and idle\n'
need python3 "the swap of a plugin is timed by a script: apt-get install python3"
python3 tests/bench/plugin_swap.py "$tidegate" "$built/set_attribute.wasm"
printf '\nNative twins, over decoded objects\n'
plugins/target/release/twins
