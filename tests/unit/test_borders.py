"""Borders around a photo: found where they are sharp, filled for the restoration, put back as they came."""

from __future__ import annotations

import math
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from adapt_diffuse.borders import RAGGED, SOFT, Borders, inside_borders, mirrored
from adapt_diffuse.bundled import bundled_model, default_encoder
from adapt_diffuse.commands.demo import demo_photo
from adapt_diffuse.defaults import make_solver, start_settings
from adapt_diffuse.degradation import (
    DEGRADATIONS,
    Degradation,
    Downscale,
    GaussianBlur,
    Jpeg,
    MissingPixels,
    Noise,
    PerImage,
    blurs,
    chain,
    measure,
    parse_degradation,
    steps_of,
)
from adapt_diffuse.estimate.estimate import inside
from adapt_diffuse.finish import finished
from adapt_diffuse.hosts.diffusers import DiffusersPrior
from adapt_diffuse.images import read_photo, smaller, write_image
from adapt_diffuse.measurement import Measurement
from adapt_diffuse.metrics import psnr
from adapt_diffuse.restore import generators_for, restore
from adapt_diffuse.severity import load_severity_encoder
from tests.command_line import restore as restore_files
from tests.learned_blur import save_learned_blur

PAPER = (0.94, 0.92, 0.85)
BLUR = GaussianBlur(1.6, 0.02)


def blurred(side: int = 128) -> Tensor:
    return measure(smaller(demo_photo(), side), BLUR, generators_for(0, 1)).clamp(0, 1)


