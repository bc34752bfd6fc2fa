#!/bin/sh
# Fuzz the native renderer for some seconds: sh native/fuzz/run.sh [SECONDS]. Needs clang with libFuzzer.
# Inputs that were worth keeping stay in build/fuzz/corpus; one that fails is written to build/fuzz.
set -eu
cd "$(dirname "$0")/../.."
mkdir -p build/fuzz/corpus
clang -std=c11 -g -O1 -fno-omit-frame-pointer -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
  -DSKY_FIRST_BUFFER_BYTES=64 native/*.c native/fuzz/*.c -o build/fuzz/fuzz_renderer
exec build/fuzz/fuzz_renderer -max_total_time="${1:-60}" -max_len=4096 -timeout=5 -artifact_prefix=build/fuzz/ \
  -dict=native/fuzz/renderer.dict -print_final_stats=1 build/fuzz/corpus
