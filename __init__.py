"""Adapt & Diffuse as a ComfyUI node pack: the door, and no more."""

WEB_DIRECTORY = "./web"

__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]


async def comfy_entrypoint():  # type: ignore[no-untyped-def]
    """What ComfyUI calls for the nodes."""
    from .nodes import AdaptDiffuseExtension

    return AdaptDiffuseExtension()
