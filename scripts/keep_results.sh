#!/usr/bin/env bash
# Copy what a demo run measured into results/demo: scripts/keep_results.sh runs/results/digits-std0.1-seed0 [--report]
set -euo pipefail
source=$1
target="$(dirname "$0")/../results/demo/$(basename "$source")"
mkdir -p "$target"
cp "$source/results.json" "$source/config.json" "$target/"
if [ "${2:-}" = --report ]; then
  cp "$source/report.html" "$target/"
  cp -r "$source/figures" "$target/"
fi
