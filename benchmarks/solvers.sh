#!/usr/bin/env bash
# The paper's solvers, each from both starts:   benchmarks/solvers.sh TEST_FOLDER OUT_FOLDER [PHOTOS [PIXEL_MODEL]]
# Step sizes are the tool's; GML-DPS and PSLD from the adaptive start, and all from pure noise, have the best of those
# that were tried on training photos (tune.sh) where that is another.
# DPS has its rows where there is a model of pixels (training.train_prior without an autoencoder).
# A row is finished when its file is there: run again to go on.
set -euo pipefail
test=$1 out=$2 photos=${3:-4} pixels=${4:-}
mkdir -p "$out"
measure() { # TASK NAME METHODS [OPTION...]
    local file=$out/$1-$2.json
    [ -e "$file" ] && return
    python -m adapt_diffuse benchmark --task "$1" --methods "$3" --images "$test" --limit "$photos" --batch "$photos" \
        "${@:4}" --out "$file.partial" && mv "$file.partial" "$file"
}
for task in gaussian-blur-varying gaussian-blur-fixed random-inpainting nonlinear-blur; do
    adaptive=() noise=() psld=psld,
    [ "$task" = gaussian-blur-varying ] && adaptive=(--eta 10)
    [ "$task" = gaussian-blur-fixed ] && adaptive=(--eta 8) noise=(--eta 1.5)
    [ "$task" = nonlinear-blur ] && psld= # which wants linear damage
    measure "$task" solvers-ae damaged,ceiling,ae,flash-ldps,flash-resample,resample
    measure "$task" solvers-default default --detail 0
    measure "$task" solvers-flash "${psld:+flash-psld,}flash-gml-dps" "${adaptive[@]}"
    measure "$task" solvers-noise "${psld}gml-dps,ldps" "${noise[@]}"
    eta=4
    [ "$task" = random-inpainting ] && eta=30
    [ -z "$pixels" ] || measure "$task" solvers-dps dps --pixel-model "$pixels" --levels 250 --eta $eta
done
