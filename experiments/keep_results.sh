#!/usr/bin/env bash
# Copy what a run measured into results/: experiments/keep_results.sh runs/study/colored-mnist results/colored-mnist
set -euo pipefail
if [ $# -ne 2 ] || [ ! -f "$1/results.json" ]; then
  echo "usage: $0 SOURCE TARGET, where SOURCE holds the results.json of a finished run" >&2
  exit 2
fi
source=$1 target=$2
if grep -nE '"(/|~|\.\.|[A-Za-z]:\\)' "$source/results.json" >&2; then
  echo "a path of this machine: run it with relative folders, and --data-dir '\$ADVMIX_DATA'" >&2
  exit 1
fi
mkdir -p "$target"
cp "$source/results.json" "$target/"
if [ -d "$source/figures" ]; then
  rm -rf "$target/figures"
  cp -r "$source/figures" "$target/"
fi
