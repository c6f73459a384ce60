"""The photo's own detail, back in the restored photo."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from adapt_diffuse import detail
from adapt_diffuse.degradation import (
    CameraBlur,
    Degradation,
    Downscale,
    GaussianBlur,
    Jpeg,
    LensBlur,
    MissingPixels,
    Noise,
    chain,
    measure,
)
from adapt_diffuse.degradation.chain import for_each
from adapt_diffuse.detail import Tangent, gain, with_detail, without_jpeg
from adapt_diffuse.measurement import Measurement
from adapt_diffuse.restore import generators_for

SIDE = 48


def texture(seed: int = 0, count: int = 1) -> Tensor:
    """Photos (n, 3, SIDE, SIDE): the left half flat, the right one full of detail."""
    fine = torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    photo = torch.full_like(fine, 0.5)
    photo[..., SIDE // 2 :] = 0.2 + 0.6 * fine[..., SIDE // 2 :]
    return photo


def smooth(photo: Tensor) -> Tensor:
    """What an autoencoder would leave of it."""
    return F.avg_pool2d(F.pad(photo, (2,) * 4, mode="replicate"), 5, 1)


def error(image: Tensor, photo: Tensor) -> float:
    return float((image - photo).square().mean())


def damaged(photo: Tensor, degradation: Degradation) -> Measurement:
    return Measurement.of(measure(photo, degradation, generators_for(1, len(photo))), degradation)


MASK = torch.rand(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(3)).round()
DAMAGES: dict[str, tuple[Degradation, float]] = {  # and at most so much of the error may be left
    "noise": (Noise(0.05), 0.3),
    "blur": (GaussianBlur(0.5, 0.02), 0.3),
    "lost pixels": (MissingPixels(MASK, 0.02), 0.7),
    "small": (Downscale(2, noise_std=0.01), 0.9),
    "JPEG": (Jpeg(90, 0.01), 0.8),
    "blur, then JPEG": (chain(GaussianBlur(0.4, 0.0), Jpeg(95, 0.01)), 0.8),
    "camera": (CameraBlur.seeded(1.5, 0, 1.0, 0.01), 0.8),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_detail_that_the_photo_shows_comes_back(name: str) -> None:
    degradation, left = DAMAGES[name]
    photo = texture()
    restored = smooth(photo)
    detailed = with_detail(restored, damaged(photo, degradation))
    assert error(detailed, photo) < left * error(restored, photo)


def test_where_there_is_nothing_but_noise_hardly_anything_changes() -> None:
    photo, noise_std = texture(), 0.1
    change = with_detail(smooth(photo), damaged(photo, Noise(noise_std))) - smooth(photo)
    flat, fine = change[..., : SIDE // 2 - 6], change[..., SIDE // 2 + 6 :]
    assert float(flat.std()) < 0.25 * noise_std  # of all the noise that is there
    assert float(fine.std()) > 0.5 * noise_std


def test_a_perfect_restoration_stays_nearly_as_it_is() -> None:
    photo = texture()
    assert error(with_detail(photo, damaged(photo, Noise(0.1))), photo) < 0.05 * 0.1**2


def test_noise_that_was_told_too_small_does_not_come_back() -> None:
    photo = texture()
    y = measure(photo, Noise(0.1), generators_for(1, 1))
    change = with_detail(smooth(photo), Measurement.of(y, Noise(0.02))) - smooth(photo)
    assert float(change[..., : SIDE // 2 - 6].std()) < 0.3 * 0.1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened_for_it(dtype: torch.dtype) -> None:
    blur = GaussianBlur(1.5, 0.02)
    photo = texture().to(dtype)
    y = measure(photo.float(), blur, generators_for(0, 1)).to(dtype)
    expected = with_detail(smooth(photo.float()).to(dtype).float(), Measurement(y.float(), blur))
    found = with_detail(smooth(photo.float()).to(dtype), Measurement(y, blur))
    assert found.dtype == dtype
    assert torch.equal(found, expected.to(dtype))


def test_the_weights_are_those_of_the_least_mean_square_error() -> None:
    """Without an operator the estimate is T / (T + s^2) of the residual, T + s^2 the energy around."""
    photo = texture()
    restored, measurement = smooth(photo), damaged(photo, Noise(0.05))
    residual = measurement.y - restored
    energy = F.avg_pool2d(residual.square().mean(1, keepdim=True), 7, 1, 3, count_include_pad=False)
    noise = max(0.05**2, float(energy[..., ::3, ::3].quantile(0.05)))
    variance = (energy - noise).clamp(0, 0.1**2)
    expected = restored + variance / (variance + noise) * residual
    off = with_detail(restored, measurement) - expected
    assert float(off.abs().max()) < 3e-3 and float(off.square().mean().sqrt()) < 2e-4  # conjugate gradients end early


class Dim(Noise):
    """A photo of half the brightness."""

    def __call__(self, image: Tensor) -> Tensor:
        return image / 2

    def adjoint(self, y: Tensor) -> Tensor:
        return y / 2


def test_the_variance_is_that_of_the_detail_and_not_of_what_an_operator_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    """At half the brightness a quarter of T is left: the estimate is (T / 2) / (T / 4 + s^2) of the residual."""
    monkeypatch.setattr(detail, "TOLERANCE", 1e-12)
    photo = texture()
    restored, measurement = smooth(photo), damaged(photo, Dim(0.05))
    residual = measurement.y - restored / 2
    energy = F.avg_pool2d(residual.square().mean(1, keepdim=True), 7, 1, 3, count_include_pad=False)
    noise = max(0.05**2, float(energy[..., ::3, ::3].quantile(0.05)))
    variance = (4 * (energy - noise)).clamp(0, 0.1**2)
    assert 0 < float(((variance > 0) & (variance < 0.1**2)).double().mean()) < 1
    change = with_detail(restored, measurement) - restored
    assert torch.allclose(change, variance / 2 / (variance / 4 + noise) * residual, rtol=0, atol=1e-9)


def test_a_blur_leaves_the_squares_of_its_kernel_of_white_noise() -> None:
    image = torch.zeros(2, 3, 256, 256, dtype=torch.float64)
    seen = torch.ones_like(image)
    left = gain(GaussianBlur(torch.tensor([1.0, 2.0])), image, seen)
    expected = [1 / (4 * torch.pi * std**2) for std in (1.0, 2.0)]
    assert left.shape == (2, 1, 1, 1) and left.flatten().tolist() == pytest.approx(expected, rel=0.03)
    assert gain(Noise(0.1), image, seen).flatten().tolist() == pytest.approx([1.0, 1.0], rel=1e-12)


@pytest.mark.parametrize(
    ("damage", "most"), [(Noise(0.05), 0.12), (GaussianBlur(2.0, 0.05), 0.25), (LensBlur(10.0, 0.01), 0.7)]
)
def test_of_a_perfect_restoration_little_of_the_noise_comes_back(damage: Degradation, most: float) -> None:
    photo = smooth(texture())
    change = with_detail(photo, damaged(photo, damage)) - photo
    assert 0 < float(change.square().mean().sqrt()) < most * damage.noise_std


def test_strength_goes_from_nothing_to_more() -> None:
    photo = texture()
    restored, measurement = smooth(photo), damaged(photo, GaussianBlur(0.7, 0.02))
    assert with_detail(restored, measurement, 0.0) is restored
    moved = [float((with_detail(restored, measurement, s) - restored).norm()) for s in (0.1, 1.0, 10.0)]
    assert 0 < moved[0] < moved[1] < moved[2]


@pytest.mark.parametrize("kinds", [
    [GaussianBlur(0.7, 0.02), Noise(0.05)],
    [Jpeg(80, 0.01), GaussianBlur(0.7, 0.02), chain(GaussianBlur(1.0, 0.0), Jpeg(60, 0.02))],
])  # fmt: skip
def test_photos_together_are_the_photos_alone(kinds: list[Degradation]) -> None:
    photo = texture(5, len(kinds))
    measurement = damaged(photo, for_each(kinds))
    together = with_detail(smooth(photo), measurement)
    for index in range(len(kinds)):
        one = torch.tensor([index])
        alone = with_detail(smooth(photo)[one], measurement.select(one))
        assert torch.allclose(together[one], alone, atol=1e-6)


def test_inputs_stay_and_inference_mode_does_not_matter() -> None:
    photo = texture()
    restored, measurement = smooth(photo), damaged(photo, CameraBlur.seeded(1.5, 0, 1.0, 0.01))
    before = restored.clone()
    expected = with_detail(restored, measurement)
    assert torch.equal(restored, before) and not expected.requires_grad
    with torch.inference_mode():
        inside = with_detail(smooth(photo), measurement)
    assert torch.equal(inside, expected)


@pytest.mark.parametrize("size", [(1, 1), (3, 9), (20, 7)])
def test_photos_of_any_size_go_through(size: tuple[int, int]) -> None:
    photo = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    detailed = with_detail(torch.full_like(photo, 0.5), damaged(photo, Noise(0.02)))
    assert detailed.shape == photo.shape and bool(torch.isfinite(detailed).all())


def test_a_tangent_is_the_derivative_and_its_adjoint() -> None:
    degradation = CameraBlur.seeded(2.0, 0, 1.5)
    image, step = texture(), 1e-6
    tangent = Tangent(degradation, image)
    change, back = texture(1) - 0.5, texture(2) - 0.5
    expected = (degradation(image + step * change) - degradation(image - step * change)) / (2 * step)
    assert torch.allclose(tangent(change), expected, atol=1e-7)
    assert float((tangent(change) * back).sum()) == pytest.approx(float((change * tangent.adjoint(back)).sum()), 1e-9)


def test_what_a_gpu_does_not_hold_the_cpu_does(monkeypatch: pytest.MonkeyPatch) -> None:
    photo = texture()
    restored, measurement = smooth(photo), damaged(photo, GaussianBlur(0.7, 0.02))
    expected, calls, whole = with_detail(restored, measurement), [], detail.put_back

    def full_at_first(image: Tensor, there: Measurement, strength: float) -> Tensor:
        calls.append((image.device.type, there.y.device.type))
        if len(calls) == 1:
            raise torch.cuda.OutOfMemoryError
        return whole(image, there, strength)

    monkeypatch.setattr(detail, "put_back", full_at_first)
    assert torch.equal(with_detail(restored, measurement), expected)
    assert calls == [("cpu", "cpu")] * 2


def test_only_compression_is_left_out() -> None:
    blur, jpeg = GaussianBlur(1.0, 0.02), Jpeg(50, 0.03)
    assert without_jpeg(blur) is blur
    assert isinstance(without_jpeg(jpeg), Noise) and without_jpeg(jpeg).noise_std == 0.03
    kept = without_jpeg(chain(blur, jpeg))
    assert torch.equal(kept(texture()), blur(texture())) and kept.noise_std == 0.03


@pytest.mark.skipif(not torch.cuda.is_available(), reason="There is no GPU on this machine.")
@pytest.mark.parametrize("name", DAMAGES)
def test_a_gpu_gives_back_what_the_cpu_does(name: str) -> None:
    photo = texture()
    restored, measurement = smooth(photo), damaged(photo, DAMAGES[name][0])
    there = Measurement(measurement.y.cuda(), measurement.degradation)
    found = with_detail(restored.cuda(), there).cpu()
    assert float((found - with_detail(restored, measurement)).abs().max()) < 1e-4
