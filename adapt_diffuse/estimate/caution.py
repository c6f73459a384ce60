"""An estimate is not the truth: what a restoration has to allow for."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..detail import with_detail
from ..images import smaller
from ..measurement import Measurement
from .damage import FLOOR, NO_JPEG, Damage, clean, has, with_number
from .estimate import NUMBERS, Estimate

# a residual above: what was estimated is not what happened. On training photos it was at most 1.03 where they were
# restored by their own estimates (63 of them), 1.6 to 4.6 by a blur, a motion or a factor that was far off (15)
FAR = 1.2
SHARPEST = 1.0  # pixels of blur in the stand-in of the sharp photo
HALF_BLOCK = 4  # pixels
LEAST_SIDE = 48  # pixels of that stand-in


@torch.no_grad()
def cautious(estimate: Estimate, photo: Tensor) -> Damage:
    """The damage with the noise that a restoration should believe in: at least 0.01, and the operator's own error.

    A solver that is told of hardly any noise inverts the operator to the last grey level, and where the true blur
    differs a little from the estimated one, what that makes of the difference are stripes. The allowances are added to
    the noise that was found as variances are. To show what the damage looks like, take ``estimate.damage``.

    Args:
        photo: (B, 3, H, W) on [0, 1], that of the estimate.
    """
    found = estimate.damage.noise_std
    return replace(
        estimate.damage, noise_std=torch.hypot(found.clamp_min(FLOOR), allowance(estimate, photo)).clamp_max(1)
    )


@torch.no_grad()
def doubted(assumed: Damage, photo: Tensor, image: Tensor) -> Damage | None:
    """The damage with more noise, where that which was assumed does not explain the photo; None where it does.

    A wrong operator makes patterns of what it cannot explain. Noise as large as what is left makes the residual 1, and
    the restoration gentler. What the autoencoder has lost is no sign of a wrong operator: it is put back first.

    Args:
        assumed: of one photo.
        photo: (1, 3, h, w) on [0, 1].
        image: (1, 3, H, W) what it was restored to.
    """
    measurement = Measurement.of(photo, assumed.degradation())
    residual = float(measurement.residual_ratio(with_detail(image, measurement))[0])
    if residual <= FAR or not inverts(assumed):
        return None
    return replace(assumed, noise_std=(assumed.noise_std * residual).clamp_max(1))


def inverts(damage: Damage) -> bool:
    """Whether a wrong estimate of a photo makes patterns: where there is a blur, or low resolution."""
    return bool((damage.std > 0) | (damage.length > 0) | (damage.factor > 1))


@torch.no_grad()
def allowance(estimate: Estimate, photo: Tensor) -> Tensor:
    """By how much A(x) is wrong where the numbers of A are off by one standard deviation, (B,) float64.

    For each number half the root mean square of what A(x) changes from one standard deviation below to one above, and
    the root of the sum of their squares. The sharp x is unknown. Photos look alike at every scale (Ruderman 1994), so
    that the photo, made smaller until its blur is about a pixel, stands in for it.
    """
    rows = [
        _allowance(estimate.select(torch.tensor([index])), photo[index : index + 1]) for index in range(len(estimate))
    ]
    return torch.tensor(rows, dtype=torch.float64)


def _allowance(one: Estimate, photo: Tensor) -> float:
    sharp, total = stand_in(one.damage, photo), 0.0
    for name, error, low, high in NUMBERS:
        if not has(one.damage, name):
            continue
        middle, off = float(getattr(one.damage, name)), float(getattr(one, error))
        ends = [clean(with_number(one.damage, name, min(max(middle + way * off, low), high)), sharp) for way in (-1, 1)]
        total += float((ends[1] - ends[0]).cpu().double().square().mean()) / 4
    return total**0.5


def stand_in(damage: Damage, photo: Tensor) -> Tensor:
    """The photo (1, 3, H, W), made smaller until what blurred it is about a pixel wide, its JPEG blocks out of step.

    A compressed photo that is compressed again with the same blocks hardly changes; a fresh one does.
    """
    if damage.quality < NO_JPEG:
        photo = photo[:, :, HALF_BLOCK:, HALF_BLOCK:] if min(photo.shape[2:]) > 2 * HALF_BLOCK else photo
    # a motion of some length blurs as a Gaussian of its standard deviation, length / sqrt(12), does along it
    blur = max(float(damage.std), float(damage.length) / 12**0.5, 0.5 * float(damage.factor))
    side = max(photo.shape[2:])
    return smaller(photo, max(round(side * SHARPEST / max(blur, SHARPEST)), min(LEAST_SIDE, side)))
