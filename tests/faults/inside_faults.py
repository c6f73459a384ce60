"""Run by ComfyUI's interpreter, ComfyUI importable: faults at every stage of the nodes, as JSON on stdout."""

from __future__ import annotations

import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "nodes"))
from inside_tools import REPOSITORY, loaded_digest, module_at, pack, sample, tell  # first: makes this a ComfyUI

# isort: split
import comfy.model_management
import folder_paths
import torch
from comfy_extras.nodes_easycache import EasyCacheNode, LazyCacheNode

from adapt_diffuse.bundled import default_encoder
from adapt_diffuse.degradation import GaussianBlur
from adapt_diffuse.measurement import Measurement
from adapt_diffuse.solvers import GMLDPS, LDPS, PSLD, ReSample

models = module_at("models of the tests", REPOSITORY / "tests" / "models.py")
SIDE, STEPS = 32, 3
SIGMAS = torch.tensor([1.0, 0.5, 0.2, 0.0])
SOLVERS: dict[str, Any] = {
    "ldps": LDPS(2.0, "decoder"),
    "gml-dps": GMLDPS(2.0, 0.1, "decoder"),
    "psld": PSLD(2.0, 0.1, "decoder"),
    "resample": ReSample(every=1, iterations=2),
    "ldps-denoiser": LDPS(2.0, "denoiser"),
}
Stop = comfy.model_management.InterruptProcessingException
ERRORS = pack("adapt_diffuse.errors").AdaptDiffuseError
MEMORY = (
    torch.cuda.OutOfMemoryError("Allocation on device 0 would exceed allowed memory."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you tried to"),
)


@cache
def host() -> Any:
    return pack("adapt_diffuse.hosts.comfy_model").load_diffusers(pack("adapt_diffuse.bundled").bundled_model())


@cache
def encoder() -> Any:
    kind = pack("adapt_diffuse.hosts.comfy_encoder").HostSeverityEncoder
    return kind.load(default_encoder("gaussian-blur"))


def image(height: int = SIDE, width: int = SIDE, count: int = 1) -> torch.Tensor:
    return models.drawn_batch(count, height, width).movedim(1, -1).contiguous()


def blur(noise_std: float = 0.05) -> Any:
    return pack("adapt_diffuse.degradation").GaussianBlur(1.5, noise_std)


def restored(photo: torch.Tensor, degradation: Any = None, solver: str = "default", **options: Any) -> torch.Tensor:
    """Restore Photo's image."""
    node, model = pack("nodes.restore").RestorePhoto, options.pop("model", host()).model
    options = {"severity_encoder": encoder(), "steps": STEPS, **options}
    return node.execute(photo, model, host().vae, degradation or blur(), solver, 0.5, 1, **options).result[0]


def sampled(name: str, **options: Any) -> torch.Tensor:
    """The latent of a solver in the host's own SamplerCustomAdvanced."""
    known = Measurement.of(image().movedim(-1, 1), GaussianBlur(1.5, 0.05))
    start = torch.randn(1, 4, SIDE // 4, SIDE // 4, generator=torch.Generator().manual_seed(1))
    return sample(options.pop("model", host()), SOLVERS[name], known, start, SIGMAS, **options)


def severity() -> Any:
    return pack("nodes.severity").EncodeSeverity.execute(image(), host().vae, encoder()).result[0]


def calibrated() -> torch.Tensor:
    node = pack("nodes.calibrate").CalibrateSeverity
    found = node.execute(host().model, host().vae, blur(), image(count=2)).result[0]
    return torch.tensor([found.calibration.scale, found.calibration.power])


def inverted() -> torch.Tensor:
    node = pack("nodes.invert").InvertToStart
    return node.execute(host().model, host().conditioning, severity(), 2, 1.0, "continuous").result[0][0]["samples"]


def decoded() -> torch.Tensor:
    latent = {"samples": torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(2))}
    return pack("nodes.decode").DecodeRestoration.execute(latent, host().vae).result[0]


def trained() -> torch.Tensor:
    """The first weights of an encoder; a training that was stopped goes on."""
    file = encoder_folder() / "faulty.safetensors"
    if not list(file.parent.glob("faulty*.state.pt")):
        file.unlink(missing_ok=True)
    train(file_name="faulty")
    from safetensors.torch import load_file

    return torch.cat([value.flatten() for value in load_file(file).values()])


STAGES: dict[str, Callable[[], torch.Tensor]] = {
    "calibrate": calibrated,
    "encode": lambda: severity().latent,
    "invert": inverted,
    **{f"solve {name}": lambda name=name: sampled(name) for name in SOLVERS},  # type: ignore[misc]
    "decode": decoded,
    "restore": lambda: restored(image()),
    "train": trained,
}


@cache
def encoder_folder() -> Path:
    """Folders of the host of their own, with photos; gives models/severity_encoders."""
    root = Path(tempfile.mkdtemp())
    models.draw_photos(root / "input" / "photos", 3, 40, 40)
    folder_paths.set_input_directory(str(root / "input"))
    folder_paths.set_temp_directory(str(root / "temp"))
    folder_paths.models_dir = str(root / "models")
    folder_paths.folder_names_and_paths.pop("severity_encoders", None)
    pack("nodes.load").register_model_folder()
    folder = root / "models" / "severity_encoders"
    folder.mkdir(parents=True)
    return folder


def train(**changes: Any) -> None:
    encoder_folder()
    settings = {
        "folder": "photos", "family": "noise", "noise_std": 0.1, "steps": 3, "batch": 1, "size": 32, "seed": 1,
        "overwrite": False, "validate_every": 2, "reuse": 1,
    }  # fmt: skip
    pack("nodes.train").TrainSeverityEncoder.execute(host().vae, **{**settings, **changes})


@contextmanager
def at_convolution(number: int, happens: Callable[[], None], calls: list[int]) -> Iterator[None]:
    """Inside, something happens at the convolution of that number, once; ``calls`` grows with every convolution."""
    real = torch.nn.functional.conv2d

    def convolve(*arguments: Any, **options: Any) -> torch.Tensor:
        calls.append(1)
        if len(calls) == number:
            happens()
        return real(*arguments, **options)

    torch.nn.functional.conv2d = convolve
    try:
        yield
    finally:
        torch.nn.functional.conv2d = real


@dataclass
class Raised:
    """What a stage with a fault came to."""

    kind: str = "nothing"
    message: str = ""


def fault(stage: Callable[[], torch.Tensor], number: int, happens: Callable[[], None]) -> Raised:
    """Run a stage with something happening in its middle, and name what it raised."""
    try:
        with at_convolution(number, happens, []):
            result = stage()
    except Stop:
        return Raised("interrupt")
    except ERRORS as error:
        return Raised("sentence", str(error))
    except Exception as error:
        known = comfy.model_management.is_oom(error) or pack("adapt_diffuse.memory").out_of_memory(error)
        return Raised("out of memory" if known else type(error).__name__, str(error))
    return Raised("nothing" if bool(torch.isfinite(result).all()) else "not finite")


def stage_faults(name: str) -> dict[str, Any]:
    """Memory that ends, and Cancel, early, in the middle and late in a stage; and the same stage after each."""
    stage = STAGES[name]
    with torch.inference_mode():
        expected = stage()
        before, calls = loaded_digest(host()), []  # type: ignore[var-annotated]
        with at_convolution(0, lambda: None, calls):
            again = stage()
        found: dict[str, Any] = {"same": bool(torch.equal(expected, again)), "memory": [], "cancel": [], "after": []}
        for number in sorted({1, max(len(calls) // 2, 1), len(calls)}):
            error = MEMORY[len(found["memory"]) % 2]

            def full(error: Exception = error) -> None:
                raise error

            raised = fault(stage, number, full)
            found["memory"].append([raised.kind, raised.message])
            found["after"].append(bool(torch.equal(stage(), expected)))
            raised = fault(stage, number, comfy.model_management.interrupt_current_processing)
            waiting = comfy.model_management.processing_interrupted()
            comfy.model_management.interrupt_current_processing(False)
            found["cancel"].append([raised.kind, waiting])
            found["after"].append(bool(torch.equal(stage(), expected)))
            found["inference_mode"] = torch.is_inference_mode_enabled()
        return {**found, "convolutions": len(calls), "unchanged": before == loaded_digest(host())}


def full_disk() -> dict[str, Any]:
    """A file may not grow beyond a few kilobytes: what a training then says, and what is on the disk after it."""
    folder = encoder_folder()
    with torch.inference_mode():
        train(file_name="mine")
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, limits[1]))
        try:
            train(file_name="mine", overwrite=True, seed=2)
            said = "no error"
        except ERRORS as error:
            said = str(error)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        kept = before == {path.name: path.read_bytes() for path in folder.iterdir()}
        train(file_name="mine", overwrite=True, seed=2)
        return {
            "said": said,
            "kept": kept,
            "replaced": (folder / "mine.safetensors").read_bytes() != before["mine.safetensors"],
            "files": sorted(path.name for path in folder.glob("mine*")),
        }


def sentence(work: Callable[[], Any]) -> str:
    try:
        work()
    except ERRORS as error:
        return str(error)
    return "no error"


def taking_images() -> dict[str, Callable[[torch.Tensor], Any]]:
    """Every use of an IMAGE."""
    vae, model = host().vae, host().model
    latent = {"samples": torch.zeros(1, 4, 8, 8)}
    good, solvers = image(), pack("nodes.solvers")
    return {
        "Encode Severity": lambda x: pack("nodes.severity").EncodeSeverity.execute(x, vae, encoder()),
        "Restore Photo": restored,
        "LDPS": lambda x: solvers.LDPSNode.execute(1.0, "decoder", True, image=x, degradation=blur(), vae=vae),
        "Apply Degradation": lambda x: pack("nodes.degradation").ApplyDegradation.execute(x, blur(), 0),
        "Calibrate Severity": lambda x: pack("nodes.calibrate").CalibrateSeverity.execute(model, vae, blur(), x),
        "Decode Restoration": lambda x: pack("nodes.decode").DecodeRestoration.execute(
            latent, vae, x, blur(), match_colours=True
        ),
        "Measure": lambda x: pack("nodes.decode").Measure.execute(x, good),
        "Measure's reference": lambda x: pack("nodes.decode").Measure.execute(good, x),
    }


def pixels() -> dict[str, dict[str, str]]:
    """What every use of an IMAGE says to NaN, infinity, no photo, and no pixels."""
    broken = {"nan": image(), "inf": image(), "empty": image()[:0], "no pixels": image()[:, :0]}
    broken["nan"][0, 3, 4, 1], broken["inf"][0, 3, 4, 1] = float("nan"), float("inf")
    with torch.inference_mode():
        uses = taking_images()
        return {name: {kind: sentence(lambda u=use, p=photo: u(p)) for kind, photo in broken.items()}
                for name, use in uses.items()}  # type: ignore[misc]  # fmt: skip


def broken_latents() -> dict[str, str]:
    """NaN in a LATENT, in everything that takes one."""
    latent = {"samples": torch.full((1, 4, 8, 8), float("nan"))}
    severities = pack("nodes.severity").SetSeverity
    with torch.inference_mode():
        return {
            "decode": sentence(lambda: pack("nodes.decode").DecodeRestoration.execute(latent, host().vae)),
            "severity": sentence(lambda: severities.execute(latent, 0.5)),
            "sigma_hat": sentence(lambda: severities.execute({"samples": torch.zeros(1, 4, 8, 8)}, float("nan"))),
        }


def huge() -> dict[str, Any]:
    """100 megapixels, of which none is in memory, to everything that restores."""
    photo = torch.zeros(1, 1, 1, 3).expand(1, 8000, 12500, 3)
    total = comfy.model_management.get_total_memory
    comfy.model_management.get_total_memory = lambda *device, **more: 16 * 2**30
    try:
        with torch.inference_mode():
            uses = taking_images()
            begin = time.monotonic()
            said = {n: sentence(lambda n=n: uses[n](photo)) for n in ("Encode Severity", "Restore Photo", "LDPS")}  # type: ignore[misc]
    finally:
        comfy.model_management.get_total_memory = total
    return {"said": said, "seconds": time.monotonic() - begin}


def extremes() -> dict[str, Any]:
    """Photos, noise and severities at the ends of what they can be: shapes and whether all is finite."""
    photos = {
        "one pixel": image(1, 1),
        "one row": image(1, 40),
        "17 x 4097": image(17, 4097),
        "black": torch.zeros(1, SIDE, SIDE, 3),
        "white": torch.ones(1, SIDE, SIDE, 3),
        "beyond": 5 * image() - 2,
        "one channel": image()[..., :1],
        "four channels": torch.cat([image(), torch.zeros(1, SIDE, SIDE, 1)], 3),
        "half precision": image().half(),
    }
    found = {}
    with torch.inference_mode():
        for name, photo in photos.items():
            made = restored(photo, steps=1)
            found[name] = [list(made.shape) == [*photo.shape[:3], 3], inside(made)]
        for noise_std in (0.0, 1.0):
            for solver in ("default", "gml-dps", "psld", "resample"):
                made = restored(image(), blur(noise_std), solver, steps=2)
                found[f"noise {noise_std:g} {solver}"] = [True, inside(made)]
        for sigma_hat in (0.0, 1e-9, 1000.0):
            made = with_severity(sigma_hat)
            found[f"severity {sigma_hat:g}"] = [list(made.shape) == [1, 4, 8, 8], bool(torch.isfinite(made).all())]
    return found


def inside(image: torch.Tensor) -> bool:
    return bool(torch.isfinite(image).all()) and float(image.min()) >= 0 and float(image.max()) <= 1


def with_severity(sigma_hat: float) -> torch.Tensor:
    """The latent that the host's sampler makes from Set Severity and Start Time."""
    encoded = pack("nodes.severity").EncodeSeverity.execute(image(), host().vae, encoder()).result[1]
    known = pack("nodes.severity").SetSeverity.execute(encoded, sigma_hat).result[0]
    start = pack("nodes.start").StartTime.execute(host().model, known, 2, 1.2, "matched", "continuous", 0).result
    latent = host().model.model.process_latent_in(start[0][0]["samples"])
    known_photo = Measurement.of(image().movedim(-1, 1), GaussianBlur(1.5, 0.05))
    return sample(host(), SOLVERS["ldps"], known_photo, latent, start[1][0])


def masks() -> dict[str, str]:
    """Masks that lose nothing, everything, or are of another size."""
    node = pack("nodes.degradation").MissingPixelsNode

    def under(mask: torch.Tensor) -> str:
        lost = node.execute(0.5, 0, 0.05, mask).result[0]
        made = restored(image(), lost, steps=1, severity_encoder=encoder())
        return "no error" if inside(made) else "broken"

    kinds = {
        "nothing": torch.zeros(1, SIDE, SIDE),
        "everything": torch.ones(1, SIDE, SIDE),
        "half": torch.full((1, SIDE, SIDE), 0.4),
        "other size": torch.zeros(1, 64, 64),
        "nan": torch.full((1, SIDE, SIDE), float("nan")),
    }
    said = {}
    with torch.inference_mode():
        for name, mask in kinds.items():
            try:
                said[name] = under(mask)
            except ERRORS as error:
                said[name] = str(error)
    return said


def noise_mask() -> dict[str, Any]:
    """Set Latent Noise Mask before the sampler: how far the part that is kept moved, and the other."""
    from comfy_extras.nodes_custom_sampler import BasicGuider, RandomNoise, SamplerCustomAdvanced

    node_of = pack("adapt_diffuse.hosts.comfy").guided_sampler
    mask = torch.zeros(1, SIDE, SIDE)
    mask[:, :, : SIDE // 2] = 1
    found: dict[str, Any] = {}
    with torch.inference_mode():
        raw = pack("nodes.severity").EncodeSeverity.execute(image(), host().vae, encoder()).result[1]["samples"]
        for name, solver in SOLVERS.items():
            known = Measurement.of(image().movedim(-1, 1), GaussianBlur(1.5, 0.05))
            guider = BasicGuider.execute(host().model, host().conditioning).result[0]
            latent = {"samples": raw, "noise_mask": mask}
            try:
                sampler = node_of(solver, known, host().vae)
                out = SamplerCustomAdvanced.execute(RandomNoise.execute(1).result[0], guider, sampler, SIGMAS, latent)
                change = (out.result[0]["samples"] - raw).abs()
                half = change.shape[3] // 2
                found[name] = [float(change[..., half + 1 :].max()), float(change[..., : half - 1].mean())]
            except Exception as error:
                found[name] = f"{type(error).__name__}: {error}"
    return found


def caches() -> dict[str, Any]:
    """EasyCache and LazyCache on the model: against the plain model, or refused."""
    found: dict[str, Any] = {}
    with torch.inference_mode():
        for kind, node in (("EasyCache", EasyCacheNode), ("LazyCache", LazyCacheNode)):
            for threshold in (0.0, 100.0):
                model = host()._replace(model=node.execute(host().model, threshold, 0.0, 1.0, False).result[0])
                for name in SOLVERS:
                    try:
                        change = (sampled(name, model=model) - sampled(name)).abs().max()
                        found[f"{kind} {threshold:g} {name}"] = float(change)
                    except Exception as error:
                        found[f"{kind} {threshold:g} {name}"] = f"{type(error).__name__}: {error}"
                both, one = (restored(image(count=count), steps=0, model=model) for count in (2, 1))
                found[f"{kind} {threshold:g} batch"] = float((both[:1] - one).abs().max())
    return found


REPORTS: dict[str, Callable[[], Any]] = {
    **{name: lambda name=name: stage_faults(name) for name in STAGES},  # type: ignore[misc]
    "full disk": full_disk,
    "pixels": pixels,
    "latents": broken_latents,
    "huge": huge,
    "extremes": extremes,
    "masks": masks,
    "noise mask": noise_mask,
    "caches": caches,
}

if __name__ == "__main__":
    tell(REPORTS)
