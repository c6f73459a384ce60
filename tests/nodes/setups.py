"""What users do to a model before it reaches a solver, as functions of a host model. Run inside ComfyUI."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import comfy.controlnet
import comfy.ldm.modules.attention
import comfy.model_patcher
import comfy.ops
import comfy.weight_adapter.bypass
import comfy.weight_adapter.lora
import torch
from comfy_api.torch_helpers import set_torch_compile_wrapper
from comfy_extras.nodes_freelunch import FreeU_V2
from inside_tools import native

from adapt_diffuse.hosts.comfy_model import HostModel

WEIGHT = "diffusion_model.output_blocks.0.0.in_layers.2.weight"
BLOCK = "diffusion_model.middle_block.1.transformer_blocks.0"
LINEAR = "diffusion_model.time_embed.0"


def lora(host: HostModel) -> None:
    change = torch.full_like(host.model.model.state_dict()[WEIGHT], 0.1)
    host.model.add_patches({WEIGHT: ("diff", (change,))}, 1.0)


def weight_wrapper(host: HostModel) -> None:
    host.model.add_weight_wrapper(WEIGHT, lambda weight: 0.5 * weight)


def bypass_lora(host: HostModel) -> None:
    """A LoRA beside the layer, not in its weight: the host puts another forward into the layer."""
    generator = torch.Generator().manual_seed(5)
    layer = host.model.get_model_object(LINEAR)
    up, down = (torch.randn(shape, generator=generator) for shape in ((layer.out_features, 2), (2, layer.in_features)))
    manager = comfy.weight_adapter.bypass.BypassInjectionManager()
    manager.add_adapter(LINEAR, comfy.weight_adapter.lora.LoRAAdapter(set(), (up, down, 2.0, None, None, None)), 0.3)
    host.model.set_injections("bypass_lora", manager.create_injections(host.model.model))


class SmallBudget(comfy.model_patcher.ModelPatcher):
    """The host's patcher on a GPU of a few kilobytes."""

    def partially_load(self, device_to: Any, extra_memory: float = 0, force_patch_weights: bool = False) -> Any:
        return super().partially_load(device_to, 20_000, force_patch_weights)


def low_vram(host: HostModel) -> None:
    host.model.__class__ = SmallBudget


def low_vram_lora(host: HostModel) -> None:
    lora(host)
    low_vram(host)


def compiled(host: HostModel, calls: list[int] | None = None) -> None:
    """As by the node TorchCompileModel; ``calls`` grows with every compilation."""

    def backend(graph: Any, inputs: Any) -> Any:
        if calls is not None:
            calls.append(1)
        return graph.forward

    set_torch_compile_wrapper(host.model, backend=backend)  # type: ignore[arg-type]


def compiled_block(host: HostModel) -> None:
    block = torch.compile(host.model.get_model_object(BLOCK), backend="eager")
    host.model.add_object_patch(BLOCK, block)


def silent_attention(host: HostModel) -> None:
    """A kernel that gives numbers and no gradient: the rest of the network would hide that."""

    def attention(q: Any, k: Any, v: Any, heads: int, *args: Any, **kwargs: Any) -> torch.Tensor:
        from comfy.ldm.modules.attention import attention_pytorch

        with torch.no_grad():
            return attention_pytorch(q, k, v, heads, *args, **kwargs)

    host.model.set_model_optimized_attention(attention)


@torch.library.custom_op("adapt_diffuse_tests::doubled", mutates_args=())
def doubled(x: torch.Tensor) -> torch.Tensor:
    return 2 * x


def kernel_without_backward(host: HostModel) -> None:
    host.model.set_model_attn1_patch(lambda q, k, v, options: (doubled(q), k, v))


def attention_patch(host: HostModel) -> None:
    host.model.set_model_attn1_patch(lambda q, k, v, options: (q, k, 3 * v))


def freeu(host: HostModel) -> None:
    """It writes into the activations that it is given."""
    (patched,) = FreeU_V2.execute(host.model, 1.3, 1.4, 0.9, 0.2).result
    host.model.model_options = patched.model_options


def compute_dtype(host: HostModel) -> None:
    """As by the node ModelComputeDtype: float32 weights, cast where they are used."""
    host.model.set_model_compute_dtype(torch.bfloat16)


def attention_of_torch(host: HostModel) -> None:
    host.model.set_model_optimized_attention(comfy.ldm.modules.attention.attention_pytorch)


