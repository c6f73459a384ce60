"""The picture in the Start Time node."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

WIDTH, HEIGHT, MARGIN = 480, 270, 36
PAPER, INK, CURVE, START, DONE = (28, 30, 34), (190, 194, 200), (96, 104, 116), (255, 170, 60), (110, 200, 150)
MAX_MARKS = 4


def schedule_plot(levels: Tensor, starts: list[float], steps: list[int]) -> Tensor:
    """The model's noise levels over its time, with each start marked, as an IMAGE (1, H, W, 3).

    Args:
        levels: (n,) ascending sigmas of the model.
        starts: levels of the first steps, one per photo.
        steps: their numbers of steps.
    """
    picture = Image.new("RGB", (2 * WIDTH, 2 * HEIGHT), PAPER)
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=40)
    logs = levels.double().log().numpy()
    times = np.linspace(0, 1, len(logs))
    low, high = logs[0], logs[-1]

    def place(time: float, log: float) -> tuple[float, float]:
        x = 2 * (MARGIN + time * (WIDTH - 2 * MARGIN))
        y = 2 * (HEIGHT - MARGIN - (log - low) / (high - low) * (HEIGHT - 2 * MARGIN))
        return x, y

    draw.line([place(t, v) for t, v in zip(times, logs, strict=True)], fill=CURVE, width=4, joint="curve")
    draw.text((16, 6), "noise level", fill=INK, font=font)
    draw.text((2 * WIDTH - 16, 2 * HEIGHT - 56), "pure noise >", fill=INK, font=font, anchor="ra")
    draw.text((16, 2 * HEIGHT - 56), "< clean photo", fill=INK, font=font)
    for start, count in list(zip(starts, steps, strict=True))[:MAX_MARKS]:
        log = float(np.clip(np.log(start), low, high))
        time = float(np.interp(log, logs, times))
        walked = [place(t, v) for t, v in zip(times, logs, strict=True) if v <= log] + [place(time, log)]
        if len(walked) > 1:
            draw.line(walked, fill=DONE, width=8, joint="curve")
        x, y = place(time, log)
        draw.ellipse([x - 10, y - 10, x + 10, y + 10], fill=START)
        # the curve rises: there is room above its left and below its right
        anchor, spot = ("ra", (x - 18, y - 52)) if time > 0.5 else ("la", (x + 20, y + 4))
        draw.text(spot, f"start {start:.3f}, {count} steps", fill=START, font=font, anchor=anchor)
    if len(starts) > MAX_MARKS:
        draw.text((16, 56), f"and {len(starts) - MAX_MARKS} more photos", fill=INK, font=font)
    small = picture.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(small, dtype=np.float32) / 255)[None]
