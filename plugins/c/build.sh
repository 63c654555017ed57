#!/bin/sh
# Makes a component of the C files here: build.sh [OUTPUT]. Needs clang, lld and wasi-libc, and Rust for its linker of
# components, which comes with every toolchain of rustup.
set -eu
output=${1:-plugin.wasm}
case $output in /*) ;; *) output=$PWD/$output ;; esac
cd "$(dirname "$0")"
host=$(rustc -vV | sed -n 's/^host: //p')
linker=$(rustc --print sysroot)/lib/rustlib/$host/bin/wasm-component-ld
[ -x "$linker" ] || { echo "there is no $linker: use a toolchain of rustup" >&2; exit 1; }
objects=$(mktemp -d)
trap 'rm -rf "$objects"' EXIT
for source in *.c; do
    clang --target=wasm32-wasi -mbulk-memory -O2 -std=c11 -Wall -Wextra -Werror -c "$source" -o "$objects/$source.o"
done
for source in bindings/*.c; do
    clang --target=wasm32-wasi -mbulk-memory -O2 -w -c "$source" -o "$objects/bindings-$(basename "$source").o"
done
"$linker" --wasm-ld-path "$(command -v wasm-ld)" --component-type ../wit/processor.wit --wasi-adapter none --no-entry \
    --gc-sections --strip-all -z stack-size=65536 -L /usr/lib/wasm32-wasi "$objects"/*.o -lc -o "$output"
echo "$output: $(wc -c <"$output") bytes"
