"""What the reports of inside_host.py share. Importing it makes this process a ComfyUI on the CPU."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ASKED = sys.argv[1:]
sys.argv = [sys.argv[0], "--cpu"]
import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()

import comfy.model_base  # noqa: E402
import comfy.model_management  # noqa: E402
import comfy.model_patcher  # noqa: E402
import comfy.model_sampling  # noqa: E402
import comfy.sample  # noqa: E402
import comfy.sd  # noqa: E402
import comfy.supported_models  # noqa: E402
import torch  # noqa: E402
from comfy_extras.nodes_custom_sampler import BasicGuider, CFGGuider, RandomNoise, SamplerCustomAdvanced  # noqa: E402

from adapt_diffuse.degradation import GaussianBlur  # noqa: E402
from adapt_diffuse.guidance import data_gradient  # noqa: E402
from adapt_diffuse.hosts.comfy import guided_sampler  # noqa: E402
from adapt_diffuse.hosts.comfy_model import HostModel  # noqa: E402
from adapt_diffuse.hosts.diffusers import DiffusersPrior  # noqa: E402
from adapt_diffuse.measurement import Measurement  # noqa: E402
from adapt_diffuse.solvers import LDPS  # noqa: E402

REPOSITORY = Path(__file__).resolve().parent.parent.parent
SEED = 7
SIZE = (60, 45)  # no multiple of the latent's factor


@dataclass
class Spy:
    """LDPS that keeps what it saw."""

    through: str
    eta: float = 2.0
    after: Callable[[int], None] = lambda step: None
    seen: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]] = field(default_factory=list)

    def step(self, state: Any, sigma: Any, sigma_next: Any, prior: Any, measurement: Any) -> Any:
        found = self.gradient(prior, measurement, state.x, sigma)
        self.decoder = weakref.ref(prior._vae.network)
        self.seen.append((state.x.clone(), sigma.clone(), found.gradient, found.z0))
        moved = LDPS(self.eta, self.through).step(state, sigma, sigma_next, prior, measurement)
        self.after(len(self.seen))
        return moved

    def gradient(self, prior: Any, measurement: Any, x: Any, sigma: Any) -> Any:
        return data_gradient(prior, measurement, x, sigma, self.through)


@dataclass
class After:
    """A solver that calls ``after`` once each step."""

    solver: Any
    after: Callable[[int], None]
    count: int = 0

    @property
    def through(self) -> Any:
        return self.solver.through

    def step(self, *arguments: Any) -> Any:
        moved = self.solver.step(*arguments)
        self.count += 1
        self.after(self.count)
        return moved


class CountedBlur(GaussianBlur):
    """A blur whose fifth use is the moment in which the user presses Cancel."""

    calls = 0

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.calls == 5:
            comfy.model_management.interrupt_current_processing()
        return super().__call__(image)

    def select(self, indices: torch.Tensor) -> CountedBlur:
        return self


def photo(count: int = 1) -> torch.Tensor:
    v, u = torch.meshgrid(torch.linspace(0, 1, SIZE[0]), torch.linspace(0, 1, SIZE[1]), indexing="ij")
    waves = [0.5 + 0.4 * torch.sin(6 * (u * (k + 1) + v * (i + 1) / 2)) for i in range(count) for k in range(3)]
    return torch.stack(waves).reshape(count, 3, *SIZE)


def loaded_digest(host: HostModel) -> str:
    """After the host has loaded both models, which sets marks on their layers."""
    comfy.model_management.load_models_gpu([host.model, host.vae.patcher])
    return digest(host.model.model.diffusion_model, host.vae.first_stage_model)


def digest(*models: Any) -> str:
    """Of every weight and buffer, and of every layer's plain attributes."""
    found = hashlib.sha256()
    for model in models:
        for key, value in model.state_dict().items():
            found.update(key.encode() + value.contiguous().numpy().tobytes())
        for name, layer in model.named_modules():
            kept = {k: repr(v) for k, v in vars(layer).items() if isinstance(v, (bool, int, float, str, list))}
            found.update(repr((name, sorted(kept.items()))).encode())
    return found.hexdigest()


def bits_of(host: HostModel) -> str:
    """A digest of every bit of every weight, of any dtype and wherever it lies."""
    found = hashlib.sha256()
    for part in (host.model.model.diffusion_model, host.vae.first_stage_model):
        for key, value in part.state_dict().items():
            bits = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            found.update(key.encode() + bits.numpy().tobytes())
    return found.hexdigest()


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.double() - b.double()).norm() / b.double().norm())


