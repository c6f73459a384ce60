"""A severity encoder for any VAE, in minutes."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import folder_paths
from comfy_api.latest import io, ui

from ..adapt_diffuse.degradation.families import FAMILIES, parse_family
from ..adapt_diffuse.errors import AdaptDiffuseError
from ..adapt_diffuse.hosts.comfy_progress import photo_by_photo
from ..adapt_diffuse.hosts.comfy_training import say_in_node, train_refiner
from ..adapt_diffuse.images import find_photos
from ..adapt_diffuse.photo_crops import PhotoCrops, held_out
from ..adapt_diffuse.severity.settings import TrainingSettings
from .load import ENCODER_FOLDER, states_of
from .training_plot import training_picture, training_plot
from .wires import CATEGORY, SeverityEncoderIO

INPUT_ITSELF = "(the input folder itself)"
MAX_VALIDATION = 64
SUFFIX = ".safetensors"


def photo_folders() -> list[str]:
    """The host's input folder, and the folders in it."""
    root = Path(folder_paths.get_input_directory())
    try:
        # os.path: a link that may not be followed is none, where pathlib raises, and the host would lose the node
        inside = sorted(name for name in os.listdir(root) if os.path.isdir(root / name))
    except OSError:
        inside = []
    return [INPUT_ITSELF, *inside]


def photo_folder(name: str, path: str) -> Path:
    """The folder to train on.

    Raises:
        AdaptDiffuseError: there is none of that name, or the path is not the whole path of a folder.
    """
    if named := path.strip().strip("\"'"):  # Windows copies paths in quotes
        typed = Path(named).expanduser()
        if not typed.is_absolute() or not typed.is_dir():
            raise AdaptDiffuseError(f"'{named}' is not the whole path of a folder: correct 'path' or empty it.")
        return typed
    root = Path(folder_paths.get_input_directory())
    if name not in photo_folders() or not (folder := root if name == INPUT_ITSELF else root / name).is_dir():
        raise AdaptDiffuseError(f"There is no folder '{name}' in ComfyUI's input folder: choose another.")
    return folder


def photos_in(folder: Path) -> list[Path]:
    """The photos; of the input folder itself without those in its folders."""
    found = find_photos(folder)
    if folder != Path(folder_paths.get_input_directory()):
        return found
    own = [path for path in found if path.parent == folder]
    if not own:
        raise AdaptDiffuseError("ComfyUI's input folder has no photos: put some into a folder in it and choose that.")
    return own


def encoder_file(name: str) -> Path:
    """The file of models/severity_encoders with that name.

    Raises:
        AdaptDiffuseError: a name that is none, or leads to another folder.
    """
    stem = name.strip().removesuffix(SUFFIX)
    if not re.fullmatch(r"\w[\w .()+-]*", stem) or stem != stem.rstrip(" ."):
        raise AdaptDiffuseError(f"'{name}' is no name for a file: use letters, digits, spaces, '-', '_' and '.'.")
    return Path(folder_paths.get_folder_paths(ENCODER_FOLDER)[0]) / f"{stem}{SUFFIX}"


