#!/bin/sh
# Fuzzes the language for some seconds (3600 when not told). Needs a C++ compiler for libFuzzer; stable Rust will do.
#   fuzz/run.sh [SECONDS] [more libFuzzer flags]
set -eu
cd "$(dirname "$0")"
seconds=${1:-3600}
[ $# -gt 0 ] && shift
target=$(rustc -vV | sed -n 's/^host: //p')
work=${FUZZ_WORK:-../target/fuzz}
mkdir -p "$work/corpus" "$work/found"
flags="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters"
flags="$flags -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1"
# With --target the flags stay with what is fuzzed and out of build scripts.
RUSTFLAGS="$flags" CARGO_TARGET_DIR=../target cargo build --release --target "$target"
[ "$seconds" -gt 0 ] || exit 0
exec nice -n 5 "../target/$target/release/testbed" "$work/corpus" ../kvm-compose/tests/corpus \
    -dict=testbed.dict -artifact_prefix="$work/found/" -max_total_time="$seconds" -timeout="${FUZZ_TIMEOUT_S:-5}" \
    -rss_limit_mb=3000 -max_len=8192 -print_final_stats=1 "$@"
