"""Photos of every kind that people have, each with the plain photo that it shows."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.models import drawn_photo

SIZE = (24, 32)  # height, width
Writer = Callable[[Path], np.ndarray]  # writes the photo and gives its colours (H, W, 3), 8 bit


def picture(height: int = SIZE[0], width: int = SIZE[1]) -> np.ndarray:
    return drawn_photo(4, height, width)


def kept(make: Callable[[], Image.Image], **options: Any) -> Writer:
    """What a file of that kind keeps of the picture's colours is what it shows."""

    def write(path: Path) -> np.ndarray:
        make().save(path, **options)
        with Image.open(path) as again:
            return np.asarray(again.convert("RGB"))

    return write


def full(value: int, height: int = SIZE[0], width: int = SIZE[1]) -> Writer:
    return kept(lambda: Image.new("RGB", (width, height), (value,) * 3))


def colour() -> Image.Image:
    return Image.fromarray(picture())


def grey() -> Image.Image:
    return Image.fromarray(picture()[..., 1].copy())


def transparent() -> Image.Image:
    """With an alpha channel that hides the upper half."""
    image = colour()
    image.putalpha(Image.fromarray(np.repeat([[0], [255]], SIZE[0] // 2, 0).repeat(SIZE[1], 1).astype(np.uint8)))
    return image


def deep_grey(path: Path) -> np.ndarray:
    Image.fromarray(np.asarray(grey()).astype(np.uint16) * 257).save(path)
    return np.asarray(grey().convert("RGB"))


def deep_colour(path: Path) -> np.ndarray:
    """A 16-bit RGB PNG, which Pillow cannot write."""
    rows = b"".join(b"\0" + (row.astype(">u2") * 257).astype(">u2").tobytes() for row in picture())
    header = struct.pack(">IIBBBBB", SIZE[1], SIZE[0], 16, 2, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    chunks = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    return picture()


def turned(path: Path) -> np.ndarray:
    """As from a phone held upright: it lies on its side, and EXIF says so."""
    exif = Image.Exif()
    exif[0x0112] = 6
    colour().save(path, exif=exif, quality=95)
    with Image.open(path) as again:
        return np.rot90(np.asarray(again), -1).copy()


def frames(path: Path) -> np.ndarray:
    """Three frames; the first is the photo."""
    others = [Image.fromarray(255 - picture()), Image.fromarray(picture()[::-1].copy())]
    lossless = {"lossless": True} if path.suffix == ".webp" else {}
    colour().save(path, save_all=True, append_images=others, **lossless)
    return picture()


KINDS: dict[str, Writer] = {
    "grey.png": kept(grey),
    "grey with alpha.png": kept(lambda: transparent().convert("LA")),
    "transparent.png": kept(transparent),
    "16 bit grey.png": deep_grey,
    "16 bit colour.png": deep_colour,
    "turned.jpg": turned,
    "cmyk.jpg": kept(lambda: colour().convert("CMYK"), quality=95),
    "cmyk.tif": kept(lambda: colour().convert("CMYK")),
    "palette.png": kept(lambda: colour().quantize(32)),
    "palette with transparency.png": kept(lambda: colour().quantize(32), transparency=3),
    "1 bit.png": kept(lambda: grey().convert("1")),
    "animated.png": frames,
    "animated.webp": frames,
    "pages.tif": frames,
    "one pixel.png": full(130, 1, 1),
    "one row.png": kept(lambda: Image.fromarray(picture(1, 40))),
    "black.png": full(0),
    "white.png": full(255),
}
