#!/usr/bin/env bash
# RLSD, its controls and its neighbours on the demo task, at matched steps, through the services.
# GRPO's rate is the best of benchmarks/tune_grpo.sh; grpo-same-lr uses RLSD's. OPSD is the reverse KL
# over the whole vocabulary (26 tokens), and GRPO+OPSD adds it with weight 1.
set -euo pipefail
cd "$(dirname "$0")/.."
.venv/bin/rlsd compare examples/chain/rlsd.toml \
  --methods 'grpo,grpo-same-lr=grpo,rlsd,rlsd:permuted,rlsd:other-reference,opsd,grpo+opsd' \
  --set-for 'grpo:learner.lr=5e-4' \
  --set-for 'opsd:method.beta=1.0' \
  --set-for 'grpo+opsd:method.beta=1.0' --set-for 'grpo+opsd:method.divergence_weight=1.0' \
  --set run.groups_per_step=8 --set run.steps=300 --seeds "${SEEDS:-3}" --parallel 2 --out runs/compare-methods
mkdir -p benchmarks/results
cp runs/compare-methods/results.json benchmarks/results/compare_methods.json
cp runs/compare-methods/compare.png benchmarks/results/compare_methods.png
