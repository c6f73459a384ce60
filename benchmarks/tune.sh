#!/usr/bin/env bash
# Step sizes, on photos of the training folder:   benchmarks/tune.sh TRAIN_FOLDER OUT_FOLDER
# Flash on 12 photos, from pure noise on 3 (it costs ten times as much per photo): the same number of denoiser calls.
set -euo pipefail
train=$1 out=$2
for task in gaussian-blur-varying random-inpainting; do
    for eta in 0.5 1 2 4 8; do
        python -m adapt_diffuse benchmark --task "$task" --methods ae,flash-ldps --eta "$eta" --images "$train" \
            --limit 12 --batch 12 --seed 1 --out "$out/tune-flash-$task-$eta.json"
        python -m adapt_diffuse benchmark --task "$task" --methods ldps --eta "$eta" --images "$train" \
            --limit 3 --seed 1 --out "$out/tune-noise-$task-$eta.json"
    done
done
