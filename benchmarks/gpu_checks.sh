#!/usr/bin/env bash
# What a CUDA machine can tell, in nine minutes at most, the most valuable first:
#
#     OUT=results benchmarks/gpu_checks.sh
#
# Each result is in the folder OUT as soon as there is one. On a machine without network, packages
# come from .gpu/setup.sh where there is one. SCENC_GPU_TESTS_ON=cpu tries the script on a CPU.
set -uo pipefail
cd "$(dirname "$0")/.."
OUT="$(mkdir -p "${OUT:-gpu_checks}" && cd "${OUT:-gpu_checks}" && pwd)"
SECONDS=0
LIMIT="${LIMIT:-540}"
failed=0

# Run a command for at most so many seconds, and not beyond the limit; keep what it prints.
step() {
  local name="$1" most="$2" left=$((LIMIT - SECONDS)) status=0
  shift 2
  if [ "$left" -lt 10 ]; then
    echo "$name: left out, no time" | tee -a "$OUT/steps.txt"
    return
  fi
  timeout --kill-after=5 "$((left < most ? left : most))" "$@" 2>&1 | tee "$OUT/$name.txt" || status=$?
  echo "$name: exit $status, $SECONDS s so far" | tee -a "$OUT/steps.txt"
  [ "$status" -eq 0 ] || failed=1
}

# shellcheck disable=SC1091
[ -f .gpu/setup.sh ] && . .gpu/setup.sh
: >"$OUT/steps.txt"
device=cuda presets="small base paper"
[ "${SCENC_GPU_TESTS_ON:-cuda}" = cpu ] && device=cpu presets=small

step machine 60 python3 - <<'PYTHON'
import platform

import lightning
import torch

print("python", platform.python_version(), "torch", torch.__version__)
print("lightning", lightning.__version__, "CUDA", torch.version.cuda, "on", platform.machine())
for number in range(torch.cuda.device_count()):
    card = torch.cuda.get_device_properties(number)
    print(f"{card.name}, {card.total_memory / 2**30:.0f} GiB, {card.major}.{card.minor}")
PYTHON

# scib-metrics computes with JAX, which would take three quarters of the GPU's memory for itself.
export JAX_PLATFORMS=cpu

# Some processes share the GPU: a test alone does not fill it. Warnings of other versions than the
# project's own are shown.
workers=""
python3 -c "import xdist" 2>/dev/null && workers="-n 8"
# shellcheck disable=SC2086  # several words
step tests 240 python3 -m pytest tests/gpu $workers -v -rfExs --durations=15 -W default \
  -o "addopts=--import-mode=importlib --strict-markers" --junitxml="$OUT/tests.xml"

# shellcheck disable=SC2086  # several words
step speed 150 python3 benchmarks/bench_speed.py presets --presets $presets --device "$device" \
  --compile --json "$OUT/speed.json"
[ "$device" = cuda ] && step attention 30 python3 benchmarks/bench_speed.py attention
step training 60 python3 benchmarks/bench_speed.py training --device "$device"

# The encodings, trained side by side, with the time that is left. Data lie beside the packages:
#   pack.sh DATA/pbmc_unlabelled_4runs.h5ad DATA/luad*.h5ad DATA/heart*.h5ad DATA/dlpfc*.h5ad \
#     DATA/baron16*.h5ad DATA/genes/gene_text_minilm_384.npz
# Models stay where they are; only tables come back, also of a run that was cut off.
data="${ENCODINGS_DATA:-.gpu/data}"
if [ -f "$data/gene_text_minilm_384.npz" ]; then
  work="$(mktemp -d)"
  step encodings 540 python3 -c "from scenc.cli import main; main()" benchmark benchmarks/gpu_encodings.yaml \
    --data-dir "$data" --out "$work" --workers 8 --threads 2
  mkdir -p "$OUT/encodings"
  find "$work" -maxdepth 1 -type f -exec cp {} "$OUT/encodings/" \;
else
  echo "encodings: left out, $data has no data for them" | tee -a "$OUT/steps.txt"
fi
exit "$failed"
