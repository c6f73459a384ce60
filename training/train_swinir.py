"""Train a small SwinIR (Liang et al. 2021) to restore photos, as the benchmark's network without a diffusion model.

    python -m training.train_swinir --images PHOTOS --family gaussian-blur --steps 1500 --out runs/swinir.safetensors

It sees what a severity encoder of the same --family, --steps, --batch, --size and --seed sees: the same crops with the
same damage, step by step. ``--out`` is a file that spandrel, and ``adapt_diffuse.image_models``, load; run the command
again to resume from the state beside it. Runs on a CPU or on one GPU (used when there is one).
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from adapt_diffuse.checkpoints import device_of, write_safetensors, write_whole
from adapt_diffuse.commands.train_severity import load_crops
from adapt_diffuse.degradation import measure
from adapt_diffuse.degradation.families import Family, family_to_json, parse_family
from adapt_diffuse.errors import AdaptDiffuseError, run_script
from adapt_diffuse.image_models import spandrel_module
from adapt_diffuse.metrics import psnr
from adapt_diffuse.photo_crops import PhotoCrops

WINDOW = 8


@dataclass(frozen=True)
class Settings:
    """How the network is built and trained.

    Attributes:
        steps, batch, size, seed: as in a severity encoder's training.
        learning_rate: of Adam at its highest; it falls along a cosine to a fiftieth.
        width: channels of the transformer.
        depths: layers of each of its residual groups.
        heads: of every attention.
        average: decay of the running average of the weights that is saved.
        validate_every: steps between validations, each of which writes the file.
        save_every: steps between states to resume from.
        judged: number of photos to validate on, at most.
    """

    steps: int = 1500
    batch: int = 16
    size: int = 128
    seed: int = 0
    learning_rate: float = 6e-4
    width: int = 48
    depths: tuple[int, ...] = (4, 4, 4, 4)
    heads: int = 4
    average: float = 0.995
    validate_every: int = 250
    save_every: int = 20
    judged: int = 64


def new_swinir(settings: Settings) -> nn.Module:
    """A SwinIR that keeps the size, with weights drawn from the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(settings.seed)
        return spandrel_module("architectures.SwinIR").SwinIR(
            img_size=2 * WINDOW,  # of the attention mask that the file keeps; other sizes make their own
            embed_dim=settings.width,
            depths=list(settings.depths),
            num_heads=[settings.heads] * len(settings.depths),
            window_size=WINDOW,
            mlp_ratio=2.0,
            drop_path_rate=0.0,  # it would draw from the global generator
            upscale=1,
            upsampler="",
        )


def damaged(photos: Tensor, family: Family, generator: torch.Generator) -> Tensor:
    """Photos (B, 3, H, W), each damaged by a draw of the family, at their own size."""
    count, channels, height, width = photos.shape
    degradation, _ = family.sample((count, channels, height, width), generator)
    return degradation.start_image(measure(photos, degradation, generator))


def charbonnier(restored: Tensor, photos: Tensor, epsilon: float = 1e-3) -> Tensor:
    """Mean of ``sqrt(e^2 + epsilon^2)``, the loss of SwinIR's denoising models."""
    return ((restored - photos).square() + epsilon**2).sqrt().mean()