class CublasLinear(torch.nn.Linear):
    """As the layers of ``--fast cublas_ops``."""

    __module__ = "cublas_ops"

    @torch.no_grad()
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(x, self.weight, self.bias)


class CublasHostLinear(CublasLinear, comfy.ops.disable_weight_init.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return CublasLinear.forward(self, x)


def cublas(host: HostModel) -> None:
    for layer in host.model.model.diffusion_model.modules():
        if isinstance(layer, torch.nn.Linear):
            layer.__class__ = CublasHostLinear


def function_wrapper(host: HostModel) -> None:
    host.model.set_model_unet_function_wrapper(
        lambda apply, given: apply(0.9 * given["input"], given["timestep"], **given["c"])
    )


def cache_wrapper(host: HostModel) -> None:
    """As DeepCache and its kin: what the first level computed stands in for the next one's."""
    kept: dict[str, Any] = {}

    def wrap(apply: Any, given: dict[str, Any]) -> torch.Tensor:
        x, level = given["input"], float(given["timestep"][0])
        if kept.setdefault("level", level) == level:
            out = apply(x, given["timestep"], **given["c"])
            kept["change"] = out - x
            return out
        return x + kept["change"]

    host.model.set_model_unet_function_wrapper(wrap)


class NoControl(comfy.controlnet.ControlBase):
    def get_control(self, *args: Any) -> None:
        return None

    def get_models(self) -> list[Any]:
        return []

    def copy(self) -> NoControl:
        copied = NoControl()
        self.copy_to(copied)
        return copied


def controlnet(host: HostModel) -> None:
    host.conditioning[0][1]["control"] = NoControl().set_cond_hint(torch.zeros(1, 3, 64, 48))


class PatchWithNetwork:
    """A patch of the attention that has a network of its own, as IP-Adapters do."""

    def __init__(self) -> None:
        device = torch.device("cpu")
        self.network = torch.nn.Linear(1, 1)
        self.patcher = comfy.model_patcher.ModelPatcher(self.network, device, device)

    def models(self) -> list[Any]:
        return [self.patcher]

    def __call__(self, q: Any, k: Any, v: Any, options: Any) -> Any:
        return q * self.network.weight, k, v


def patch_with_network(host: HostModel) -> None:
    host.model.set_model_attn1_patch(PatchWithNetwork())


class GGUFTensor(torch.Tensor):
    """As the quantised tensors of GGUF packs: its copies are itself."""

    def clone(self, *args: Any, **kwargs: Any) -> GGUFTensor:
        return self

    def detach(self) -> GGUFTensor:
        return self


class GGUFLinear(comfy.ops.disable_weight_init.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = torch.Tensor.float(self.weight).as_subclass(torch.Tensor)
        return torch.nn.functional.linear(x, weight, self.bias)


def gguf_weights(host: HostModel) -> None:
    layer = host.model.get_model_object(LINEAR)
    layer.__class__ = GGUFLinear
    layer.weight = torch.nn.Parameter(layer.weight.data.half().as_subclass(GGUFTensor), False)


class GGUFModelPatcher(comfy.model_patcher.ModelPatcher):
    pass


def gguf_patcher(host: HostModel) -> None:
    host.model.__class__ = GGUFModelPatcher


def multi_gpu(host: HostModel) -> None:
    """The host's own work in threads, on a second patcher as for a second GPU."""
    second = host.model.clone()
    second.is_multigpu_base_clone = True
    host.model.set_additional_models("multigpu", [second])


class Dynamic(comfy.model_patcher.ModelPatcher):
    """The host's patcher of dynamic VRAM as far as a CPU can have one: it says so, and clones into plain memory."""

    def is_dynamic(self) -> bool:
        return True


def dynamic(host: HostModel, again: Callable[..., Any] | None = None) -> None:
    """``again`` reads the model once more, as the host's loaders do."""
    host.model.__class__ = Dynamic
    host.model.cached_patcher_init = (again or (lambda disable_dynamic=False: native(False).model), ())


def dynamic_without_a_file(host: HostModel) -> None:
    host.model.__class__ = Dynamic


def dynamic_quantised(host: HostModel) -> None:
    def again(disable_dynamic: bool = False) -> Any:
        made = native(False)
        gguf_weights(made)
        return made.model

    dynamic(host, again)


def both(*setups: Callable[[HostModel], Any]) -> Callable[[HostModel], Any]:
    return lambda host: [setup(host) for setup in setups]
