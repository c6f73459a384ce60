"""What a latent diffusion model's config.yaml declares and its weights do not tell."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import AdaptDiffuseError

PREDICTIONS = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}


@dataclass(frozen=True)
class Attention:
    """How a denoiser's attention divides its channels.

    Attributes:
        head_channels: channels per head; None where ``heads`` counts.
        heads: number of heads at every scale; None where ``head_channels`` counts.
        split_first: queries, keys and values are split before the heads ("use_new_attention_order").
    """

    head_channels: int | None = 32
    heads: int | None = None
    split_first: bool = False

    def heads_of(self, channels: int) -> int:
        """The number of heads that ``channels`` are divided into. Raises AdaptDiffuseError if they cannot be."""
        divisor = self.head_channels or self.heads or 1
        if channels % divisor:
            unit = "channels each" if self.head_channels else "heads"
            raise AdaptDiffuseError(
                f"An attention of {channels} channels cannot have heads of the declared kind ({divisor} {unit}): "
                "give the model's own config.yaml with --config."
            )
        return channels // self.head_channels if self.head_channels else divisor


@dataclass(frozen=True)
class Declared:
    """A model's declarations; the defaults are those of the published CelebA-HQ, FFHQ and LSUN-Bedrooms models.

    Attributes:
        attention: see Attention.
        prediction: what the denoiser predicts, by diffusers' name.
        scale: "scale_factor" of the latents; None where it is not declared.
        sample_size: side of the latents it was trained on; None where it is not declared.
        known: a config.yaml was read.
    """

    attention: Attention = Attention()
    prediction: str = "epsilon"
    scale: float | None = None
    sample_size: int | None = None
    known: bool = False


def read_declared(path: Path) -> Declared:
    """The declarations in a config.yaml of CompVis/latent-diffusion.

    Raises:
        AdaptDiffuseError: a file that is missing, no YAML, no such configuration, or asks for what is not supported.
    """
    params = _read_params(path)
    unet = params.get("unet_config", {}).get("params", {})
    prediction = params.get("parameterization", "eps")
    if prediction not in PREDICTIONS:
        raise AdaptDiffuseError(f"The parameterization '{prediction}' in {path} is not supported (eps, x0, v).")
    heads = unet.get("num_heads", -1)
    if unet.get("num_heads_upsample", -1) not in (-1, heads):
        raise AdaptDiffuseError(f"{path} has another number of heads on the way up, which is not supported.")
    try:
        attention = _attention(unet.get("num_head_channels", -1), heads, unet.get("use_new_attention_order", False))
        scale = params.get("scale_factor")
        size = unet.get("image_size")
        # the published models with scale_by_std have the factor in the checkpoint
        declared_scale = None if params.get("scale_by_std") else float(1.0 if scale is None else scale)
        return Declared(
            attention, PREDICTIONS[prediction], declared_scale, None if size is None else int(size), known=True
        )
    except (TypeError, ValueError) as error:
        raise AdaptDiffuseError(f"{path} holds a wrong value ({error}).") from None


def _attention(head_channels: Any, heads: Any, split_first: Any) -> Attention:
    if int(head_channels) > 0:
        return Attention(int(head_channels), None, bool(split_first))
    if int(heads) > 0:
        return Attention(None, int(heads), bool(split_first))
    raise ValueError("neither num_head_channels nor num_heads")


def _read_params(path: Path) -> dict[str, Any]:
    import yaml  # comes with diffusers (by way of huggingface_hub)

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        params = content["model"]["params"]
        if not isinstance(params["unet_config"]["params"], dict):
            raise TypeError("unet_config has no params")
        return params
    except FileNotFoundError:
        raise AdaptDiffuseError(f"There is no file {path}.") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise AdaptDiffuseError(f"{path} cannot be read as YAML ({str(error).splitlines()[0]}).") from None
    except (KeyError, TypeError) as error:
        raise AdaptDiffuseError(f"{path} is no configuration of a latent diffusion model ({error}).") from None
