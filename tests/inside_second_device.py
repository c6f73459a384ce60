"""The package on a second device, case by case, as JSON. Run by ``tests/unit/test_second_device.py``.

A process of its own: torch goes on to know the device.
"""

from __future__ import annotations

import json
import sys
import tempfile
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from adapt_diffuse.cli import main
from adapt_diffuse.defaults import make_solver
from adapt_diffuse.degradation import GaussianBlur, LinearDegradation, measure, parse_degradation
from adapt_diffuse.degradation.prox import prox
from adapt_diffuse.detail import with_detail
from adapt_diffuse.estimate import cautious, estimate_damage, load_estimator
from adapt_diffuse.hosts.diffusers import DiffusersPrior
from adapt_diffuse.images import read_photo
from adapt_diffuse.measurement import Measurement
from adapt_diffuse.restore import generators_for, restore
from adapt_diffuse.solvers import SOLVERS
from adapt_diffuse.start import StartSettings
from tests.models import (
    draw_photos,
    drawn_batch,
    save_model,
    tiny_autoencoder,
    tiny_severity_encoder,
    tiny_unet,
)
from tests.reference import ldm_alphas_cumprod
from tests.second_device import DEVICE, There, WrongDevice, second_device
from tests.unit.test_degradations import REGISTRY

SHAPE = (2, 3, 13, 17)
# they look whether a fit has converged, every few iterations, and wait oftener than once a step
THAT_LOOK = ("resample", "latino", "diffpir")


def refused(run: Callable[[], object]) -> None:
    try:
        run()
    except (WrongDevice, RuntimeError):
        return
    raise AssertionError("a GPU would have refused this")


def mixed_tensors_are_refused() -> None:
    with second_device():
        here, there = torch.ones(3), torch.ones(3).to(DEVICE)
        for run in (
            lambda: here + there,
            lambda: torch.cat([here, there]),
            lambda: torch.stack([there[0], here[0]]),
            lambda: here[torch.zeros(1, dtype=torch.long, device=DEVICE)],
            lambda: torch.nn.functional.conv2d(torch.ones(1, 1, 3, 3, device=DEVICE), torch.ones(1, 1, 3, 3)),
            lambda: torch.where(there > 0, here, there),
            lambda: there.numpy(),
            lambda: torch.randn(3, device=DEVICE, generator=torch.Generator()),
        ):
            refused(run)


def what_a_gpu_takes_is_taken() -> None:
    with second_device() as traffic:
        there = torch.arange(3.0).to(DEVICE)
        assert type(there) is There and there.device == torch.device(DEVICE)
        assert (there * torch.tensor(2.0))[torch.tensor([2])].tolist() == [4.0]
        assert traffic.read == 1
        weight = torch.ones(3, requires_grad=True)
        (weight.to(DEVICE) * there).sum().backward()
        assert torch.equal(weight.grad, torch.arange(3.0))
        with torch.inference_mode():
            kept = there.clone()
        assert kept.split(1)[1].item() == 1.0
    with second_device(has_float64=False):
        refused(lambda: torch.ones(3).to(DEVICE).double())


def same(found: Tensor, expected: Tensor, tolerance: float = 0.0) -> None:
    assert isinstance(found, There), "this came back to the CPU"
    assert found.shape == expected.shape and found.dtype == expected.dtype
    off = float((found.cpu() - expected).abs().max())
    assert off <= tolerance, f"{off} from what the CPU makes"


def degradation(name: str, folder: Path) -> None:
    """Everything that a degradation does, and what is done with it, made on the CPU and used on the device."""
    image = torch.rand(SHAPE, generator=torch.Generator().manual_seed(1))

    def results(photo: Tensor) -> list[Tensor]:
        operator = REGISTRY[name].make(SHAPE, 1, folder)
        y = measure(photo, operator, generators_for(1, len(photo)))
        measurement = Measurement.of(y, operator)
        found = [y, operator(photo), operator.observed(y), operator.start_image(y), measurement.start_image()]
        whole = torch.nn.functional.interpolate(photo, operator.image_size(*y.shape[2:]))
        found += [measurement.residual(whole), operator.select(torch.tensor([1]))(photo[1:])]
        if isinstance(operator, LinearDegradation):
            weight = torch.full((len(photo), 1, 1, 1), 0.1).to(photo)
            found += [operator.adjoint(y), prox(operator, whole, y, weight)]
        assert operator.count(y).device.type == "cpu" and measurement.residual_ratio(whole).isfinite().all()
        return [*found, with_detail(whole, measurement)]

    expected = results(image)
    with second_device(has_float64=False):
        *found, detailed = results(image.to(DEVICE))
        for one, other in zip(found, expected[:-1], strict=True):
            same(one, other)
        # damage that is not linear has its derivative in another way here, see second_device
        same(detailed, expected[-1], 0.0 if REGISTRY[name].linear else 1e-4)


def tiny_prior(device: str = "cpu") -> DiffusersPrior:
    parts = tiny_autoencoder("AutoencoderDC").to(device), tiny_unet(4).to(device)
    return DiffusersPrior(*parts, ldm_alphas_cumprod(), "epsilon")


