#!/usr/bin/env bash
# GRPO's learning rate on the demo task, tuned before anything is compared with it: 4 rates × 2 seeds.
set -euo pipefail
cd "$(dirname "$0")/.."
.venv/bin/rlsd compare examples/chain/rlsd.toml \
  --methods 'grpo-2e-4=grpo,grpo-3e-4=grpo,grpo-5e-4=grpo,grpo-8e-4=grpo' \
  --set-for 'grpo-2e-4:learner.lr=2e-4' --set-for 'grpo-3e-4:learner.lr=3e-4' \
  --set-for 'grpo-5e-4:learner.lr=5e-4' --set-for 'grpo-8e-4:learner.lr=8e-4' \
  --set run.groups_per_step=8 --set run.steps=300 --seeds 2 --parallel 2 --out runs/tune-grpo
mkdir -p benchmarks/results
cp runs/tune-grpo/results.json benchmarks/results/tune_grpo.json
cp runs/tune-grpo/compare.png benchmarks/results/tune_grpo.png
