"""What flows on our wires, and the way between the host's tensors and ours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from comfy_api.latest import io
from torch import Tensor

from ..adapt_diffuse.errors import AdaptDiffuseError
from ..adapt_diffuse.hosts.comfy_memory import check_size, image_device
from ..adapt_diffuse.hosts.comfy_vae import TIMELESS

CATEGORY = "restoration/adapt & diffuse"
PHOTO_SIZE = "adapt_diffuse_photo_size"  # (height, width) in a LATENT: what is photo and what is padding
PHOTOS = "adapt_diffuse_photos"  # in a LATENT: what photos it was made of, where its batch_index has lost them

DegradationIO = io.Custom("DEGRADATION")
SeverityEncoderIO = io.Custom("SEVERITY_ENCODER")
SeverityIO = io.Custom("SEVERITY")


class PhotoIndex(int):
    """The number of a latent in the host's ``batch_index``, by which its noise is drawn, and the photo it is of.

    Repeat Latent Batch adds to these numbers, so that every repeat has noise of its own; the photo stays.
    """

    photo: int

    def __new__(cls, noise: int, photo: int | None = None) -> PhotoIndex:
        index = super().__new__(cls, noise)
        index.photo = noise if photo is None else photo
        return index

    def __add__(self, other: int) -> PhotoIndex:
        return PhotoIndex(int(self) + other, self.photo)


def marked_careful(degradation: Any) -> Any:
    """An estimated degradation whose noise allows for the estimate's error: no report asks to lower it."""
    degradation.careful = True
    return degradation


def is_careful(degradation: Any) -> bool:
    return getattr(degradation, "careful", False)


@dataclass(frozen=True)
class HostSeverity:
    """The SEVERITY of the wire.

    Attributes:
        latent: (B, C, h, w) the estimate z_hat, in the VAE's raw scale as on every LATENT wire.
        sigma_hat: (B,) standard deviation of its error, in the model's scale.
        photo_size: (height, width) without padding; None where it is not known.
        indices: which images of their batch these are, where a node has picked them out.
        noise_mask: (1 or B, ..., H, W) of Set Latent Noise Mask, where there was one.
    """

    latent: Tensor
    sigma_hat: Tensor
    photo_size: tuple[int, int] | None
    indices: list[int] | None = None
    noise_mask: Tensor | None = None

    def start(self, samples: Tensor, run: list[int] | None) -> dict[str, Any]:
        """The LATENT of raw ``samples`` made of the images ``run`` of the batch; None is all of them."""
        indices = self.indices or (list(range(len(self.latent))) if len(self.latent) > 1 else None)
        if run is not None and indices is not None:
            indices = [indices[i] for i in run]
        latent = latent_of(samples, self.photo_size, indices)
        if self.noise_mask is not None:
            latent["noise_mask"] = self.noise_mask if run is None or len(self.noise_mask) == 1 else self.noise_mask[run]
        return latent


def photo_of(image: Tensor) -> Tensor:
    """The host's IMAGE (B, H, W, 1 to 4) as (B, 3, H, W) float32, a normal tensor of our own.

    Greyscale becomes three equal channels, transparency is dropped.

    Raises:
        AdaptDiffuseError: no image, an empty batch, or a value that is NaN or infinite.
    """
    if not isinstance(image, Tensor) or image.ndim != 4 or 0 in image.shape:
        shape = tuple(image.shape) if isinstance(image, Tensor) else type(image).__name__
        raise AdaptDiffuseError(f"The image is empty or no image ({shape}): connect a photo.")
    with torch.inference_mode(False):
        photo = image.clone().float()[..., :3].movedim(-1, 1)
        if image.shape[-1] < 3:
            photo = photo[:, :1].expand(-1, 3, -1, -1)
        photo = photo.contiguous()
    if not bool(torch.isfinite(photo).all()):
        raise AdaptDiffuseError("The image has pixels that are NaN or infinite: an earlier node broke it.")
    return photo