class TrainSeverityEncoder(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptDiffuseTrainSeverity",
            display_name="Train Severity Encoder",
            category=f"{CATEGORY}/severity",
            description="Trains a small network that says how badly a photo is damaged, for the connected VAE, on a "
            "folder of good photos. Cancel keeps what was learnt: queue again to go on.",
            search_aliases=["train", "severity", "severity encoder", "calibrate", "learn damage", "finetune"],
            inputs=training_inputs(),
            outputs=[
                SeverityEncoderIO.Output(
                    display_name="severity_encoder", tooltip="For Encode Severity; Load Severity Encoder finds it too."
                ),
                io.Image.Output(
                    display_name="plot",
                    tooltip="Left: the error of the estimate over the steps. Right: predicted against true error of "
                    "photos that were not trained on; good points lie on the line.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def fingerprint_inputs(
        cls, folder: str | None = None, path: str | None = None, overwrite: bool | None = None, **inputs: Any
    ) -> str:
        """The photos, where they may be learnt anew; but not what comes and goes in the input folder itself."""
        if not overwrite or not (path or (folder and folder != INPUT_ITSELF)):
            return ""
        try:
            return states_of(photos_in(photo_folder(folder or "", path or "")))
        except AdaptDiffuseError:
            return ""  # ``execute`` says it

    @classmethod
    def execute(
        cls,
        vae: Any,
        folder: str,
        family: str,
        noise_std: float,
        steps: int,
        batch: int,
        size: int,
        seed: int,
        file_name: str,
        overwrite: bool,
        path: str = "",
        ranges: str = "",
        learning_rate: float = 3e-4,
        reuse: int = 4,
        validate_every: int = 250,
        model: Any = None,
    ) -> io.NodeOutput:
        out = encoder_file(file_name)
        damage = parse_family(f"{family}:{ranges.strip()}", noise_std)
        settings = TrainingSettings(
            steps=steps,
            batch=batch,
            learning_rate=learning_rate,
            size=size,
            seed=seed,
            validate_every=validate_every,
            architecture="refiner",
            reuse=reuse,
        )
        say = say_in_node(getattr(cls.hidden, "unique_id", None))
        say("reading the photos")
        paths, validation = held_out(photos_in(photo_folder(folder, path)))
        train = PhotoCrops(photo_by_photo(paths), size)
        judged = PhotoCrops(photo_by_photo(validation[:MAX_VALIDATION]), size).centres()
        encoder, curve = train_refiner(
            vae, model, damage, train, judged, settings, out, overwrite, training_picture, say
        )
        plot = training_plot(curve)
        return io.NodeOutput(encoder, plot, ui=ui.PreviewImage(plot))


def training_inputs() -> list[io.Input]:
    usual = TrainingSettings()
    return [
        io.Vae.Input("vae", tooltip="The VAE of the diffusion model that will restore. Its weights stay as they are."),
        io.Combo.Input(
            "folder",
            options=photo_folders(),
            tooltip="Folder of undamaged photos in ComfyUI's input folder, some hundred or more, like those to "
            "restore. Every twentieth is kept for validation.",
        ),
        io.Combo.Input(
            "family",
            options=list(FAMILIES),
            default="mixed",
            tooltip="The damage to learn. mixed: blur, low resolution, JPEG, lost pixels and noise, alone and "
            "together. An encoder of one kind is more exact for that kind and wrong for others.",
        ),
        io.Float.Input(
            "noise_std",
            default=0.1,
            min=0.0,
            max=1.0,
            step=0.01,
            round=0.001,
            tooltip="Noise in every damaged photo; for mixed and noise the strongest of it. 0.05 is visible grain. Too "
            "little: noisier photos are judged wrongly. Too much: time is spent on damage that you never have.",
        ),
        io.Int.Input(
            "steps",
            default=usual.steps,
            min=1,
            max=1_000_000,
            tooltip="1000 to 5000 are usual. Too few: the estimates stay coarse. Too many: time without a gain; watch "
            "the plot. After Cancel, more of them may be asked for.",
        ),
        io.Int.Input(
            "batch",
            default=usual.batch,
            min=1,
            max=256,
            tooltip="Photos per step. Too few: learning jumps about. Too many: out of memory.",
        ),
        io.Int.Input(
            "size",
            default=256,
            min=32,
            max=2048,
            step=32,
            tooltip="Side of the crops in pixels, a multiple of the VAE's factor. Smaller photos are enlarged to it. "
            "Too small: wide blurs do not fit in. Too large: slow, and out of memory.",
        ),
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=2**32 - 1,
            control_after_generate=io.ControlAfterGenerate.fixed,  # another seed would be another training
            tooltip="Of crops, damage and first weights. The same seed learns the same; a training that goes on needs "
            "the seed that it began with.",
        ),
        io.String.Input(
            "file_name",
            default="my severity encoder",
            tooltip="Name of the file to write in models/severity_encoders.",
        ),
        io.Boolean.Input(
            "overwrite",
            default=False,
            tooltip="Replace a file of that name, also one that was not finished with other settings.",
        ),
        io.String.Input(
            "path",
            default="",
            optional=True,
            advanced=True,
            tooltip="Whole path of a folder of photos anywhere; wins over 'folder'. It is only read.",
        ),
        io.String.Input(
            "ranges",
            default="",
            optional=True,
            advanced=True,
            tooltip="Numbers of the family instead of its own, such as std_min=0.3,std_max=2 for gaussian-blur.",
        ),
        io.Float.Input(
            "learning_rate",
            default=usual.learning_rate,
            min=1e-6,
            max=0.1,
            step=1e-5,
            round=1e-7,
            optional=True,
            advanced=True,
            tooltip="Of Adam at its highest. Too small: learns slowly. Too large: the training diverges.",
        ),
        io.Int.Input(
            "reuse",
            default=usual.reuse,
            min=1,
            max=64,
            optional=True,
            advanced=True,
            tooltip="Steps per freshly encoded batch: encoding is the costly part. 1 sees each crop once. Too many: "
            "fewer different crops are seen, and a small folder is learnt by heart.",
        ),
        io.Int.Input(
            "validate_every",
            default=250,
            min=1,
            max=100_000,
            optional=True,
            advanced=True,
            tooltip="Steps between validations; each saves the encoder and draws the calibration. Too few: most of the "
            "time goes into them. Too many: a crash loses more.",
        ),
        io.Model.Input(
            "model",
            optional=True,
            tooltip="The diffusion model: it tells the scale of its latents. Not needed with tiny VAEs (taesd, ...) "
            "and those of Load Latent Diffusion, which know it.",
        ),
    ]
