#!/usr/bin/env bash
# Every file of weights/, in order, from a folder of photos:   training/all.sh PHOTOS OUT
# Run again with the same OUT it goes on where it was. On a GPU, larger batches: BATCH=128 LR=1e-3 training/all.sh ...
set -euo pipefail
photos=$1 out=$2
mkdir -p "$out"

[ -e "$out/vae/config.json" ] ||
    python -m training.train_autoencoder --images "$photos" --out "$out/vae" --minutes "${VAE_MINUTES:-20}"
python -m training.train_prior --images "$photos" --autoencoder "$out/vae" --out "$out/prior" --autocast \
    --minutes "${PRIOR_MINUTES:-70}" --batch "${BATCH:-16}" --lr "${LR:-3e-4}"
python -m training.export --vae "$out/vae" --prior "$out/prior"

for family in ${FAMILIES:-gaussian-blur missing-pixels camera-blur mixed}; do
    encoder=$out/severity-flowers-128-$family.safetensors
    [ -e "$encoder" ] && [ ! -e "${encoder%.safetensors}.state.pt" ] && continue # finished before
    python -m adapt_diffuse train-severity --images "$photos" --family "$family" --out "$encoder" \
        --steps "${STEPS:-1500}" --batch "${BATCH:-16}" --learning-rate 6e-4 --validate-every 250
done
python -m training.export --encoders "$out"/severity-*.safetensors

estimator=$out/degradation-estimator.safetensors
[ -e "$estimator" ] || # MORE: further folders of photos, of anything
    python -m training.train_estimator --images "$photos" ${MORE:-} --out "$estimator" --examples "${EXAMPLES:-14080}"
python -m training.export --estimator "$estimator"
