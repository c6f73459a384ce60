"""An estimate as a sentence for people."""

from __future__ import annotations

from .estimate import Estimate

SURE = 0.8  # above this probability nothing is said of doubts
LEAST_NOISE = 0.004
NOTHING = (
    "nothing found: neither blur, JPEG nor noise that could be taken away, so the photo is best left as it is; lost or "
    "scratched parts need a mask, painted or from find-scratches (Find Scratches)"
)


def describe_estimate(estimate: Estimate, index: int = 0) -> str:
    """What happened to photo ``index``: "blurred with std 1.8 ± 0.3 pixels, JPEG quality 35 ± 8, noise 0.04 ± 0.01"."""
    if estimate.damage.nothing[index]:
        return NOTHING
    said = [*_blur(estimate, index), *_scale(estimate, index), *_jpeg(estimate, index), *_noise(estimate, index)]
    return ", ".join(said)


def _blur(estimate: Estimate, index: int) -> list[str]:
    damage, chance = estimate.damage, float(estimate.blurred[index])
    if damage.std[index] > 0:
        number = f"{float(damage.std[index]):.1f} ± {float(estimate.std_error[index]):.1f}"
        return [_doubted(f"blurred with std {number} pixels", chance)]
    if damage.length[index] > 0:
        number = f"{float(damage.length[index]):.0f} ± {float(estimate.length_error[index]):.0f}"
        angle = f"{float(damage.angle[index]):.0f} ± {float(estimate.angle_error[index]):.0f}"
        return [_doubted(f"blurred by a motion of {number} pixels at {angle} degrees", chance)]
    return []


def _scale(estimate: Estimate, index: int) -> list[str]:
    factor = int(estimate.damage.factor[index])
    if factor == 1:
        return []
    return [_doubted(f"made smaller by {factor} and enlarged again", float(estimate.reduced[index]))]


def _jpeg(estimate: Estimate, index: int) -> list[str]:
    if estimate.damage.quality[index] >= 100:
        return []
    number = f"{float(estimate.damage.quality[index]):.0f} ± {float(estimate.quality_error[index]):.0f}"
    return [_doubted(f"JPEG quality {number}", float(estimate.compressed[index]))]


def _noise(estimate: Estimate, index: int) -> list[str]:
    level = float(estimate.damage.noise_std[index])
    if level < LEAST_NOISE:
        return []
    digits, error = 2 if level >= 0.02 else 3, float(estimate.noise_error[index])
    return [f"noise {level:.{digits}f} ± {error:.{digits}f}" if error else f"noise {level:.{digits}f}, as told"]


def _doubted(text: str, chance: float) -> str:
    return text if chance > SURE else f"{text} (not sure: {100 * chance:.0f} %)"
