#!/usr/bin/env bash
# The demo as a newcomer runs it, after installation: accuracy, account and wall time, three seeds.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p benchmarks/results
out=benchmarks/results/demo.jsonl
: > "$out"
for seed in 0 1 2; do
  run=runs/benchmark-demo-$seed
  rm -rf "$run"
  started=$(date +%s.%N)
  .venv/bin/rlsd run examples/chain/rlsd.toml \
    --set "run.id=\"benchmark-demo-$seed\"" --set run.seed=$seed
  .venv/bin/python - "$run/summary.json" "$started" >> "$out" <<'PY'
import json, sys, time
summary = json.load(open(sys.argv[1]))
print(json.dumps({"wall_s": round(time.time() - float(sys.argv[2]), 1), **summary}))
PY
done
cat "$out"
