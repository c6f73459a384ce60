"""The severity encoder: how hard a photo is, in the latent space of the autoencoder."""

from .checkpoint import load_severity_encoder, save_severity_encoder
from .encoder import Encode, Severity, SeverityEncoder, SeverityModel
from .refiner import SeverityRefiner

__all__ = [
    "Encode",
    "Severity",
    "SeverityEncoder",
    "SeverityModel",
    "SeverityRefiner",
    "load_severity_encoder",
    "save_severity_encoder",
]
