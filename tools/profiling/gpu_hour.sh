#!/usr/bin/env bash
# Measures everything that needs a GPU, most important first. Each row prints its values as it measures them and has its
# own time limit. A row that fails or takes too long leaves what it measured.
#
#   bash tools/profiling/gpu_hour.sh                 one hour on an H100 or H200
#   reduced=yes bash tools/profiling/gpu_hour.sh     every row with the smallest networks, on a CPU
#   rows="step sample" results=FILE bash tools/profiling/gpu_hour.sh
#
# Needs no network, no weights and no data; in addition to torch, lightning, torchmetrics and transformers only diffusers,
# hydra-core, omegaconf, deepspeed and webdataset.
set -uo pipefail
cd "$(dirname "$0")/../.."
results=${results:-gpu_hour.txt}
python=${python:-python}
declare -A limit=([step]=150 [sample]=90 [profile]=150 [compile]=600 [vaid]=120 [vae]=120 [px1024]=180 [zero2]=240)
scale=1; if [ "${reduced:-no}" = yes ]; then scale=6; fi  # a shared CPU takes minutes to import torch
export HF_HUB_OFFLINE=1 PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True
: > "$results"
failed=0
for row in ${rows:-step sample profile vaid vae px1024 compile zero2}; do
  timeout $((scale * ${limit[$row]:-300})) "$python" -m tools.profiling.gpu_rows "row=$row" "reduced=${reduced:-no}" \
    2> "$results.$row.log" | tee -a "$results"
  status=${PIPESTATUS[0]}
  if [ "$status" = 0 ]; then
    rm -f "$results.$row.log"
  else
    failed=$((failed + 1))
    echo "$row failed with status $status; see $results.$row.log" | tee -a "$results"
  fi
done
exit "$failed"
