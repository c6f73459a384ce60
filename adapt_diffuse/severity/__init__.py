"""The severity encoder: how hard a photo is, in the latent space of the autoencoder."""

from .checkpoint import load_severity_encoder, save_severity_encoder
from .encoder import Severity, SeverityEncoder

__all__ = ["Severity", "SeverityEncoder", "load_severity_encoder", "save_severity_encoder"]
