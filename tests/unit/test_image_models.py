"""Restoration networks from image to image: what a file holds is what runs, on photos of any size."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from adapt_diffuse.errors import AdaptDiffuseError
from adapt_diffuse.image_models import ImageModel, spandrel_module
from tests.models import drawn_batch
from tests.reference import relative_error
from training.train_swinir import Settings, new_swinir

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = Settings(size=16, width=8, depths=(2, 2), heads=2)

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("spandrel") is None, reason="spandrel is not installed"),
    pytest.mark.filterwarnings("ignore:torch.meshgrid"),
]


@pytest.fixture(scope="module")
def network():
    """A SwinIR that is far from doing nothing."""
    made = new_swinir(SETTINGS).eval().requires_grad_(False)
    torch.nn.init.normal_(made.conv_last.weight, std=0.1, generator=torch.Generator().manual_seed(0))
    return made


@pytest.fixture
def file(network, tmp_path):
    save_file(network.state_dict(), tmp_path / "swinir.safetensors")
    return tmp_path / "swinir.safetensors"


def restored(network, photos):
    with torch.no_grad():
        return network(photos).clamp(0, 1)


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_a_file_does_what_the_network_in_it_does(network, file, tmp_path, suffix):
    if suffix == "pth":
        file = tmp_path / "swinir.pth"
        torch.save({"params": network.state_dict()}, file)
    model, photos = ImageModel.load(file), drawn_batch(2, 24, 32)
    assert model.name == "SwinIR"
    assert relative_error(model(photos), restored(network, photos)) < 1e-6
    assert float((model(photos) - photos).abs().mean()) > 0.01


def test_a_batch_equals_its_photos_one_by_one(file):
    model, photos = ImageModel.load(file), drawn_batch(3, 17, 25)
    assert torch.equal(model(photos), torch.cat([model(photo) for photo in photos.split(1)]))


@pytest.mark.parametrize("size", [(1, 1), (3, 40), (17, 25), (33, 16)])
def test_photos_of_any_size_keep_it(file, size):
    photos = drawn_batch(1, *size)
    before = photos.clone()
    made = ImageModel.load(file)(photos)
    assert (made.shape, made.dtype) == (photos.shape, torch.float32)
    assert bool(((made >= 0) & (made <= 1)).all())
    assert torch.equal(photos, before)
    made.add_(1)  # an ordinary tensor, not one of inference mode


def test_the_photos_own_dtype_comes_back(file):
    assert ImageModel.load(file)(drawn_batch(1, 16, 16).double()).dtype == torch.float64


def test_spandrel_without_its_start_leaves_nothing_half_imported(file):
    ImageModel.load(file)
    package = sys.modules.get("spandrel")
    assert package is None or package.__spec__ is not None


@pytest.mark.parametrize("torchvision", ["missing", "broken", "there"])
def test_torchvision_is_not_needed_for_swinir(file, torchvision):
    script = f"""
import importlib.abc, sys, types, warnings
warnings.simplefilter("ignore")
kind = {torchvision!r}
class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torchvision" and kind != "there":
            raise ModuleNotFoundError(name) if kind == "missing" else RuntimeError("operator torchvision::nms")
sys.meta_path.insert(0, Finder())
if kind == "there":
    for name in ("torchvision", "torchvision.transforms", "torchvision.transforms.functional"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules[name].normalize = sys.modules[name].rotate = None
    sys.modules[name].InterpolationMode = types.SimpleNamespace(BILINEAR=0, NEAREST=1)
import torch
from adapt_diffuse.image_models import ImageModel, _architectures
assert ImageModel.load({str(file)!r})(torch.rand(1, 3, 16, 16)).shape == (1, 3, 16, 16)
print(len(_architectures()))
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 30 if torchvision == "there" else int(done.stdout) == 1


def refused(path):
    with pytest.raises(AdaptDiffuseError) as caught:
        ImageModel.load(path)
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)
    return str(caught.value)


def test_files_that_are_no_networks_are_refused(file, tmp_path):
    assert refused(tmp_path / "none.safetensors").startswith("There is no file")
    save_file({"conv.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    assert "is of no architecture that spandrel knows" in refused(tmp_path / "other.safetensors")
    tensors = load_file(file)
    del tensors["conv_last.weight"]
    save_file(tensors, tmp_path / "partial.safetensors")
    assert "cannot be loaded by spandrel (" in refused(tmp_path / "partial.safetensors")
    file.write_bytes(file.read_bytes()[:-10])
    assert "is not a complete safetensors file" in refused(file)


def test_networks_that_change_the_size_or_the_colours_are_refused(tmp_path):
    swinir = spandrel_module("architectures.SwinIR").SwinIR
    common = {"img_size": 16, "embed_dim": 8, "depths": [2], "num_heads": [2], "window_size": 8}
    with torch.random.fork_rng(devices=[]):
        enlarging = swinir(**common, upscale=2, upsampler="pixelshuffledirect")
        grey = swinir(**common, upscale=1, in_chans=1)
    save_file(enlarging.state_dict(), tmp_path / "enlarging.safetensors")
    assert "does not restore at the photo's own size" in refused(tmp_path / "enlarging.safetensors")
    save_file(grey.state_dict(), tmp_path / "grey.safetensors")
    assert "does not work on colour photos" in refused(tmp_path / "grey.safetensors")
