#!/usr/bin/env bash
# Measures everything that needs a GPU, most important first: 15 minutes on an H100 or H200, the first two rows within
# four. Each value is printed and written as it is measured. Each row has its own time limit; a row that fails or takes
# longer is ended, and the next one goes on.
#
#   bash tools/profiling/gpu_hour.sh
#   rows="step sample" results=FILE bash tools/profiling/gpu_hour.sh
#   limit_step=60 bash tools/profiling/gpu_hour.sh   another limit for a row, seconds
#   reduced=yes bash tools/profiling/gpu_hour.sh     every row with the smallest networks, on a CPU
#
# Needs no network, no weights and no data; in addition to torch, lightning, torchmetrics and transformers only diffusers,
# hydra-core, omegaconf, deepspeed and webdataset.
set -uo pipefail
cd "$(dirname "$0")/../.."
results=${results:-gpu_hour.txt}
python=${python:-python}
declare -A limit=([step]=150 [sample]=90 [profile]=120 [compile]=180 [vaid]=60 [vae]=60 [px1024]=120 [zero2]=120)
scale=1; if [ "${reduced:-no}" = yes ]; then scale=6; fi  # a shared CPU takes minutes to import torch
export HF_HUB_OFFLINE=1 PYTORCH_ALLOC_CONF=expandable_segments:True PYTHONUNBUFFERED=1
: > "$results"
failed=0
for row in ${rows:-step sample profile vaid vae px1024 zero2 compile}; do
  own=limit_$row
  most=${!own:-$((scale * ${limit[$row]:-300}))}
  SECONDS=0
  timeout --kill-after=10 "$most" "$python" -m tools.profiling.gpu_rows "row=$row" "reduced=${reduced:-no}" \
    2> "$results.$row.log" | tee -a "$results"
  status=${PIPESTATUS[0]}
  if [ "$status" = 0 ]; then
    rm -f "$results.$row.log"
    printf '%-8s %-36s %10d s\n' "$row" "the whole row" "$SECONDS" | tee -a "$results"
  else
    failed=$((failed + 1))
    why="failed with status $status"
    if [ "$status" = 124 ] || [ "$status" = 137 ]; then why="took longer than its limit of $most s"; fi
    echo "$row $why; see $results.$row.log" | tee -a "$results"
  fi
done
exit "$failed"
