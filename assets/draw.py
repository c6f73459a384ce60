"""Draws the icon (400 x 400) and the banner (21:9) of the registry, and the lens spot: ``python assets/draw.py``."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

FOLDER = Path(__file__).resolve().parent
FINER = 3  # everything is drawn larger and reduced, for soft edges
# those of the pictures in the nodes
PAPER, INK, FAINT, CURVE, START, DONE = "#1c1e22", "#e6e8ec", "#9aa0aa", "#606874", "#ffaa3c", "#6ec896"
Point = tuple[float, float]


def schedule(left: float, top: float, right: float, bottom: float) -> Callable[[float], Point]:
    """A noise schedule in a box: from high on the left (0) down to the right (1), as sigmas fall."""

    def at(part: float) -> Point:
        fall = math.exp(-2.6 * part) - math.exp(-2.6) * part
        return left + (right - left) * part, bottom - (bottom - top) * fall

    return at


class Sheet:
    def __init__(self, width: int, height: int):
        self.size = (width, height)
        self.picture = Image.new("RGB", (FINER * width, FINER * height), PAPER)
        self.draw = ImageDraw.Draw(self.picture)

    def path(self, at: Callable[[float], Point], first: float, last: float, fill: str, width: float) -> None:
        """A line with round ends; discs, because PIL's joints show in thick curves."""
        steps = 400
        for number in range(steps + 1):
            self.disc(at(first + (last - first) * number / steps), width / 2, fill)

    def disc(self, centre: Point, radius: float, fill: str) -> None:
        x, y = centre
        self.draw.ellipse([FINER * value for value in (x - radius, y - radius, x + radius, y + radius)], fill=fill)

    def grain(self, box: tuple[int, int, int, int], cell: int, light: int, seed: int) -> None:
        """Noise that thins out from the upper left corner of ``box`` to the lower right one."""
        left, top, right, bottom = box
        draws = np.random.default_rng(seed)
        for x in range(left, right, cell):
            for y in range(top, bottom, cell):
                way = ((x - left) / (right - left) + (y - top) / (bottom - top)) / 2
                strength = max(0.0, 1 - 1.7 * way) ** 1.5
                level = round(30 + light * draws.random() * strength * draws.random())
                inset = cell * 0.08
                corners = [FINER * v for v in (x + inset, y + inset, x + cell - inset, y + cell - inset)]
                if level > 35:
                    self.draw.rounded_rectangle(corners, FINER * cell * 0.18, fill=(level, level + 2, level + 6))

    def text(self, at: Point, words: str, size: int, fill: str) -> None:
        font = ImageFont.load_default(size=FINER * size)
        self.draw.text((FINER * at[0], FINER * at[1]), words, fill=fill, font=font)

    def paste(self, photo: Image.Image, at: Point, side: int, radius: int) -> None:
        """A square photo with round corners."""
        large = photo.resize((FINER * side, FINER * side), Image.Resampling.LANCZOS)
        shape = Image.new("L", large.size, 0)
        ImageDraw.Draw(shape).rounded_rectangle((0, 0, *large.size), FINER * radius, fill=255)
        self.picture.paste(large, (round(FINER * at[0]), round(FINER * at[1])), shape)

    def save(self, name: str) -> None:
        reduced = self.picture.resize(self.size, Image.Resampling.LANCZOS)
        reduced.save(FOLDER / name, optimize=True, quality=92)


def route(sheet: Sheet, at: Callable[[float], Point], start: float, width: float) -> None:
    """The schedule: what is saved, what is walked, and the start between them."""
    sheet.path(at, 0, start, CURVE, width)
    sheet.path(at, start, 1, DONE, width)
    sheet.disc(at(start), width * 1.55, PAPER)
    sheet.disc(at(start), width * 1.2, START)


def half_and_half() -> Image.Image:
    """The demo's flower: damaged above the diagonal, restored below it."""
    shown = Image.open(FOLDER / "before-after.png").convert("RGB")
    damaged, restored = (shown.crop((left, 30, left + 256, 286)) for left in (272, 536))
    large = (1024, 1024)
    below = Image.new("L", large, 0)
    ImageDraw.Draw(below).polygon([(1024, 0), (1024, 1024), (0, 1024)], fill=255)
    both = Image.composite(*(photo.resize(large, Image.Resampling.LANCZOS) for photo in (restored, damaged)), below)
    ImageDraw.Draw(both).line([(1024, 0), (0, 1024)], fill=INK, width=8)
    return both


def icon() -> None:
    sheet = Sheet(400, 400)
    sheet.grain((0, 0, 400, 400), 20, light=130, seed=3)
    route(sheet, schedule(48, 44, 356, 348), 0.4, 30)
    sheet.save("icon.png")


def banner() -> None:
    sheet = Sheet(1260, 540)
    sheet.grain((0, 0, 1260, 540), 18, light=60, seed=5)
    sheet.paste(half_and_half(), (800, 60), 420, 28)
    sheet.text((64, 74), "Adapt & Diffuse", 84, INK)
    sheet.text((68, 186), "How bad a photo is decides", 34, FAINT)
    sheet.text((68, 230), "where diffusion starts.", 34, FAINT)
    route(sheet, schedule(72, 330, 740, 482), 0.42, 14)
    sheet.save("banner.jpg")


def lens_spot(side: int = 25, radius: float = 4.0, turned: float = 12.0, finer: int = 32) -> None:
    """What a lens with an iris of six blades makes of a point: as large as a disk of ``radius`` pixels.

    With black around it, because ComfyUI cannot load greyscale pictures below 16 pixels.
    """
    place = (np.arange(side * finer) + 0.5) / finer - side / 2
    inner = radius * math.sqrt(math.pi / math.sqrt(12))  # of the hexagon with the disk's area
    across = [math.radians(turned + 60 * blade) for blade in range(3)]
    inside = [np.abs(place * math.cos(angle) + place[:, None] * math.sin(angle)) <= inner for angle in across]
    share = np.all(inside, axis=0).reshape(side, finer, side, finer).mean((1, 3))
    Image.fromarray((255 * share).round().astype(np.uint8)).save(FOLDER / "lens-spot.png", optimize=True)


if __name__ == "__main__":
    icon()
    banner()
    lens_spot()
