#!/usr/bin/env bash
# Every file of weights/, in order, from a folder of photos:   training/all.sh PHOTOS OUT
# Run again with the same OUT it goes on where it was. On a GPU, larger batches: BATCH=128 LR=1e-3 training/all.sh ...
set -euo pipefail
photos=$1 out=$2
mkdir -p "$out"

[ -e "$out/vae/config.json" ] ||
    python -m training.train_autoencoder --images "$photos" --out "$out/vae" --minutes "${VAE_MINUTES:-20}"
[ -e "$out/tiny/config.json" ] ||
    python -m training.train_autoencoder --images "$photos" --like "$out/vae" --out "$out/tiny" --minutes "${TINY_MINUTES:-12}"
python -m training.train_prior --images "$photos" --autoencoder "$out/vae" --out "$out/prior" --autocast \
    --scaled 0.5 --minutes "${PRIOR_MINUTES:-180}" --batch "${BATCH:-16}" --lr "${LR:-3e-4}"
python -m training.export --vae "$out/vae" --tiny "$out/tiny" --prior "$out/prior"

for family in ${FAMILIES:-gaussian-blur missing-pixels mixed camera-blur}; do
    encoder=$out/severity-flowers-128-$family.safetensors
    [ -e "$encoder" ] && [ ! -e "${encoder%.safetensors}.state.pt" ] && continue # finished before
    init=() # blurs that light bends are learnt fastest by one that knows the others
    [ "$family" = camera-blur ] && init=(--init "$out/severity-flowers-128-mixed.safetensors")
    python -m adapt_diffuse train-severity --images "$photos" --family "$family" --out "$encoder" \
        --steps "${STEPS:-1500}" --batch "${BATCH:-16}" --learning-rate 6e-4 --validate-every 250 "${init[@]}"
done
python -m training.export --encoders "$out"/severity-*.safetensors

# for the VAEs of Stable Diffusion and Flux, with their tiny autoencoders in the folder TAESD and photos of anything in MORE
if [ -n "${TAESD:-}" ]; then
    init=
    for pair in sd1:taesd sdxl:taesdxl sd3:taesd3 flux1:taef1; do
        encoder=$out/severity-${pair%:*}-mixed.safetensors
        [ -e "$encoder" ] && [ ! -e "${encoder%.safetensors}.state.pt" ] ||
            python -m adapt_diffuse train-severity --vae "$TAESD/${pair#*:}_encoder.safetensors" --images "${MORE:-$photos}" \
                --family mixed --noise-std 0.1 --reuse 6 --learning-rate 8e-4 --validate-every 250 --out "$encoder" \
                --steps "$([ -z "$init" ] && echo 3600 || echo 1500)" $init
        init="--init $out/severity-sd1-mixed.safetensors"
    done
    python -m training.export --encoders "$out"/severity-*.safetensors
fi

estimator=$out/degradation-estimator.safetensors
[ -e "$estimator" ] || # MORE: a further folder of photos, of anything
    python -m training.train_estimator --images "$photos" ${MORE:-} --out "$estimator" --examples "${EXAMPLES:-57344}"
python -m training.export --estimator "$estimator"

scratches=$out/scratches.safetensors
[ -e "$scratches" ] || # from the further photos, where there are any
    python -m training.train_scratches --images "${MORE:-$photos}" --out "$scratches" --minutes 17
python -m training.export --scratches "$scratches"
