"""The pictures in our nodes: how bad the photo is, and where on the schedule it starts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..adapt_diffuse.words import GRADES, grade

WIDTH, BAR_HEIGHT, SCHEDULE_HEIGHT, MARGIN = 960, 200, 440, 32
FINER = 2  # PIL's lines have hard edges: pictures are drawn larger and reduced
PAPER, INK, CURVE, START, DONE = (28, 30, 34), (190, 194, 200), (96, 104, 116), (255, 170, 60), (110, 200, 150)
SHADES = ((86, 168, 124), (146, 170, 92), (200, 160, 72), (206, 118, 72), (176, 80, 80))  # of the grades
WORST = 1.0  # severity at the right end of the bar
TEXT, SMALL = 30, 24  # pixels
MAX_MARKS, CURVE_POINTS = 4, 300

Point = tuple[float, float]


class Canvas:
    """A dark picture to draw on, in pixels of what is shown.

    Args:
        height: of the picture; its width is the same for all.
    """

    def __init__(self, height: int):
        self.picture = Image.new("RGB", (FINER * WIDTH, FINER * height), PAPER)
        self.draw = ImageDraw.Draw(self.picture)
        self.height = height

    def text(self, at: Point, words: str, fill: Any = INK, size: int = TEXT, anchor: str = "la") -> None:
        font = ImageFont.load_default(size=FINER * size)
        self.draw.text((FINER * at[0], FINER * at[1]), words, fill=fill, font=font, anchor=anchor)

    def line(self, points: Sequence[Point], fill: Any, width: int) -> None:
        self.draw.line([(FINER * x, FINER * y) for x, y in points], fill=fill, width=FINER * width, joint="curve")

    def box(self, left: float, top: float, right: float, bottom: float, fill: Any) -> None:
        self.draw.rectangle([FINER * left, FINER * top, FINER * right - 1, FINER * bottom - 1], fill=fill)

    def disc(self, at: Point, radius: float, fill: Any) -> None:
        x, y = at
        self.draw.ellipse([FINER * v for v in (x - radius, y - radius, x + radius, y + radius)], fill=fill)

    def pointer(self, x: float, top: float, bottom: float, fill: Any) -> None:
        """A triangle that stands on its tip at ``bottom``."""
        half = (bottom - top) / 2
        self.draw.polygon([(FINER * a, FINER * b) for a, b in ((x - half, top), (x + half, top), (x, bottom))], fill)

    def shown(self) -> Image.Image:
        return self.picture.resize((WIDTH, self.height), Image.Resampling.LANCZOS)


def severity_bar(sigmas: Sequence[float], damage: str) -> Image.Image:
    """The severity of photos on a bar of what the grades mean.

    Args:
        sigmas: sigma_hat of every photo.
        damage: what the photos are: "blurred", "damaged".
    """
    canvas = Canvas(BAR_HEIGHT)
    canvas.text((MARGIN, 16), severity_title(sigmas, damage), START)
    top, bottom = 106, 140
    edges = [0.0, *(limit for limit, _ in GRADES), WORST]
    for low, high, shade in zip(edges[:-1], edges[1:], SHADES, strict=True):
        left, right = along(low), along(high)
        canvas.box(left + 1, top, right - 1, bottom, shade)
        word = grade(low)
        canvas.text(((left + right) / 2, bottom + 12), word, INK, SMALL, "ma")
    for number, sigma in enumerate(sigmas[:MAX_MARKS], 1):
        x = along(min(sigma, WORST))
        canvas.pointer(x, top - 24, top + 4, START)
        canvas.line([(x, top), (x, bottom)], PAPER, 3)
        if len(sigmas) > 1:
            canvas.text((x, top - 28), str(number), START, SMALL, "mb")
    return canvas.shown()


def along(sigma: float) -> float:
    """Where on the bar a severity stands, in pixels from the left."""
    return MARGIN + sigma / WORST * (WIDTH - 2 * MARGIN)


def severity_title(sigmas: Sequence[float], damage: str) -> str:
    if len(sigmas) == 1:
        return f"{grade(sigmas[0])} {damage}: severity {sigmas[0]:.2f}"
    values = ", ".join(f"{sigma:.2f}" for sigma in sigmas[:MAX_MARKS])
    rest = f" and {len(sigmas) - MAX_MARKS} more" if len(sigmas) > MAX_MARKS else ""
    return f"{len(sigmas)} photos, severity {values}{rest}"


def schedule_plot(levels: Tensor, starts: Sequence[float], steps: Sequence[int]) -> Image.Image:
    """The model's noise levels over its time, with each start and the way that it saves.

    Args:
        levels: (n,) ascending sigmas of the model.
        starts: levels of the first steps, one per photo.
        steps: their numbers of steps.
    """
    canvas = Canvas(SCHEDULE_HEIGHT)
    every = levels.double().log().numpy()
    times = np.linspace(0, 1, CURVE_POINTS)  # lines of shorter pieces come out ragged
    logs = np.interp(times, np.linspace(0, 1, len(every)), every)
    low, high = logs[0], max(logs[-1], logs[0] + 1e-6)
    top, bottom = 80, SCHEDULE_HEIGHT - 60

    def place(time: float, log: float) -> Point:
        return MARGIN + time * (WIDTH - 2 * MARGIN), bottom - (log - low) / (high - low) * (bottom - top)

    canvas.text((MARGIN, 16), steps_saved(steps, len(levels)), DONE)
    canvas.text((MARGIN, bottom + 16), "< clean photo", INK, SMALL)
    canvas.text((WIDTH - MARGIN, bottom + 16), "pure noise >", INK, SMALL, "ra")
    canvas.line([place(t, v) for t, v in zip(times, logs, strict=True)], CURVE, 3)
    for number, start in list(enumerate(starts, 1))[:MAX_MARKS]:
        log = float(np.clip(np.log(max(start, 1e-12)), low, high))
        time = float(np.interp(log, logs, times))
        walked = [place(t, v) for t, v in zip(times, logs, strict=True) if v <= log] + [place(time, log)]
        if len(walked) > 1:
            canvas.line(walked, DONE, 7)
        x, y = place(time, log)
        canvas.disc((x, y), 10, START)
        words = f"start at {start:.2f}" if len(starts) == 1 else str(number)
        # the curve rises: there is room above its left and below its right
        anchor, spot = ("rb", (x - 16, y - 6)) if time > 0.5 else ("la", (x + 18, y + 2))
        canvas.text(spot, words, START, SMALL, anchor)
    return canvas.shown()


def steps_saved(steps: Sequence[int], levels: int) -> str:
    """How many steps the restoration takes, and how many of the model's levels that leaves out."""
    most = max(steps)
    taken = f"{most} steps" if len(set(steps)) == 1 else f"{min(steps)} to {most} steps"
    saved = levels - most
    return f"{taken}, {saved} of {levels} saved" if saved > 0 else f"{taken}, none saved"


def stacked(*pictures: Image.Image) -> Image.Image:
    """Pictures of one width, one below the other."""
    sheet = Image.new("RGB", (pictures[0].width, sum(picture.height for picture in pictures)))
    top = 0
    for picture in pictures:
        sheet.paste(picture, (0, top))
        top += picture.height
    return sheet


def as_image(picture: Image.Image) -> Tensor:
    """The host's IMAGE (1, H, W, 3) of a picture."""
    return torch.from_numpy(np.asarray(picture, dtype=np.float32) / 255)[None]
