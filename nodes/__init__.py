"""The face in ComfyUI: one module per stage of the graph, each a schema and a short execute."""

from comfy_api.latest import ComfyExtension, io

from .blur import CameraBlurNode, GaussianBlurNode, KernelBlurNode, LensBlurNode, MotionBlurNode
from .calibrate import CalibrateSeverity
from .decode import DecodeRestoration, Measure
from .degradation import ApplyDegradation, ChainDegradations, DownscaleNode, JpegNode, MissingPixelsNode
from .estimate import EstimateDegradation
from .film import FilmDamageNode, FindScratches
from .invert import InvertToStart
from .load import LoadDiffusers, LoadSeverityEncoder, offer_sample_photos, register_model_folder
from .quick_solvers import DCDPNode, DiffPIRNode, FlowDPSNode, LatentDAPSNode, LATINONode, MPGDNode
from .restore import RestorePhoto
from .severity import EncodeSeverity, SetSeverity
from .solvers import DPSNode, GMLDPSNode, LDPSNode, PSLDNode, ReSampleNode
from .start import StartTime
from .train import TrainSeverityEncoder


class AdaptDiffuseExtension(ComfyExtension):
    async def on_load(self) -> None:
        register_model_folder()
        offer_sample_photos()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [
            LoadDiffusers,
            LoadSeverityEncoder,
            GaussianBlurNode,
            LensBlurNode,
            MotionBlurNode,
            CameraBlurNode,
            KernelBlurNode,
            MissingPixelsNode,
            DownscaleNode,
            JpegNode,
            FilmDamageNode,
            FindScratches,
            EstimateDegradation,
            ChainDegradations,
            ApplyDegradation,
            EncodeSeverity,
            SetSeverity,
            StartTime,
            InvertToStart,
            LDPSNode,
            GMLDPSNode,
            PSLDNode,
            ReSampleNode,
            DPSNode,
            DiffPIRNode,
            LATINONode,
            MPGDNode,
            FlowDPSNode,
            LatentDAPSNode,
            DCDPNode,
            DecodeRestoration,
            Measure,
            TrainSeverityEncoder,
            CalibrateSeverity,
            RestorePhoto,
        ]
