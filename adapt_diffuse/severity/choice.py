"""Which severity encoder serves a photo: by the autoencoder's latent space, and by what happened to the photo.

Files are judged by their metadata alone, so a folder of them is looked through in milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from ..degradation import (
    LOSING,
    CameraBlur,
    Degradation,
    Downscale,
    Family,
    GaussianBlur,
    Jpeg,
    LowResolution,
    MotionBlur,
    Noise,
    family_from_json,
    family_to_json,
    noise_levels,
    steps_of,
)
from ..degradation.families import MissingPixelsFamily
from ..degradation.mixed import MixedFamily
from ..latent_space import TOLERANCE, LatentSpace
from .checkpoint import FORMAT, read_notes

MIXED = "mixed"
# the family of an operator, and the number that is its strength; a camera's shake has none
STRENGTHS: tuple[tuple[type, str, str], ...] = (
    (GaussianBlur, "gaussian-blur", "std"),
    (MotionBlur, "motion-blur", "length"),
    (CameraBlur, "camera-blur", ""),
    (Downscale, "downscale", "factor"),
    (LowResolution, "downscale", "factor"),
    (Jpeg, "jpeg", "quality"),
    (Noise, "noise", "noise_std"),
)
BEYOND = 1.2  # times the trained range
LOST_BEYOND = 0.05  # of the pixels
NOISE_BEYOND = 0.02  # of noise_std
TRUSTED = 0.5  # correlation of sigma_hat with the true error on its validation photos; a first try has less


@dataclass(frozen=True)
class Trained:
    """What a severity encoder's file says of itself.

    Attributes:
        family: the name of the family of degradations that it was trained on.
        damage: that family.
    """

    path: Path
    space: LatentSpace
    family: str
    damage: Family


def choose(files: Iterable[Path], latent: Tensor, degradation: Degradation, photo: Tensor) -> Path | None:
    """The severity encoder among ``files`` for damaged photos; None where none fits, and a calibration is better.

    Of those whose latent space is the autoencoder's and whose family covers the degradation: one for this kind of
    damage alone before a mixed one, then the closest latent space.

    Args:
        latent: the autoencoder's encoding of ``latent_space.test_pattern()``, in its raw scale.
        photo: (B, 3, H, W), for its size.
    """
    fitting = [one for one in described(files) if one.space.distance(latent) <= TOLERANCE]
    fitting = [one for one in fitting if covers(one.damage, degradation, photo)]
    if not fitting:
        return None
    return min(fitting, key=lambda one: (one.family == MIXED, one.space.distance(latent))).path


def for_family(files: Iterable[Path], family: str) -> Path | None:
    """The first of ``files`` that was trained on the family of that name, else the first mixed one, else None."""
    found = [one for one in described(files) if one.family in (family, MIXED)]
    return min(found, key=lambda one: one.family != family).path if found else None


def described(files: Iterable[Path]) -> list[Trained]:
    """Those of ``files`` that are severity encoders of a family that this version knows."""
    found = [read_trained(path, path.stat().st_mtime_ns) for path in files if path.is_file()]
    return [one for one in found if one is not None]


@lru_cache(maxsize=256)
def read_trained(path: Path, changed: int) -> Trained | None:
    """What a file says of itself; None where it is no severity encoder, or one that has not learnt to tell severities.

    Args:
        changed: when it was written; part of the cache's key.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        if metadata.get("format") != FORMAT:
            return None
        notes = read_notes(metadata)
        if not notes.get("validation", {}).get("pearson_error", 1.0) >= TRUSTED:
            return None
        family = notes["family"]
        return Trained(path, LatentSpace.from_json(metadata["latent_space"]), family["name"], family_from_json(family))
    except (SafetensorError, OSError, KeyError, ValueError, TypeError):
        return None


def covers(family: Family, degradation: Degradation, photo: Tensor) -> bool:
    """Whether photos after ``degradation`` look like those that a severity encoder of ``family`` was trained on.

    Less noise than there is taken for alike: sigma_hat is then some tenths too large, and the restoration as good.

    Lost pixels without other damage are left to an encoder for them alone, and to it only where about as many are lost
    as in its training: elsewhere a calibration, which fills them from their neighbours, errs less. Of a batch every
    photo must look so.
    """
    if float(noise_levels(degradation, len(photo)).max()) > family.noise_std + NOISE_BEYOND:
        return False
    lost = 1 - degradation.count(photo) / photo[0].numel()
    return all(_covers_steps(family, steps, lost) for steps in steps_of(degradation))


def _covers_steps(family: Family, steps: tuple[Degradation, ...], lost: Tensor) -> bool:
    """``covers`` for what happened to one photo, or to all; ``lost`` (B,) of the values of each."""
    losing = [step for step in steps if isinstance(step, LOSING)]
    others = [step for step in steps if not isinstance(step, LOSING)]
    if isinstance(family, MixedFamily):
        few = float(lost.max()) <= family.drop_max + LOST_BEYOND
        return few and bool(others) and all(within(step, mixed_limits(family)) for step in others)
    if isinstance(family, MissingPixelsFamily):
        inside = (lost >= family.drop_min - LOST_BEYOND) & (lost <= family.drop_max + LOST_BEYOND)
        return bool(losing) and not others and bool(inside.all())
    return not losing and len(others) == 1 and within(others[0], own_limits(family))


def within(part: Degradation, limits: dict[str, float]) -> bool:
    """Whether one step of the damage is of a kind with a limit in ``limits``, and hardly stronger than that."""
    kind, number = next(((kind, number) for one, kind, number in STRENGTHS if isinstance(part, one)), ("", ""))
    if kind not in limits:
        return False
    values = torch.as_tensor(getattr(part, number)) if number else torch.zeros(1)
    if kind == "jpeg":  # the better, the milder
        return bool((BEYOND * values >= limits[kind]).all())
    return bool((values <= BEYOND * limits[kind]).all())


def own_limits(family: Family) -> dict[str, float]:
    """The strongest damage of a family of one kind, by that kind's name; nothing for other families."""
    name = family_to_json(family)["name"]
    ends = {"gaussian-blur": "std_max", "motion-blur": "length_max", "downscale": "factor_max", "jpeg": "quality_min"}
    if name in ends:
        return {name: float(getattr(family, ends[name]))}
    return {name: math.inf} if name in ("camera-blur", "noise") else {}


def mixed_limits(family: MixedFamily) -> dict[str, float]:
    """The strongest steps of its chains, by the names of their kinds; the noise has a limit of its own."""
    return {
        "gaussian-blur": family.std_max,
        "motion-blur": family.length_max,
        "downscale": family.factor_max,
        "jpeg": family.quality_min,
        "noise": math.inf,
    }