def on(
    photo: Tensor, border: tuple[int, int, int, int], colour: tuple[float, ...] = PAPER, noise: float = 0.0
) -> Tensor:
    """``photo`` (1, 3, H, W) on a canvas with (left, right, top, bottom) pixels of a colour around it."""
    left, right, top, bottom = border
    height, width = photo.shape[2:]
    canvas = torch.tensor(colour).reshape(1, 3, 1, 1).repeat(1, 1, height + top + bottom, width + left + right)
    canvas[:, :, top : top + height, left : left + width] = photo
    return (canvas + noise * torch.randn(canvas.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)


def placed(photo: Tensor, border: tuple[int, int, int, int]) -> Tensor:
    """Where the photo is on its canvas, bool (H, W)."""
    return on(torch.ones_like(photo), border, (0, 0, 0))[0, 0] > 0


def pil(canvas: Tensor) -> Image.Image:
    return Image.fromarray((canvas[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8))


def tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None].float() / 255


def askew() -> tuple[Tensor, Tensor]:
    """A print that lies on the scanner at an angle."""
    border = (20, 20, 20, 20)
    colour = tuple(round(value * 255) for value in PAPER)
    turned = pil(on(blurred(), border)).rotate(1.5, Image.Resampling.BICUBIC, fillcolor=colour)
    there = pil(placed(blurred(), border).float().expand(1, 3, -1, -1)).rotate(1.5, Image.Resampling.BICUBIC)
    return tensor(turned), tensor(there)[0, 0] > 0.5


def oval() -> tuple[Tensor, Tensor]:
    """A portrait behind a mat."""
    photo = blurred()
    mask = Image.new("L", (128 * 4, 128 * 4))
    ImageDraw.Draw(mask).ellipse([40, 20, 472, 492], fill=255)
    weight = tensor(mask.resize((128, 128), Image.Resampling.LANCZOS))
    mat = torch.tensor([0.35, 0.3, 0.25]).reshape(1, 3, 1, 1)
    return weight * photo + (1 - weight) * mat, weight[0, 0] > 0.5


def written_on() -> tuple[Tensor, Tensor]:
    border = (10, 10, 10, 44)
    card = pil(on(blurred(), border))
    ImageDraw.Draw(card).text((24, 150), "Summer 1974", fill=(30, 30, 120))
    return tensor(card), placed(blurred(), border)


def album() -> tuple[Tensor, Tensor]:
    """Two photos on one page."""
    border = (12, 20, 15, 9)
    other = (4, 20, 5, 3)
    page = torch.cat([on(blurred(64), border), on(blurred(80), other)], 3)
    return page, torch.cat([placed(blurred(64), border), placed(blurred(80), other)], 1)


def compressed(canvas: Tensor) -> Tensor:
    file = BytesIO()
    pil(canvas).save(file, "JPEG", quality=75)
    return tensor(Image.open(file))


def framed(border: tuple[int, int, int, int], noise: float = 0.0) -> tuple[Tensor, Tensor]:
    return on(blurred(), border, noise=noise), placed(blurred(), border)


CANVASES = {
    "flat": lambda: framed((16, 16, 16, 16)),
    "uneven": lambda: framed((30, 9, 14, 50)),
    "paper": lambda: framed((20, 20, 20, 20), noise=0.01),
    "noisy": lambda: framed((20, 20, 20, 20), noise=0.05),
    "bars": lambda: (on(blurred(), (0, 0, 24, 24), (1, 1, 1)), placed(blurred(), (0, 0, 24, 24))),
    "one side": lambda: framed((0, 0, 0, 40)),
    "a mat in a frame": lambda: (
        on(on(blurred(), (20, 20, 20, 20)), (12, 12, 12, 12), (0.1, 0.05, 0)),
        placed(blurred(), (32, 32, 32, 32)),
    ),
    "compressed": lambda: (compressed(on(blurred(), (20, 20, 20, 20))), placed(blurred(), (20, 20, 20, 20))),
    "askew": askew,
    "oval": oval,
    "written on": written_on,
    "album": album,
}


@pytest.mark.parametrize("name", CANVASES)
def test_a_border_is_found_to_the_pixel(name: str) -> None:
    """No pixel of it is taken for photo, but where JPEG or noise has made its edge uneven; an edge is left to it."""
    from scipy import ndimage

    canvas, there = CANVASES[name]()
    found = inside_borders(canvas[0])
    assert found is not None
    wrong = found & ~there
    if name in ("compressed", "noisy"):
        assert int(wrong.sum()) <= 0.02 * int(there.sum())
        assert not bool((wrong & torch.from_numpy(ndimage.distance_transform_edt(~there.numpy()) > 8)).any())
    else:
        assert not bool(wrong.any())
    deep = torch.from_numpy(ndimage.distance_transform_edt(np.pad(there.numpy(), 1, mode="edge"))[1:-1, 1:-1])
    assert bool(found[deep > SOFT + RAGGED].all())
    assert float((found & there).sum() / there.sum()) > 0.87


def sky() -> Tensor:
    """A clear sky over hills, which is no border: its edge is not straight enough, and it has a gradient."""
    photo = blurred(192)
    rows = torch.linspace(0.75, 0.95, 192)[:, None].expand(192, 192)
    line = 70 + 25 * torch.sin(torch.arange(192) / 17)
    return torch.where(torch.arange(192)[:, None] < line, rows, photo)


def thing() -> Tensor:
    """A round thing on a white ground, as out of focus as all of the picture."""
    ball = torch.ones(1, 3, 128, 128)
    rows, columns = torch.meshgrid(torch.arange(128), torch.arange(128), indexing="ij")
    ball[:, :, (rows - 64) ** 2 + (columns - 60) ** 2 < 40**2] = 0.2
    return measure(ball, GaussianBlur(2.5, 0.01), generators_for(0, 1)).clamp(0, 1)


@pytest.mark.parametrize(
    "photo",
    [
        blurred(),
        sky(),
        thing(),
        torch.full((1, 3, 64, 64), 0.5),
        torch.rand(1, 3, 40, 50),
        torch.zeros(1, 3, 2, 3),
        measure(on(smaller(demo_photo(), 128), (20, 20, 20, 20)), GaussianBlur(2.5, 0.01), generators_for(0, 1)),
        on(blurred(20), (60, 60, 60, 60)),
        torch.zeros(1, 3, 80, 80),
        on(blurred(), (20, 20, 20, 20), (0.5, 0.5, math.nan)),
    ],
    ids=["plain", "sky", "thing", "one colour", "noise", "tiny", "all of it blurred", "a stamp", "black", "NaN"],
)
def test_what_is_no_border_of_a_photo_is_left_alone(photo: Tensor) -> None:
    assert inside_borders(photo[0]) is None
    assert Borders.of(photo, BLUR) is None


def test_a_large_photo_is_looked_at_in_small() -> None:
    canvas = on(blurred(), (20, 20, 20, 20), noise=0.01)
    large = torch.nn.functional.interpolate(canvas, size=(2003, 2500), mode="nearest")
    found = inside_borders(large[0])
    assert found is not None and found.shape == (2003, 2500)
    top, left = 20 / 168 * 2003, 20 / 168 * 2500
    rows, columns = (found.any(axis).nonzero()[:, 0] for axis in (1, 0))
    assert top <= int(rows[0]) < top + 40 and left <= int(columns[0]) < left + 40
    assert 2003 - top - 40 < int(rows[-1]) < 2003 - top and 2500 - left - 40 < int(columns[-1]) < 2500 - left


def test_the_photo_is_mirrored_at_its_edge() -> None:
    photo = torch.rand(3, 9, 8, generator=torch.Generator().manual_seed(0))
    there = torch.zeros(9, 8, dtype=torch.bool)
    there[2:7, 3:] = True
    filled = mirrored(photo, there)
    expected = np.pad(photo[:, 2:7, 3:].numpy(), ((0, 0), (2, 2), (3, 0)), mode="reflect")
    straight = there.any(1, keepdim=True).expand_as(there) | there.any(0, keepdim=True).expand_as(there)
    assert torch.equal(filled[:, straight], torch.from_numpy(expected)[:, straight])
    assert bool((filled == photo)[:, there].all())
    far = mirrored(photo, torch.zeros_like(there).index_fill(1, torch.tensor([4]), True))
    assert torch.equal(far, photo[:, :, 4:5].expand_as(photo))
    assert mirrored(photo, torch.ones_like(there)) is photo


def test_borders_of_a_batch_are_each_photos_own() -> None:
    plain, paper = on(blurred(168), (0, 0, 0, 0)), on(blurred(), (20, 20, 20, 20))
    photos, before = torch.cat([plain, paper]), torch.cat([plain, paper])
    borders = Borders.of(photos, BLUR)
    assert borders is not None
    filled = borders.filled
    assert torch.equal(photos, before)
    assert torch.equal(filled[0], plain[0]) and bool(borders.inside[0].all())
    ones = torch.ones_like(photos)
    back = borders.put_back(ones)
    assert torch.equal(back[0], ones[0])
    found = borders.inside[1, 0]
    assert bool((back[1] == 1)[:, found].all()) and torch.equal(back[1][:, ~found], paper[0][:, ~found])
    assert borders.of_photo(0) is None
    alone = borders.of_photo(1)
    assert alone is not None
    assert torch.equal(alone.filled[0], filled[1]) and torch.equal(alone.put_back(ones[1:])[0], back[1])


def test_a_photo_made_smaller_has_its_border_enlarged() -> None:
    small = on(blurred(), (16, 16, 16, 16))
    degradation = chain(GaussianBlur(2.0), Downscale(2, "bicubic", 0.01))
    borders = Borders.of(small, degradation)
    assert borders is not None
    back = borders.put_back(torch.zeros(1, 3, 320, 320))
    assert float(back[:, :, 40:280, 40:280].abs().max()) == 0
    assert torch.allclose(back[:, :, :24, :], torch.tensor(PAPER).reshape(1, 3, 1, 1).expand(1, 3, 24, 320), atol=1e-3)
    assert float(back.min()) >= 0 and float(back.max()) <= 1


def specimen(name: str, folder: Path) -> Degradation:
    """A degradation of that name, with the files that it wants."""
    if name == "mask":
        write_image(folder / "mask.png", placed(blurred(), (20, 20, 20, 20)).float().expand(1, 3, -1, -1) * 0)
        return parse_degradation(f"mask:file={folder / 'mask.png'}", 0.02)
    if name == "kernel-blur":
        write_image(folder / "kernel.png", torch.ones(1, 3, 5, 5))
        return parse_degradation(f"kernel-blur:file={folder / 'kernel.png'}", 0.02)
    if name == "bkse":
        save_learned_blur(folder / "bkse.pth")
        return parse_degradation(f"bkse:file={folder / 'bkse.pth'}", 0.02)
    return parse_degradation(name, 0.02)


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_borders_count_where_something_was_blurred(name: str, tmp_path: Path) -> None:
    """What the photo's own blur is: downscaling, JPEG, noise and loss happen to a border, too."""
    degradation = specimen(name, tmp_path)
    expected = name == "bkse" or name.endswith("-blur")
    assert blurs(steps_of(degradation)[0]) == expected
    canvas = on(blurred(), (20, 20, 20, 20))
    assert (Borders.of(canvas, degradation) is not None) == expected


def test_every_photo_of_a_batch_has_its_own_damage() -> None:
    canvas = on(blurred(), (20, 20, 20, 20)).repeat(2, 1, 1, 1)
    borders = Borders.of(canvas, PerImage([Noise(0.02), chain(BLUR, Jpeg(90.0))]))
    assert borders is not None
    assert bool(borders.inside[0].all()) and not bool(borders.inside[1].all())


def test_a_border_that_is_to_be_painted_is_none() -> None:
    canvas, there = framed((20, 20, 20, 20))
    outside = MissingPixels(there[None, None].float())
    assert Borders.of(canvas, chain(BLUR, outside)) is None
    within = torch.ones(1, 1, *canvas.shape[2:])
    within[:, :, 60:70, 60:70] = 0
    assert Borders.of(canvas, chain(BLUR, MissingPixels(within))) is not None


@pytest.mark.parametrize("border", [(20, 20, 20, 20), (24, 13, 9, 16)])
def test_an_estimate_looks_at_the_photo_alone(border: tuple[int, int, int, int]) -> None:
    left, right, top, bottom = border
    canvas = on(blurred(), border, noise=0.01)
    found = inside(canvas[0])
    height, width = canvas.shape[2:]
    for got, least in zip(found[:2], (top, left), strict=True):
        assert least <= got <= least + 2 * 8 and got % 8 == 0
    for got, most, side in zip(found[2:], (height - bottom, width - right), (height, width), strict=True):
        assert most - 2 * 8 <= got <= most and (side - got) % 8 == 0
    assert inside(blurred()[0]) == (0, 0, 128, 128)


def test_a_border_makes_no_rings() -> None:
    """Along its edge the restoration is as good as that of the bare photo; taken for blurred it is ruined there."""
    whole = smaller(demo_photo(), 160)  # a photo does not end in a mirror
    truth, y = (one[:, :, 32:-32, 32:-32] for one in (whole, measure(whole, BLUR, generators_for(0, 1)).clamp(0, 1)))
    canvas = on(y, (16, 16, 16, 16), noise=0.01)
    borders = Borders.of(canvas, BLUR)
    assert borders is not None
    prior = DiffusersPrior.load(bundled_model())
    encoder = load_severity_encoder(default_encoder("gaussian-blur"))

    def restored(photo: Tensor) -> Tensor:
        solver, start = make_solver("default", BLUR), start_settings("default", degradation=BLUR)
        made = restore(photo, BLUR, prior, solver, generators_for(0, 1), encoder, start).image
        return finished(made, Measurement.of(photo, BLUR))

    edge = torch.ones(96, 96, dtype=torch.bool)
    edge[8:-8, 8:-8] = False

    def along(image: Tensor) -> float:
        return float(psnr(image[:, :, edge][..., None], truth[:, :, edge][..., None])[0])

    def middle(image: Tensor) -> Tensor:
        return image[:, :, 16:-16, 16:-16]

    bare, rings = along(restored(y)), along(middle(restored(canvas)))
    kept = borders.put_back(restored(borders.filled))
    assert along(middle(kept)) > max(bare, along(y))
    assert along(middle(kept)) > rings + 4
    assert torch.equal(kept[:, :, :16], canvas[:, :, :16])


@pytest.mark.parametrize("text", ["gaussian-blur:std=1.6", "auto"])
def test_the_command_line_leaves_a_border_as_it_came(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    path, out = tmp_path / "print.png", tmp_path / "out"
    write_image(path, on(blurred(), (20, 20, 20, 20), noise=0.01))
    write_image(tmp_path / "bare.png", on(blurred(168), (0, 0, 0, 0)))
    assert restore_files(files, path, tmp_path / "bare.png", "--out", out, "--degradation", text) == 0
    before, after = read_photo(path), read_photo(out / "print.png")
    found = inside_borders(before[0])
    assert found is not None
    assert torch.equal(after[0][:, ~found], before[0][:, ~found])
    assert float((after - before)[0][:, found].abs().mean()) > 0.01
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith(str(out))]
    assert ["its border is left as it came" in line for line in told] == ["print.png" in line for line in told]
    assert len(told) == 2


@pytest.mark.parametrize("degradation", [BLUR, chain(BLUR, Jpeg(80.0))])
def test_nothing_is_found_in_a_photo_that_fills_its_canvas(degradation: Degradation) -> None:
    y = measure(smaller(demo_photo(), 128), degradation, generators_for(0, 1)).clamp(0, 1)
    assert Borders.of(y, degradation) is None
