#!/usr/bin/env bash
# Measures this toolkit on a GPU: the training speed at sizes S, M and that of GNMT, then a full training on Multi30k.
#   scripts/benchmark/gpu.sh FOLDER_OF_MULTI30K [PEER_SCRIPT]
# To try the script without a GPU: DEVICE=cpu PRECISION=fp32 SIZES=S TOKENS=2048 RUNS=1 EXTRA=train.max_updates=20
set -eu -o pipefail
data=$(realpath "$1") peer=${2:+$(realpath "$2")}
device=${DEVICE:-cuda} precision=${PRECISION:-bf16}
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PATH=$PWD/.venv/bin:$PATH

# shellcheck disable=SC2086  # SIZES and EXTRA are lists
python scripts/benchmark/train_speed.py --device "$device" --precision "$precision" --sizes ${SIZES:-S M G} \
    --batch-tokens "${TOKENS:-16384}" --runs "${RUNS:-5}" ${peer:+--peer "$peer"}
# shellcheck disable=SC2086
seq2seq train experiment=multi30k name=multi30k_gpu train.resume=never "data.root=$data" "train.device=$device" \
    "train.precision=$precision" ${EXTRA:-}
seq2seq selfcheck runs/multi30k_gpu
