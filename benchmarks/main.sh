#!/usr/bin/env bash
# The main table:   benchmarks/main.sh TEST_FOLDER OUT_FOLDER
# Flash and AE on every photo; from pure noise on 16 of them, with Flash and AE on the same 16 beside it.
set -euo pipefail
test=$1 out=$2
for task in gaussian-blur-varying gaussian-blur-fixed random-inpainting; do
    python -m adapt_diffuse benchmark --task "$task" --methods damaged,ceiling,ae,flash-ldps,default --images "$test" \
        --out "$out/$task.json" --sheet "$out/sheet-$task.png"
    python -m adapt_diffuse benchmark --task "$task" --methods ae --detail 1 --images "$test" --out "$out/$task-detail.json"
    python -m adapt_diffuse benchmark --task "$task" --methods default --detail 0 --images "$test" \
        --out "$out/$task-no-detail.json"
    python -m adapt_diffuse benchmark --task "$task" --methods damaged,ceiling,ae,flash-ldps --images "$test" --limit 16 \
        --batch 16 --out "$out/$task-same.json" --sheet "$out/sheet-$task-same.png"
    eta= # tuned for the kind of damage; the strong blur has a better one of its own
    [ "$task" = gaussian-blur-fixed ] && eta="--eta 1.5"
    python -m adapt_diffuse benchmark --task "$task" --methods ldps --images "$test" --limit 16 \
        --batch 16 $eta --out "$out/$task-from-noise.json" --sheet "$out/sheet-$task-from-noise.png"
done
python -m benchmarks.samples --out "$out/samples.png"
