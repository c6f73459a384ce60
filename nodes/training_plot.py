"""The picture in the Train Severity Encoder node: how the error falls, and whether sigma_hat is right."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..adapt_diffuse.hosts.comfy_training import Curve
from ..adapt_diffuse.severity.evaluation import SeverityErrors
from .plot import CURVE, DONE, INK, PAPER, START

SIDE, MARGIN = 256, 22  # of each half
LINES = 64  # the curve is the mean over so many stretches of the training


def training_picture(curve: Curve) -> Image.Image:
    """The latent error over the steps (left), and predicted against true error of the validation photos (right)."""
    picture = Image.new("RGB", (4 * SIDE, 2 * SIDE), PAPER)
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=26)
    draw_curve(draw, font, curve)
    draw.line([(2 * SIDE, 16), (2 * SIDE, 2 * SIDE - 16)], fill=CURVE, width=2)
    if curve.errors is None:
        draw.text((3 * SIDE, SIDE), "calibration: after the\nfirst validation", fill=INK, font=font, anchor="mm")
    else:
        draw_calibration(draw, font, curve.errors)
    return picture.resize((2 * SIDE, SIDE), Image.Resampling.LANCZOS)


def training_plot(curve: Curve) -> Tensor:
    """The same as an IMAGE (1, H, W, 3)."""
    return torch.from_numpy(np.asarray(training_picture(curve), dtype=np.float32) / 255)[None]


def draw_curve(draw: ImageDraw.ImageDraw, font: Any, curve: Curve) -> None:
    if not curve.steps:  # an interrupt came after the last step
        draw.text((SIDE, SIDE), "nothing was left to learn", fill=INK, font=font, anchor="mm")
        return
    steps, errors = stretches(curve.steps, [math.sqrt(value) for value in curve.reconstruction])
    low, high = span(errors)
    first, last = steps[0], max(steps[-1], steps[0] + 1)
    line = [
        place((s - first) / (last - first), (e - low) / (high - low), 0) for s, e in zip(steps, errors, strict=True)
    ]
    if len(line) > 1:
        draw.line(line, fill=DONE, width=6, joint="curve")
    x, y = line[-1]
    draw.ellipse([x - 8, y - 8, x + 8, y + 8], fill=START)
    draw.text((16, 8), f"latent error {errors[-1]:.3f}", fill=INK, font=font)
    draw.text((2 * SIDE - 16, 2 * SIDE - 36), f"step {curve.steps[-1]}", fill=INK, font=font, anchor="ra")


def draw_calibration(draw: ImageDraw.ImageDraw, font: Any, errors: SeverityErrors) -> None:
    predicted, true = errors.sigma_hat.tolist(), errors.true_error.tolist()
    low, high = span([*predicted, *true])
    draw.line([place(0, 0, 1), place(1, 1, 1)], fill=CURVE, width=4)
    for p, t in zip(predicted, true, strict=True):
        x, y = place((t - low) / (high - low), (p - low) / (high - low), 1)
        draw.ellipse([x - 6, y - 6, x + 6, y + 6], fill=START)
    ratio = sum(p / t for p, t in zip(predicted, true, strict=True)) / len(true)
    draw.text((2 * SIDE + 16, 8), f"predicted / true {ratio:.2f}", fill=INK, font=font)
    draw.text(
        (4 * SIDE - 16, 2 * SIDE - 36),
        f"true error, {min(true):.2f} to {max(true):.2f}",
        fill=INK,
        font=font,
        anchor="ra",
    )


def stretches(steps: Sequence[int], values: Sequence[float]) -> tuple[list[float], list[float]]:
    """Means of steps and values over at most ``LINES`` stretches: single steps jump about."""
    parts = np.array_split(np.arange(len(steps)), min(LINES, len(steps)))
    return [float(np.mean([steps[i] for i in p])) for p in parts], [
        float(np.mean([values[i] for i in p])) for p in parts
    ]


def span(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high - low > 1e-6 else (low - 0.5, high + 0.5)


def place(x: float, y: float, half: int) -> tuple[float, float]:
    """Pixel of a point of the unit square in the left (0) or right (1) half."""
    inner = SIDE - 2 * MARGIN
    return 2 * (half * SIDE + MARGIN + x * inner), 2 * (SIDE - MARGIN - y * inner)
