"""Pictures side by side, with captions."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .images import to_pil

GAP, CAPTION = 8, 26


def before_after(columns: Sequence[tuple[str, Tensor]]) -> Image.Image:
    """One row per photo, one captioned column per version.

    Args:
        columns: captions with photos (B, 3, H, W) on [0, 1], all of one shape.
    """
    count, _, height, width = columns[0][1].shape
    sheet = Image.new(
        "RGB", (GAP + len(columns) * (width + GAP), CAPTION + GAP // 2 + count * (height + GAP)), (245, 245, 242)
    )
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(14 if width >= 100 else 10)
    for column, (caption, photos) in enumerate(columns):
        left = GAP + column * (width + GAP)
        draw.text((left, CAPTION // 2), caption, fill=(40, 40, 40), font=font, anchor="lm")
        for row, photo in enumerate(photos):
            sheet.paste(to_pil(photo), (left, CAPTION + GAP // 2 + row * (height + GAP)))
    return sheet
