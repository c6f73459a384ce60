#!/usr/bin/env bash
# The main tables:   benchmarks/main.sh CLEAN TEST OUT_FOLDER
# The estimate and the default on every photo of CLEAN, the paper's solver from the adaptive start on 49 of them, with
# both beside it; from pure noise on 16 of TEST, with the same solver from the adaptive start beside it.
set -euo pipefail
clean=$1 test=$2 out=$3
mkdir -p "$out"
measure() { # TASK NAME METHODS [OPTION...]
    python -m adapt_diffuse benchmark --task "$1" --methods "$3" "${@:4}" --out "$out/$1$2.json"
}
for task in gaussian-blur-varying gaussian-blur-fixed random-inpainting; do
    measure $task "" damaged,ceiling,ae,default --detail 0 --images "$clean" --sheet "$out/sheet-$task.png"
    measure $task -detail ae,default --detail 1 --images "$clean"
    some=(--images "$clean" --limit 49 --batch 17)
    measure $task -some damaged,ceiling,ae,flash-ldps "${some[@]}"
    measure $task -some-default default --detail 0 "${some[@]}"
    measure $task -some-detail ae,default --detail 1 "${some[@]}"
done
for task in gaussian-blur-varying gaussian-blur-fixed random-inpainting nonlinear-blur; do
    sixteen=(--images "$test" --limit 16 --batch 16)
    measure $task -same damaged,ceiling,ae,flash-ldps "${sixteen[@]}" --sheet "$out/sheet-$task-same.png"
    measure $task -same-default default --detail 0 "${sixteen[@]}"
    measure $task -same-detail ae,default --detail 1 "${sixteen[@]}"
    eta=() # tuned for the kind of damage; these two have a better one of their own
    [ $task = gaussian-blur-fixed ] && eta=(--eta 1.5)
    [ $task = nonlinear-blur ] && eta=(--eta 4)
    measure $task -from-noise ldps "${sixteen[@]}" "${eta[@]}" --sheet "$out/sheet-$task-from-noise.png"
done
python -m benchmarks.samples --out "$out/samples.png"