def sample(
    host: HostModel,
    solver: Any,
    measurement: Measurement,
    latent: torch.Tensor,
    sigmas: torch.Tensor,
    cfg: float | None = None,
    indices: list[int] | None = None,
    guider: Any = None,
    **decoder: Any,
) -> torch.Tensor:
    """The host's own nodes, in inference mode as in a graph; the latent in the model's scale."""
    guider = (
        guider
        or (
            BasicGuider.execute(host.model, host.conditioning)
            if cfg is None
            else CFGGuider.execute(host.model, host.conditioning[:1], host.conditioning[1:], cfg)
        ).result[0]
    )
    noise = RandomNoise.execute(SEED).result[0]
    raw = {"samples": host.model.model.process_latent_out(latent)}
    if indices is not None:
        raw["batch_index"] = indices
    sampler = guided_sampler(solver, measurement, host.vae, indices, **decoder)
    out = SamplerCustomAdvanced.execute(noise, guider, sampler, sigmas.float(), raw).result[0]["samples"]
    return host.model.model.process_latent_in(out)


def native(in_inference_mode: bool) -> HostModel:
    """A small model of the host's own kind: cross-attention UNet, KL autoencoder, text-like conditioning."""
    generator = torch.Generator().manual_seed(0)

    def fill(module: torch.nn.Module) -> None:
        for parameter in module.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.15

    with torch.inference_mode(in_inference_mode), torch.no_grad():
        config = comfy.supported_models.SD15(
            {
                "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 32, "num_res_blocks": [1, 1],
                "channel_mult": [1, 2], "transformer_depth": [1, 1], "transformer_depth_output": [1, 1, 1, 1],
                "transformer_depth_middle": 1, "context_dim": 16, "use_spatial_transformer": True, "num_heads": 4,
                "legacy": False, "use_linear_in_transformer": False, "adm_in_channels": None,
                "dtype": torch.float32,
            }
        )  # fmt: skip
        base = comfy.model_base.BaseModel(config, device="cpu")
        fill(base.diffusion_model)
        device = torch.device("cpu")
        model = comfy.model_patcher.ModelPatcher(base, device, device)
        ddconfig = {
            "double_z": True, "z_channels": 4, "resolution": 64, "in_channels": 3, "out_ch": 3, "ch": 32,
            "ch_mult": [1, 1, 1, 1], "num_res_blocks": 1, "attn_resolutions": [], "dropout": 0.0,
        }  # fmt: skip
        vae = comfy.sd.VAE(sd={}, config={"params": {"ddconfig": ddconfig, "embed_dim": 4}}, dtype=torch.float32)
        fill(vae.first_stage_model)
        text = torch.randn(2, 1, 7, 16, generator=generator)
        return HostModel(model, vae, [[text[0], {}], [text[1], {}]])


def as_flow(host: HostModel) -> None:
    class Flow(comfy.model_sampling.ModelSamplingDiscreteFlow, comfy.model_sampling.CONST):
        pass

    host.model.add_object_patch("model_sampling", Flow(host.model.model.model_config))


class Padded:
    """A prior for latents of any size: as the host's UNet does, the latent is reflected to the network's multiple."""

    def __init__(self, prior: DiffusersPrior):
        self.prior, self.sigmas, self.multiple = prior, prior.sigmas, prior.space.factor
        self.encode, self.decode, self.guide = prior.encode, prior.decode, prior.guide

    def denoise(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        from adapt_diffuse.padding import pad_to_multiple

        return self.prior.denoise(pad_to_multiple(x, 4), sigma)[:, :, : x.shape[2], : x.shape[3]]


def pack(name: str) -> Any:
    """The module ``name`` of this repository, imported as ComfyUI imports a node pack: under its folder's name."""
    if "any name" not in sys.modules:
        module_at("any name", REPOSITORY / "__init__.py", [str(REPOSITORY)])
    return importlib.import_module(f"any name.{name}")


def module_at(name: str, path: Path, package: list[str] | None = None) -> Any:
    """The module in a file, under a name of its own: ComfyUI has a package ``tests``, too."""
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=package)
    assert spec is not None and spec.loader is not None
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tell(reports: dict[str, Callable[[], Any]]) -> None:
    """Print the reports that the command line names, all without a name, for the test that runs this script."""
    print("REPORT " + json.dumps({name: reports[name]() for name in ASKED or reports}))