def solver(name: str, through: str, lost: bool) -> None:
    """A batch of two from the adaptive start; the device is waited for once a step at most."""
    operator = parse_degradation("missing-pixels:drop=0.5" if lost else "gaussian-blur:std=1.5", 0.05)
    photo = measure(drawn_batch(2, 16, 24), operator, generators_for(1, 2))

    def run(device: str, steps: int) -> Tensor:
        encoder = tiny_severity_encoder()[0].to(device)
        made = make_solver(name, operator, through=through)  # type: ignore[arg-type]
        settings = StartSettings(steps=steps)
        found = restore(photo.to(device), operator, tiny_prior(device), made, generators_for(2, 2), encoder, settings)
        assert found.residual.isfinite().all() and found.sigma_start.device.type == "cpu"
        return found.image

    expected, reads = run("cpu", 2), []
    with second_device(has_float64=False) as traffic:
        # attention has another kernel there; ReSample ends a fit where it is good enough, an iteration more or less
        same(run(DEVICE, 2), expected, 0.05 if name == "resample" else 1e-5)
        if lost or name in THAT_LOOK:
            return
        for steps in (3, 6):
            before = traffic.read
            run(DEVICE, steps)
            reads.append(traffic.read - before)
    # the last step's latents are looked at: finite or not
    assert reads[1] - reads[0] == 3, f"{reads} times waited for in 3 and 6 steps"


def unknown_damage() -> None:
    photo = measure(drawn_batch(2, 64, 64), GaussianBlur(1.5, 0.02), generators_for(1, 2))
    network = load_estimator()
    expected = cautious(estimate_damage(photo, network), photo)
    with second_device(has_float64=False):
        there = photo.to(DEVICE)
        found = cautious(estimate_damage(there, network), there)
        assert torch.equal(found.std, expected.std) and torch.equal(found.noise_std, expected.noise_std)


def command(folder: Path, *arguments: object, furthest: float = 1.01 / 255) -> None:
    """A command of the command line with --device, and the photos that it wrote, against those of --device cpu."""
    for device in (DEVICE, "cpu"):
        with second_device(has_float64=False):
            out = folder / device.split(":")[0]
            words = [str(word).replace("OUT", str(out)) for word in arguments]
            assert main([*words, "--device", device]) == 0
    there, here = (folder / device.split(":")[0] for device in (DEVICE, "cpu"))
    for path in here.rglob("*.png"):
        off = float((read_photo(there / path.relative_to(here)) - read_photo(path)).abs().max())
        assert off <= furthest, f"{path.name}: {off}"


def commands(root: Path) -> dict[str, Callable[[], None]]:
    def made(name: str) -> Path:
        folder = root / name
        folder.mkdir()
        save_model(folder / "model")
        draw_photos(folder / "photos", 2, 64, 72)  # as small as damage can be told
        return folder

    def trained_and_measured() -> None:
        folder = made("train")
        options = ["--images", folder / "photos", "--model", folder / "model", "--size", 24]
        command(folder, "train-severity", *options, "--out", "OUT.safetensors", "--steps", 2, "--batch", 2)
        task = ["--task", "gaussian-blur-varying", "--methods", "damaged,ceiling,default", "--save", "OUT"]
        command(folder, "benchmark", *task, *options, "--severity-encoder", "OUT.safetensors", "--out", "OUT.json")

    def restored(name: str, *options: object, furthest: float = 1.01 / 255) -> None:
        folder = made(name)
        source = [folder / "photos" / "photo-0.png", "--out", "OUT", "--model", folder / "model"]
        command(folder, "restore", *source, *options, furthest=furthest)

    blur = ["--degradation", "lens-blur:radius=2", "--noise-std", 0.03, "--severity-encoder", "none"]
    return {
        "commands train-severity and benchmark": trained_and_measured,
        # taken for JPEG, whose soft rounding jumps: where it does, a difference of the last digit grows
        "command restore, estimated": lambda: restored("auto", furthest=0.5),
        "command restore, calibrated": lambda: restored("calibrated", *blur),
    }


def cases(root: Path) -> dict[str, Callable[[], None]]:
    found: dict[str, Callable[[], None]] = {
        "mixed tensors are refused": mixed_tensors_are_refused,
        "what a GPU takes is taken": what_a_gpu_takes_is_taken,
        "unknown damage": unknown_damage,
    }
    found |= {f"degradation {name}": partial(degradation, name, root) for name in REGISTRY}
    for name in SOLVERS:
        if name != "dps":  # which wants a model of pixels
            found[f"solver {name}, blur"] = partial(solver, name, "denoiser", False)
            found[f"solver {name}, lost pixels"] = partial(solver, name, "decoder", True)
    return found | commands(root)


if __name__ == "__main__":
    said: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for about, case in cases(Path(temporary)).items():
            try:
                case()
                said[about] = ""
            except Exception:
                said[about] = traceback.format_exc()
    sys.stdout.write("REPORT " + json.dumps(said) + "\n")
