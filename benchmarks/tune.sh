#!/usr/bin/env bash
# Step sizes of the paper's solvers, on photos of the training folder:   benchmarks/tune.sh TRAIN_FOLDER OUT_FOLDER
# From the adaptive start on 8 or 4 photos, from pure noise, which costs ten times as much per photo, on 2.
set -euo pipefail
train=$1 out=$2
tune() { # TASK METHOD PHOTOS OPTION VALUE...
    local task=$1 method=$2 photos=$3 option=$4 value
    shift 4
    for value in "$@"; do
        python -m adapt_diffuse benchmark --task "$task" --methods "$method" "--$option" "$value" --images "$train" \
            --limit "$photos" --batch "$photos" --seed 1 --out "$out/tune-$method-$task-$value.json"
    done
}
varying=gaussian-blur-varying strong=gaussian-blur-fixed lost=random-inpainting shake=nonlinear-blur
tune $varying ae,flash-ldps 8 eta 4 6 8 11 16
tune $strong ae,flash-ldps 8 eta 4 6 8 11
tune $lost ae,flash-ldps 8 eta 5 8 11 16
tune $varying ldps 4 eta 1 2 4 # four: the one that is blurred most shows what is too much
tune $strong ldps 2 eta 0.6 1.5 4
tune $lost ldps 2 eta 3 8 16
tune $shake ldps 2 eta 1.5 4 10
for method in flash-gml-dps flash-psld; do
    tune $varying $method 4 eta 3 6 10
    tune $strong $method 4 eta 5 8 12
    tune $lost $method 4 eta 5 8 14
done
tune $shake flash-gml-dps 4 eta 3 6 10 # PSLD wants linear damage
tune $varying psld 2 eta 1.5 4
tune $varying gml-dps 2 eta 4
tune $varying flash-resample 4 gamma 100 400 1600 6400
tune $strong flash-resample 4 gamma 100 400 1600
tune $lost flash-resample 4 gamma 50 200 800 3200
tune $shake flash-resample 4 gamma 100 400 1600
for task in $varying $strong $shake; do
    tune $task resample 2 gamma 400 1600
done
tune $lost resample 2 gamma 200 800
# the solvers of few steps, and everything that the default is made of
for task in $varying $lost; do
    python -m benchmarks.choose --task "$task" --images "$train" --limit 12 --out "$out/choose-$task.json"
done
