"""What ships in ``weights/``."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from .errors import AdaptDiffuseError

WEIGHTS = Path(__file__).resolve().parent.parent / "weights"
MODEL_NAME = "flowers-128"


def bundled_model() -> Path:
    """The diffusers folder of the bundled model. Raises AdaptDiffuseError where the clone is incomplete."""
    folder = WEIGHTS / MODEL_NAME
    if not (folder / "unet").is_dir():
        raise AdaptDiffuseError(f"The bundled weights are missing from {folder}: clone the repository again.")
    return folder


def bundled_encoders() -> dict[str, Path]:
    """The bundled severity encoders by name (the file's name without its suffix)."""
    return {path.stem: path for path in sorted(WEIGHTS.glob("severity-*.safetensors"))}


def default_encoder(degradation_name: str) -> Path:
    """The bundled model's severity encoder for a degradation by name: its own family's, else the mixed family's.

    Raises:
        AdaptDiffuseError: neither is bundled.
    """
    from .severity.choice import for_family  # which knows degradations, and they this file

    family = {"mask": "missing-pixels"}.get(degradation_name, degradation_name)
    encoders = {name: path for name, path in bundled_encoders().items() if MODEL_NAME in name}
    if (found := for_family(encoders.values(), family)) is not None:
        return found
    raise AdaptDiffuseError(
        f"No bundled severity encoder was trained for '{degradation_name}'; give one with --severity-encoder. "
        f"Bundled are {', '.join(encoders) or 'none'}."
    )


def manifest() -> dict[str, dict[str, str]]:
    """``weights/manifest.json``: for every file its sha256, what it is, and the command that made it."""
    return json.loads((WEIGHTS / "manifest.json").read_text(encoding="utf-8"))


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
