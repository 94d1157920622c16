#!/usr/bin/env bash
# Static binaries for Linux on x86-64 and AArch64, with the licences of all that is in them, into dist/. They run on any distribution, and on
# CPUs alone: a static program loads no CUDA library.
# Needs: rustup, musl-gcc (Debian: musl-tools), and for AArch64 an aarch64-linux-gnu-gcc (Debian: gcc-aarch64-linux-gnu).
set -euo pipefail
cd "$(dirname "$0")/.."

targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(x86_64-unknown-linux-musl aarch64-unknown-linux-musl)
version=$(cargo metadata --no-deps --format-version 1 | sed 's/.*"name":"evalsuite","version":"\([^"]*\)".*/\1/')

export CC_x86_64_unknown_linux_musl=musl-gcc
# Its own headers and library are glibc's: what is compiled in C (zstd, ring) needs neither of them at run time beyond what musl has too.
export CC_aarch64_unknown_linux_musl=aarch64-linux-gnu-gcc
export CFLAGS_aarch64_unknown_linux_musl="-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=0"
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER=rust-lld

for target in "${targets[@]}"; do
  rustup target add "$target" > /dev/null
  cargo build --release --locked --package evalsuite --target "$target"
  folder=dist/evalsuite-$version-$target
  rm -rf "$folder"
  mkdir -p "$folder"
  cp "target/$target/release/evalsuite" README.md CHANGELOG.md LICENSE-MIT LICENSE-APACHE "$folder"
  bash packaging/licences.sh "$target" > "$folder/LICENCES.txt"
  tar -C dist -czf "$folder.tar.gz" "$(basename "$folder")"
  echo "$folder.tar.gz"
done
