#!/usr/bin/env bash
# Step sizes of Latent-DPS, on photos of the training folder:   benchmarks/tune.sh TRAIN_FOLDER OUT_FOLDER
# From the adaptive start on 8 photos, from pure noise, which costs ten times as much per photo, on 2.
set -euo pipefail
train=$1 out=$2
tune() { # TASK START PHOTOS ETA...
    local task=$1 method=$2 photos=$3 eta
    shift 3
    for eta in "$@"; do
        python -m adapt_diffuse benchmark --task "$task" --methods "ae,$method" --eta "$eta" --images "$train" \
            --limit "$photos" --batch "$photos" --seed 1 --out "$out/tune-$method-$task-$eta.json"
    done
}
for task in gaussian-blur-varying random-inpainting; do
    tune "$task" flash-ldps 8 4 8 16
done
tune gaussian-blur-varying ldps 2 1.5 4 10
tune gaussian-blur-fixed ldps 2 0.6 1.5 4
tune random-inpainting ldps 2 3 8 16
# the solvers of few steps, and everything that the default is made of
for task in gaussian-blur-varying random-inpainting; do
    python -m benchmarks.choose --task "$task" --images "$train" --limit 12 --out "$out/choose-$task.json"
done