def restorable_photo(image: Tensor, degradation: Any, vae: Any) -> Tensor:
    """``photo_of`` of a photo that is to be restored by ``vae``.

    Raises:
        AdaptDiffuseError: a photo too large for the VAE's device, or no VAE in the wire.
    """
    if getattr(vae, "device", None) is None:  # as a checkpoint without one leaves it
        raise AdaptDiffuseError("There is no VAE in the checkpoint: load one with Load VAE.")
    if isinstance(image, Tensor) and image.ndim == 4:
        height, width = longest = image.shape[1], image.shape[2]
        if degradation is not None:
            height, width = degradation.image_size(height, width)
        check_size(height, width, max(longest), vae.device)
    return photo_of(image)


def image_of(photo: Tensor) -> Tensor:
    """(B, C, H, W) as the host's IMAGE (B, H, W, C), where the host keeps its images."""
    return photo.detach().movedim(1, -1).contiguous().float().to(image_device())


def latent_of(samples: Tensor, photo_size: tuple[int, int] | None, indices: list[int] | None = None) -> dict[str, Any]:
    """The host's LATENT dict.

    Args:
        samples: raw scale.
        indices: which images of their batch these are; the host draws their noise accordingly.
    """
    latent: dict[str, Any] = {"samples": samples}
    if photo_size is not None:
        latent[PHOTO_SIZE] = photo_size
    if indices is not None:
        numbers = [index if isinstance(index, PhotoIndex) else PhotoIndex(index) for index in indices]
        latent |= {"batch_index": numbers, PHOTOS: [number.photo for number in numbers]}
    return latent


def photo_indices(latent: dict[str, Any], count: int) -> list[int] | None:
    """Which of ``count`` photos the images of a LATENT are of; None where each has its own, or there is one photo.

    Raises:
        AdaptDiffuseError: a photo that is not there, latents that cannot be told apart, or no latent of single images.
    """
    photos = made_of(latent, count)
    if count == 1 or photos is None:
        return None
    if max(photos) >= count:
        raise AdaptDiffuseError(
            f"The latent belongs to photo {max(photos) + 1} of a batch, but the image here has only {count}: connect "
            "the photos that went into Encode Severity."
        )
    return photos


def made_of(latent: dict[str, Any], count: int) -> list[int] | None:
    """Which of ``count`` photos the images of a LATENT were made of; None where each has its own.

    Latents that do not say so, as those of the stock VAE Encode, are of the photos in order, over and over. Latent
    Batch Seed Behavior takes the numbers away, or gives all the first one's: the photos stay.
    """
    indices, length = latent.get("batch_index"), len(samples_of(latent))
    alike = False
    if indices is not None:
        if PHOTOS not in latent and length == count and 1 < len(set(indices)) < length:
            return None  # batches of others, joined: each counts from 0
        photos = [getattr(index, "photo", int(index)) for index in indices]
        alike = length > 1 and len({*zip(indices, photos, strict=True)}) == 1 and not same(latent["samples"])
        if not alike:
            return photos
    known = latent.get(PHOTOS) or (list(range(count)) if alike or length > count else None)
    if known is None:
        return None
    if length % len(known) == 0:
        return known * (length // len(known))
    if not alike:
        return None
    raise AdaptDiffuseError(
        f"Latent Batch Seed Behavior hides which photos these {length} latents are of: take it out, or pick "
        "no latents of the batch before it."
    )


def same(samples: Tensor) -> bool:
    """Whether a batch is one latent, repeated."""
    return bool((samples == samples[:1]).all())


def samples_of(latent: dict[str, Any]) -> Tensor:
    """The latents (B, C, h, w) of a LATENT.

    Raises:
        AdaptDiffuseError: latents of videos or an empty batch.
    """
    samples = latent["samples"]
    if not getattr(samples, "is_nested", False) and samples.ndim == 5:
        raise AdaptDiffuseError(f"The latent has a time axis. {TIMELESS}")
    if getattr(samples, "is_nested", False) or samples.ndim != 4 or 0 in samples.shape:
        raise AdaptDiffuseError("The latent is empty or not one of single images: encode a photo.")
    return samples
