"""The learned blur against its layout written as modules, and files that are none."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch

from adapt_diffuse.benchmark import NOISE_SEED
from adapt_diffuse.degradation import LearnedBlur
from adapt_diffuse.degradation.bkse import CODE_SEED, CODE_STD, code_layout
from adapt_diffuse.degradation.camera import SHAKE_SEED
from adapt_diffuse.degradation.missing import MASK_SEED
from adapt_diffuse.errors import AdaptDiffuseError
from adapt_diffuse.padding import pad_to_multiple
from adapt_diffuse.restore import DAMAGE_SEED
from adapt_diffuse.severity.calibration import PROBE_SEED
from tests.learned_blur import learned_blur, save_learned_blur


def photo(shape, seed):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("bkse") / "tiny.pth"
    save_learned_blur(path)
    return path


@pytest.mark.parametrize("size", [(32, 32), (64, 96), (45, 70)])
def test_the_learned_blur_is_the_generators(file, size):
    image = photo((2, 3, *size), 0)
    operator = LearnedBlur.load(file, seed=3)
    padded = pad_to_multiple(image, 32)
    code = operator.code(*padded.shape[2:]).double().expand(2, -1, -1, -1)
    expected = learned_blur().double()(padded, code)[:, :, : size[0], : size[1]].clamp(0, 1)
    assert float((operator(image) - expected).abs().max()) < 1e-12
    assert float((expected - image).abs().max()) > 0.1  # it does something


def test_the_layout_is_read_from_the_weights():
    assert code_layout(learned_blur().state_dict()) == (8, 32)


def test_a_seed_decides_the_code_and_the_code_the_blur(file):
    image = photo((1, 3, 64, 64), 0)
    first, again, other = (LearnedBlur.load(file, seed) for seed in (1, 1, 2))
    assert torch.equal(first(image), again(image))
    assert float((first(image) - other(image)).abs().max()) > 1e-3
    code = first.code(3200, 3200)
    assert code.shape == (1, 8, 100, 100)
    # four standard errors of a sample's standard deviation
    assert abs(float(code.std()) / CODE_STD - 1) < 4 / (2 * code.numel()) ** 0.5


def test_the_part_that_is_not_used_is_not_kept(file):
    assert not [name for name in LearnedBlur.load(file)._weights if name.startswith("kernel_extractor")]


@pytest.mark.parametrize("content", [b"", b"no checkpoint", "cut", "list", "other", "shape"])
def test_a_file_that_is_no_such_checkpoint_is_one_sentence(file, tmp_path, content):
    path = tmp_path / "wrong.pth"
    state = torch.load(file, weights_only=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "cut":
        path.write_bytes(file.read_bytes()[:2000])
    elif content == "list":
        torch.save([1, 2], path)
    elif content == "other":
        torch.save({"weight": torch.zeros(3)}, path)
    else:
        torch.save({**state, "module.recon_trunk.2.weight": torch.zeros(8, 3, 3, 3)}, path)
    with pytest.raises(AdaptDiffuseError) as caught:
        LearnedBlur.load(path)
    assert f"{path} is no checkpoint of blur-kernel-space-exploring" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bad_noise_is_not_blamed_on_the_file(file):
    with pytest.raises(AdaptDiffuseError, match="noise_std must be between 0 and 1"):
        LearnedBlur.load(file, noise_std=2.0)


def test_no_two_kinds_of_numbers_are_drawn_from_one_seed():
    offsets = [NOISE_SEED, MASK_SEED, DAMAGE_SEED, SHAKE_SEED, PROBE_SEED, CODE_SEED]
    assert min(abs(a - b) for a, b in combinations([0, *offsets], 2)) > 100_000
