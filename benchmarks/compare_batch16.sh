#!/usr/bin/env bash
# The same comparison with the demo's own batch, 16 prompts a step for 200 steps: RLSD against GRPO.
set -euo pipefail
cd "$(dirname "$0")/.."
.venv/bin/rlsd compare examples/chain/rlsd.toml --methods 'grpo,grpo-5e-4=grpo,rlsd' \
  --set-for 'grpo-5e-4:learner.lr=5e-4' --seeds 3 --parallel 2 --out runs/compare-batch16
mkdir -p benchmarks/results
cp runs/compare-batch16/results.json benchmarks/results/compare_batch16.json
cp runs/compare-batch16/compare.png benchmarks/results/compare_batch16.png