class Training:
    """A training in progress: ``run`` it, interrupt it, ``resume`` it.

    Args:
        family: the degradations to undo.
        train, validation: photos; validation photos (n, 3, H, W) are damaged once.
        settings: see Settings.
        out: safetensors file to write; the state to resume from is kept beside it until the training is complete.
        device: "cpu", "cuda", ...
    """

    def __init__(
        self,
        family: Family,
        train: PhotoCrops,
        validation: Tensor,
        settings: Settings,
        out: Path,
        device: torch.device,
    ):
        self.family, self.train, self.validation = family, train, validation
        self.settings, self.out, self.device = settings, out, device
        self.network = new_swinir(settings).to(device).train()
        self.averaged = copy.deepcopy(self.network).requires_grad_(False).eval()
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=settings.learning_rate)
        self.step = 0
        self.whole = True  # False while weights, average and step belong to different steps

    @property
    def state_file(self) -> Path:
        return self.out.with_suffix(".state.pt")

    def run(self, progress: Callable[[int, float], None]) -> None:
        """Train to the end, telling ``progress`` each step and its loss; its exceptions and Ctrl-C keep the state."""
        try:
            while self.step < self.settings.steps:
                loss = self.one_step()
                if self.step == self.settings.steps or self.step % self.settings.validate_every == 0:
                    self.save()
                if self.step % self.settings.save_every == 0:
                    self.save_state()
                progress(self.step, loss)
        except BaseException:
            if self.whole:  # else the last state on disk is the one to go on from
                self.save_state()
            raise
        self.state_file.unlink(missing_ok=True)

    def one_step(self) -> float:
        settings = self.settings
        rng = np.random.default_rng((settings.seed, self.step))
        photos = self.train.random(settings.batch, rng).to(self.device)
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(settings, self.step)
        loss = charbonnier(self.network(damaged(photos, self.family, generator)), photos)
        if not bool(torch.isfinite(loss)):
            raise AdaptDiffuseError(f"The training diverged at step {self.step}: use a lower learning rate.")
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.whole = False
        self.optimizer.step()
        decay = min(settings.average, (1 + self.step) / (10 + self.step))
        for average, current in zip(self.averaged.parameters(), self.network.parameters(), strict=True):
            average.lerp_(current.detach(), 1 - decay)
        self.step += 1
        self.whole = True
        return float(loss.detach())

    @torch.no_grad()
    def validate(self) -> tuple[float, float]:
        """PSNR in dB of the damaged and of the restored validation photos, means."""
        generator = torch.Generator().manual_seed(1)
        before, after = [], []
        for photos in self.validation[: self.settings.judged].to(self.device).split(self.settings.batch):
            seen = damaged(photos, self.family, generator)
            before.append(psnr(seen, photos))
            after.append(psnr(self.averaged(seen), photos))
        return float(torch.cat(before).mean()), float(torch.cat(after).mean())

    def save(self) -> None:
        """Validate the averaged weights and write them."""
        before, after = self.validate()
        notes: dict[str, Any] = {
            "family": family_to_json(self.family),
            "training": {**asdict(self.settings), "step": self.step, "photos": len(self.train)},
            "validation": {"psnr_damaged": before, "psnr_restored": after},
        }
        print(f"step {self.step}: PSNR {before:.2f} dB damaged, {after:.2f} dB restored", file=sys.stderr)
        write_safetensors(self.out, self.averaged.state_dict(), {key: json.dumps(v) for key, v in notes.items()})

    def save_state(self) -> None:
        state = {
            "made_of": self.made_of(),
            "step": self.step,
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        write_whole(self.state_file, lambda partial: torch.save(state, partial))

    def made_of(self) -> str:
        """What must be the same for a state to be resumed."""
        free = {"steps", "validate_every", "save_every", "judged"}
        same = {key: value for key, value in asdict(self.settings).items() if key not in free}
        family = family_to_json(self.family)
        return json.dumps({"settings": same, "family": family, "photos": self.train.digest})

    def resume(self) -> bool:
        """Go on from ``state_file`` where there is one. Every draw follows from the step, so nothing is repeated."""
        if not self.state_file.exists():
            return False
        state = torch.load(self.state_file, map_location=self.device, weights_only=True)
        if state["made_of"] != self.made_of():
            raise AdaptDiffuseError(f"{self.state_file} belongs to a training with other settings; use another --out.")
        self.network.load_state_dict(state["network"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]
        return True


def learning_rate(settings: Settings, step: int) -> float:
    """A short rise over 50 steps, then a cosine down to a fiftieth of the highest rate at the last step."""
    fall = 0.5 * (1 + math.cos(math.pi * min(1.0, step / settings.steps)))
    return settings.learning_rate * min(1.0, (step + 1) / 50) * max(0.02, fall)


def main() -> None:
    from tqdm import tqdm

    defaults = Settings()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", required=True, help="folder of undamaged photos to train on")
    parser.add_argument("--validation", help="folder of photos to validate on; default: every twentieth of --images")
    parser.add_argument("--out", type=Path, required=True, help="safetensors file to write; run again to resume")
    parser.add_argument("--family", default="gaussian-blur", help="as in train-severity")
    parser.add_argument("--noise-std", type=float, default=0.05, help="noise on [0, 1] images")
    for name in ("steps", "batch", "size", "seed", "width", "heads", "validate_every", "save_every"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(defaults, name))
    parser.add_argument("--depths", type=int, nargs="+", default=defaults.depths)
    parser.add_argument("--learning-rate", type=float, default=defaults.learning_rate)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    options = {name: getattr(args, name) for name in asdict(defaults) if hasattr(args, name)}
    settings = Settings(**{**options, "depths": tuple(args.depths)})
    train, validation = load_crops(args, settings)
    family = parse_family(args.family, args.noise_std)
    training = Training(family, train, validation.centres(), settings, args.out, device_of(args.device))
    if training.resume():
        print(f"Going on from step {training.step}.", file=sys.stderr)
    with tqdm(total=settings.steps, initial=training.step, desc="train-swinir", unit="step") as bar:

        def progress(step: int, loss: float) -> None:
            bar.update(step - bar.n)
            bar.set_postfix(loss=f"{loss:.4f}")

        training.run(progress)


if __name__ == "__main__":
    run_script(main)
