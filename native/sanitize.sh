#!/bin/sh
# Run the tests of the native renderer with the sanitizers of gcc: sh native/sanitize.sh [arguments of pytest].
# Buffers begin with 64 bytes, so that they grow: with larger ones an overflow may go unnoticed.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
library=build/sanitized/native_renderer.so
CC=gcc "$python" tools/build_native.py "$library" \
  --flags='-g -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all -DSKY_FIRST_BUFFER_BYTES=64'
# Python itself keeps memory until its end, and its own allocator would hide what is wrong in buffers it gives out.
NATIVE_LIBRARY=$PWD/$library \
  LD_PRELOAD="$(gcc -print-file-name=libasan.so):$(gcc -print-file-name=libubsan.so)" \
  ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 PYTHONMALLOC=malloc \
  "$python" -m pytest -p no:cacheprovider tests/rendering/test_native.py "$@"
