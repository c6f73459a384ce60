"""Photos on disk: reading anything an artist has, writing without leaving half a file."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from glob import glob
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from .checkpoints import write_whole
from .errors import AdaptDiffuseError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
# pictures too, but a folder of them is of phones, cameras or editors, and Pillow alone does not read most of them
OTHER_SUFFIXES = frozenset(
    {".heic", ".heif", ".avif", ".gif", ".jp2", ".jxl", ".psd", ".xcf", ".pdf", ".svg", ".dng", ".cr2", ".cr3", ".nef"}
    | {".arw", ".raf", ".orf", ".rw2"}
)
SHADOW = "._"  # macOS writes ._photo.jpg beside photo.jpg on disks of other systems: no picture
PAGED = frozenset({"TIFF", "GIF", "WEBP", "PNG"})
BRIGHTEST = 2.0  # of a float image on [0, 1]: sharpening and highlights go beyond 1, but not as far as other scales do

Read = TypeVar("Read")
ONE_CHANNEL = frozenset({"1", "L", "LA", "La"})  # modes of Pillow


def find_photos(source: str | Path) -> list[Path]:
    """The photos of a folder (and its sub-folders), sorted by name; a single file is itself.

    ``source`` may have the wildcards * and ?, which not every shell expands, where nothing has that very name.

    Raises:
        AdaptDiffuseError: nothing there.
    """
    source = Path(source)
    if source.is_file():
        return [source]
    places = [source] if source.is_dir() else named_like(source)
    if not places:
        raise AdaptDiffuseError(f"There is no photo or folder {source}.")
    found = files_in(places, SUFFIXES)
    if not found:
        raise AdaptDiffuseError(f"The folder {source} has no photos ({', '.join(sorted(SUFFIXES))}).")
    return found


def other_pictures(source: str | Path) -> list[Path]:
    """The pictures that ``find_photos`` leaves out of a folder, because they are of kinds that are hardly ever read."""
    source = Path(source)
    if source.is_file():
        return []
    return files_in([source] if source.is_dir() else named_like(source), OTHER_SUFFIXES)


def files_in(places: Sequence[Path], suffixes: frozenset[str]) -> list[Path]:
    """The files with one of ``suffixes`` among files and in folders and their sub-folders, sorted by name.

    Links that may not be followed are left out.
    """
    inside = (path for place in places for path in (place.rglob("*") if os.path.isdir(place) else [place]))
    named = (path for path in inside if path.suffix.lower() in suffixes and not path.name.startswith(SHADOW))
    return sorted(path for path in named if os.path.isfile(path))


def named_like(pattern: Path) -> list[Path]:
    """The files and folders that the wildcards * and ? in ``pattern`` stand for; none without a wildcard."""
    if not any(mark in str(pattern) for mark in "*?"):
        return []
    return [Path(name) for name in glob(str(pattern).replace("[", "[[]"))]


def open_image(path: Path) -> Image.Image:
    """The image, upright, in memory. Raises AdaptDiffuseError where there is no file, no image or half of one."""
    try:
        with warnings.catch_warnings(), Image.open(path) as file:
            # large photos are the user's own; how large they may be is for the caller to say
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            file.load()
            return ImageOps.exif_transpose(file)
    except FileNotFoundError:
        raise AdaptDiffuseError(f"There is no file {path}.") from None
    except UnidentifiedImageError:
        raise AdaptDiffuseError(
            f"{path} cannot be read as an image (cannot identify what it is): save it as JPEG, PNG or TIFF."
        ) from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise AdaptDiffuseError(f"{path} cannot be read as an image ({error}).") from None


def smaller(photo: Tensor, side: int) -> Tensor:
    """(1, 3, H, W) reduced so that its longer side has ``side`` pixels, with antialiasing; as it is where it fits."""
    height, width = photo.shape[-2:]
    size = fitted_size(height, width, side)
    if size == (height, width):
        return photo
    return F.interpolate(photo, size, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)


def fitted_size(height: int, width: int, side: int) -> tuple[int, int]:
    """(height, width) of a photo whose longer side may have ``side`` pixels; 0 leaves it as it is."""
    longest = max(height, width)
    if not 0 < side < longest:
        return height, width
    return max(round(height * side / longest), 1), max(round(width * side / longest), 1)


def read_photo(path: str | Path) -> Tensor:
    """A photo as (1, 3, H, W) float32 on [0, 1]; greyscale, 16-bit, CMYK and transparent ones are converted."""
    image = open_image(Path(path))
    if image.mode.startswith(("I", "F")):
        grey = torch.from_numpy(np.array(image, dtype=np.float32))
        # 16-bit greyscale comes as integers up to 65535, scientific float images as [0, 1]
        return (grey if image.mode == "F" else grey / 65535).repeat(1, 3, 1, 1)
    values = np.asarray(image.convert("RGB"), dtype=np.float32) / 255
    return torch.from_numpy(values).permute(2, 0, 1)[None].contiguous()


def on_scale(photo: Tensor, path: Path) -> Tensor:
    """The photo that was read from ``path``; AdaptDiffuseError where white is not 1, as in some float files."""
    largest = float(photo.max())
    if BRIGHTEST < largest < float("inf"):
        raise AdaptDiffuseError(f"{path} has values up to {largest:g} instead of 1: save it with 8 or 16 bits.")
    return photo


def read_mask(path: str | Path) -> Tensor:
    """A mask as (1, 1, H, W) float32: 1 where the image is lighter than middle grey (lost), else 0 (kept).

    What is transparent is kept, whatever its colour: of a mask that was painted on a layer of its own.
    """
    # by way of a photo, because Pillow cuts 16-bit greyscale off at 255
    values = np.asarray(to_pil(read_photo(path)).convert("L"), dtype=np.float32) / 255
    lost = values > 0.5
    image = open_image(Path(path))
    if image.has_transparency_data:
        lost &= np.asarray(image.convert("RGBA"))[..., 3] > 127
    return torch.from_numpy(lost).float()[None, None]


def to_pil(image: Tensor) -> Image.Image:
    """(3, H, W) or (1, 3, H, W) on [0, 1], clamped, as 8-bit RGB."""
    planes = image.detach().reshape(3, *image.shape[-2:]).float().cpu().clamp(0, 1)
    return Image.fromarray((planes.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8))


def write_image(
    path: str | Path, image: Tensor | Image.Image, one_channel: bool = False, like: str | Path | None = None
) -> None:
    """Write an image, whole or not at all.

    Args:
        one_channel: as a greyscale file, of the image's luminance.
        like: a photo whose ICC profile (what colours the numbers are) and resolution (how large it is printed)
            the file gets as well.

    Raises:
        AdaptDiffuseError: the disk or the folder refuses.
    """
    picture = image if isinstance(image, Image.Image) else to_pil(image)
    shown = picture.convert("L") if one_channel else picture
    kept = {} if like is None else {"icc_profile": profile_of(like, one_channel), "dpi": resolution_of(like)}
    said: dict[str, Any] = {name: value for name, value in kept.items() if value is not None}
    write_whole(Path(path), lambda partial: shown.save(partial, **said))


def has_one_channel(path: str | Path) -> bool:
    """Whether the file is greyscale, with or without transparency; False where it cannot be read."""
    return bool(from_head(path, lambda file: file.mode in ONE_CHANNEL or file.mode.startswith(("I", "F"))))


def profile_of(path: str | Path, one_channel: bool = False) -> bytes | None:
    """The ICC profile in the file, where it is one for the channels that are written; else None."""
    profile = from_head(path, lambda file: file.info.get("icc_profile"))
    space = b"GRAY" if one_channel else b"RGB "
    return profile if profile and profile[16:20] == space else None


def resolution_of(path: str | Path) -> tuple[float, float] | None:
    """Pixels per inch across and down, as the file says; None where it says nothing that makes sense."""
    said = from_head(path, lambda file: file.info.get("dpi"))
    across, down = (float(value) for value in said or (0, 0))
    return (across, down) if all(0 < value < float("inf") for value in (across, down)) else None


def pictures_in(path: str | Path) -> int:
    """How many pictures a file has: pages of a TIFF, frames of an animation; 1 where it cannot be read.

    Layers do not count, nor the second picture in a phone's JPEG, which is a help for bright screens.
    """
    return from_head(path, lambda file: getattr(file, "n_frames", 1) if file.format in PAGED else 1) or 1


def from_head(path: str | Path, read: Callable[[Image.Image], Read]) -> Read | None:
    """What ``read`` finds in the head of an image's file; None where that is no image."""
    try:
        with warnings.catch_warnings(), Image.open(path) as file:
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return read(file)
    except (OSError, EOFError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None


def centre_crop(photo: Tensor, size: int) -> Tensor:
    """The middle ``size`` x ``size`` pixels of (..., H, W); smaller photos are refused with AdaptDiffuseError."""
    height, width = photo.shape[-2:]
    if min(height, width) < size:
        raise AdaptDiffuseError(f"A photo of {width} x {height} is too small for a crop of {size} pixels.")
    top, left = (height - size) // 2, (width - size) // 2
    return photo[..., top : top + size, left : left + size]
