"""Models and severity encoders from disk."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import folder_paths
from comfy_api.latest import io

from ..adapt_diffuse import bundled
from ..adapt_diffuse.hosts.comfy_encoder import HostSeverityEncoder
from ..adapt_diffuse.hosts.comfy_model import load_diffusers
from .wires import CATEGORY, SeverityEncoderIO

ENCODER_FOLDER = "severity_encoders"
BUNDLED = " (bundled)"
SAMPLE_PHOTOS = {
    "adapt-diffuse-flower.jpg": "flower.jpg",
    "adapt-diffuse-soft-flower.jpg": "flower-soft.jpg",
    "adapt-diffuse-torn-flower.png": "flower-torn.png",
    "adapt-diffuse-lens-spot.png": "lens-spot.png",
}


def register_model_folder() -> None:
    """Give the host a model folder for severity encoders."""
    folder_paths.add_model_folder_path(ENCODER_FOLDER, os.path.join(folder_paths.models_dir, ENCODER_FOLDER))
    folder_paths.folder_names_and_paths[ENCODER_FOLDER][1].add(".safetensors")


def offer_sample_photos() -> None:
    """Put the photos of the example workflows where Load Image finds them, each once: a deleted one stays away."""
    offered = offered_before()
    for name, source in SAMPLE_PHOTOS.items():
        target, original = Path(folder_paths.get_input_directory()) / name, bundled.WEIGHTS.parent / "assets" / source
        if name in offered or not original.is_file():
            continue
        try:
            if not target.exists():  # the user may have another of that name
                shutil.copyfile(original, target)
            offered.append(name)
        except OSError as error:
            logging.info("Adapt & Diffuse: the sample photo %s was not copied to the input folder (%s).", name, error)
    remember(offered)


def offered_before() -> list[str]:
    """The sample photos that were offered at earlier starts; none where that cannot be known."""
    try:
        return offered_file().read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []


def remember(offered: list[str]) -> None:
    if offered == offered_before() or not offered_file().parent.is_dir():
        return
    try:
        offered_file().write_text("".join(f"{name}\n" for name in offered), encoding="utf-8")
    except OSError as error:
        logging.info("Adapt & Diffuse: the sample photos will be offered again at the next start (%s).", error)


def offered_file() -> Path:
    return Path(folder_paths.get_user_directory()) / "adapt_diffuse_sample_photos.txt"


def model_names() -> list[str]:
    """The bundled model, then every folder of models/diffusers with an unconditional UNet."""
    found = set()
    for root in folder_paths.get_folder_paths("diffusers"):
        for config in Path(root).glob("*/unet/config.json"):
            if is_unconditional(config):
                found.add(config.parent.parent.name)
    return [bundled.MODEL_NAME + BUNDLED, *sorted(found)]


def is_unconditional(config: Path) -> bool:
    """Whether the config.json of a UNet is one of the class that Load Latent Diffusion loads."""
    try:
        told = json.loads(config.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(told, dict) and told.get("_class_name") == "UNet2DModel"


def model_path(name: str) -> Path:
    """The folder of a name from ``model_names``, however the name came here."""
    if name == bundled.MODEL_NAME + BUNDLED:
        return bundled.bundled_model()
    return Path(folder_paths.get_full_path_or_raise("diffusers", f"{name}/unet/config.json")).parent.parent


def encoder_files() -> list[str]:
    """The files of models/severity_encoders, which the host does not know before the pack is loaded."""
    known = ENCODER_FOLDER in folder_paths.folder_names_and_paths
    names = sorted(folder_paths.get_filename_list(ENCODER_FOLDER)) if known else []
    return [name for name in names if not Path(name).name.startswith(".")]  # what a killed training leaves half written


def own_encoders() -> list[Path]:
    """The user's severity encoders."""
    found = [folder_paths.get_full_path(ENCODER_FOLDER, name) for name in encoder_files()]
    return [Path(path) for path in found if path]


def states_of(files: Iterable[Path]) -> str:
    """What tells that a file was written anew, as by a training."""
    states = ((path, path.stat()) for path in files)
    return "\n".join(f"{path} {state.st_mtime_ns} {state.st_size}" for path, state in states)


def encoder_names() -> list[str]:
    """What there is to choose from, the encoder of the first example first."""
    names = sorted(bundled.bundled_encoders(), key=lambda name: (not name.endswith("gaussian-blur"), name))
    return [name + BUNDLED for name in names] + encoder_files()


def encoder_path(name: str) -> Path:
    own = {key + BUNDLED: path for key, path in bundled.bundled_encoders().items()}
    return own[name] if name in own else Path(folder_paths.get_full_path_or_raise(ENCODER_FOLDER, name))


class LoadDiffusers(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptDiffuseLoadDiffusers",
            display_name="Load Latent Diffusion (diffusers)",
            category=f"{CATEGORY}/loaders",
            description="An unconditional latent diffusion model as MODEL and VAE, for every node of ComfyUI.",
            search_aliases=["load model", "unconditional", "LDM", "CelebA", "FFHQ", "LSUN", "VQ", "checkpoint"],
            inputs=[
                io.Combo.Input(
                    "model_name",
                    options=model_names(),
                    tooltip="The bundled demo (flowers, 128 pixels), or a folder of models/diffusers with unet, "
                    "scheduler and vae (or vqvae) in it; models of pixels have none. A model restores what it "
                    "has learnt: flowers, faces, ...",
                )
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="The diffusion model."),
                io.Vae.Output(display_name="vae", tooltip="Its autoencoder; that of a model of pixels does nothing."),
                io.Conditioning.Output(
                    display_name="conditioning",
                    tooltip="Empty: the model needs none, but guiders and samplers want one. Use it as positive and "
                    "as negative.",
                ),
            ],
        )

    @classmethod
    def execute(cls, model_name: str) -> io.NodeOutput:
        return io.NodeOutput(*load_diffusers(model_path(model_name)))


class LoadSeverityEncoder(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptDiffuseLoadSeverityEncoder",
            display_name="Load Severity Encoder",
            category=f"{CATEGORY}/loaders",
            description="The network that says how badly a photo is damaged, for one kind of damage and one VAE.",
            search_aliases=["flash", "adapt", "severity", "how bad"],
            inputs=[
                io.Combo.Input(
                    "encoder_name",
                    options=encoder_names(),
                    tooltip="Its name says for which model's VAE it is. flowers-128, the bundled model: gaussian-blur "
                    "for blur, missing-pixels for lost pixels, camera-blur for shaken photos, mixed for everything "
                    "else. sd1, sdxl, sd3, flux1: for checkpoints of these families. Your own go to "
                    "models/severity_encoders.",
                )
            ],
            outputs=[
                SeverityEncoderIO.Output(
                    display_name="severity_encoder", tooltip="For Encode Severity, with the VAE it was trained for."
                )
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, encoder_name: str | None) -> str:
        if encoder_name is None:  # from another node: any of them
            return states_of(own_encoders())
        return states_of([encoder_path(encoder_name)])

    @classmethod
    def execute(cls, encoder_name: str) -> io.NodeOutput:
        return io.NodeOutput(HostSeverityEncoder.load(encoder_path(encoder_name)))
