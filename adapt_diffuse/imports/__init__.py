"""Published checkpoints of other projects, converted once and offline to what this package reads."""

from .model import ImportedModel, convert_model, write_model
from .severity import convert_severity_encoder

__all__ = ["ImportedModel", "convert_model", "convert_severity_encoder", "write_model"]
