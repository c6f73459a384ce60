"""How large a photo may be, said before anything is allocated for it."""

from __future__ import annotations

from .errors import AdaptDiffuseError

# that a restoration keeps alive at the very least, for each pixel of the image: encoder and denoiser see it whole
BYTES_PER_PIXEL = 2**10
MOST_PIXELS = 2**26  # beyond that a denoiser that attends to the whole picture takes days


def most_pixels(free: float | None) -> float:
    """How many pixels, at most, ``free`` bytes of memory are enough for; None where nobody knows how many are free."""
    return MOST_PIXELS if free is None else min(MOST_PIXELS, max(free, 0) / BYTES_PER_PIXEL)


def check_feasible(height: int, width: int, longest: int, free: float | None, remedy: str) -> None:
    """Refuse what no patience would bring to an end.

    Args:
        height, width: of the restored image, in pixels.
        longest: the longer side of the photo, which may be smaller.
        free: bytes of memory that may be used; None where nobody knows.
        remedy: what to do, with ``{side}`` for the longer side of the largest photo of these proportions.

    Raises:
        AdaptDiffuseError: the image is too large.
    """
    most = most_pixels(free)
    if height * width <= most:
        return
    side = max(int(longest * (most / (height * width)) ** 0.5), 1)
    side -= side % 64 if side >= 64 else 0
    raise AdaptDiffuseError(
        f"A restored photo of {width} x {height} ({height * width / 1e6:.0f} megapixels) is too large: at most about "
        f"{most / 1e6:.1f} megapixels are possible here. {remedy.format(side=side)}"
    )
