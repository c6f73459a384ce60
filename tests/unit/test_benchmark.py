"""Tasks and methods of the benchmark on a tiny model: what each draws, and what its row holds."""

import math
from dataclasses import replace

import pytest
import torch

from adapt_diffuse.benchmark import METHODS, NOISE_SEED, TASKS, MethodSettings, damage, run_method, severity_row
from adapt_diffuse.defaults import (
    BENT,
    BENT_PER_OCTAVE,
    PER_OCTAVE,
    SOLVER_NAMES,
    TUNED,
    default_solver,
    kind_of,
    make_solver,
    start_settings,
    stronger,
)
from adapt_diffuse.degradation import (
    Downscale,
    GaussianBlur,
    Jpeg,
    LinearDegradation,
    MissingBox,
    MissingPixels,
    Noise,
    chain,
)
from adapt_diffuse.errors import AdaptDiffuseError
from adapt_diffuse.metrics import psnr, ssim
from adapt_diffuse.padding import pad_to_multiple
from adapt_diffuse.restore import generators_for, restore
from adapt_diffuse.solvers import SOLVERS
from adapt_diffuse.start import StartSettings
from tests.command_line import ROW
from tests.models import drawn_batch
from tests.reference import relative_error

FEW = StartSettings(steps=4)
BLUR = GaussianBlur(2.0)
# the tiny model is one of latents
LATENT_METHODS = [method for method in METHODS if method not in ("dps", "swinir")]
CASES = [("gaussian-blur-varying", method) for method in LATENT_METHODS]
CASES += [
    (task, method) for task in list(TASKS)[1:] for method in ("damaged", "ceiling", "ae", "flash-ldps", "default")
]


def few(solver, degradation):
    return FEW


class Brighten:
    """Stands where a restoration network does."""

    def __call__(self, photos):
        return photos + 0.1


def photos(count=2, height=32, width=48):
    return drawn_batch(count, height, width).double()


@pytest.mark.parametrize("task", TASKS)
def test_a_photos_damage_depends_on_its_own_seed_alone(task):
    together = damage(task, photos(3), seed=4)
    for index in range(3):
        alone = damage(task, photos(3)[index : index + 1], seed=4 + index)
        assert torch.allclose(alone.y[0], together.y[index], rtol=0, atol=1e-14)
        assert alone.level.tolist() == together.level[index : index + 1].tolist()
    assert torch.equal(together.truth, photos(3))


@pytest.mark.parametrize(
    ("task", "low", "high"), [("gaussian-blur-varying", 0.3, 3.0), ("random-inpainting", 0.7, 0.8)]
)
def test_tasks_draw_the_papers_ranges(task, low, high):
    level = damage(task, photos(1, 2, 2).expand(300, -1, -1, -1), seed=0).level
    assert low <= float(level.min()) < low + 0.03 * (high - low)
    assert high - 0.03 * (high - low) < float(level.max()) <= high


def test_the_fixed_blur_has_one_level():
    photos_damaged = damage("gaussian-blur-fixed", photos(3), seed=0, noise_std=0.0)
    assert photos_damaged.level.tolist() == [3.0] * 3
    assert torch.allclose(photos_damaged.y, GaussianBlur(3.0)(photos(3)), rtol=0, atol=1e-14)


@pytest.mark.parametrize(("task", "method"), CASES)
def test_a_row_holds_the_means_of_every_photo(prior, encoder, task, method):
    damaged = damage(task, photos(3), seed=0)
    settings = MethodSettings(start=few)
    row, images = run_method(method, task, damaged, prior, encoder, 0, settings, batch=2)
    assert set(row) == ROW
    assert (row["task"], row["method"], row["images"]) == (task, method, 3)
    assert row["psnr"] == pytest.approx(float(psnr(images, photos(3)).mean()), rel=1e-12)
    assert row["ssim"] == pytest.approx(float(ssim(images, photos(3)).mean()), rel=1e-12)
    solves = method not in ("damaged", "ceiling", "ae")
    published = method.removeprefix("flash-") in ("ldps", "gml-dps", "psld")
    calls = 8 if method.endswith("latent-daps") else 4  # two for each estimate
    assert row["denoiser_forwards"] == (calls if solves else 0)
    assert row["denoiser_backwards"] == (4 if published else 0)
    if published:
        assert row["decoder_backwards"] == 4
    assert [photo["steps"] for photo in row["photos"]] == [4 if solves else 0] * 3
    assert sum(photo["psnr"] for photo in row["photos"]) / 3 == pytest.approx(row["psnr"], rel=1e-12)
    adaptive = method in ("ae", "default") or method.startswith("flash-")
    assert (row["sigma_hat_mean"] is not None) == adaptive


@pytest.mark.parametrize("method", LATENT_METHODS)
def test_photos_off_the_latent_grid_are_measured_too(prior, encoder, method):
    damaged = damage("gaussian-blur-varying", photos(2, 30, 37), seed=0)
    row, images = run_method(method, "gaussian-blur-varying", damaged, prior, encoder, 0, MethodSettings(start=few))
    assert images.shape == (2, 3, 30, 37)
    assert math.isfinite(row["psnr"])
    assert math.isfinite(severity_row("gaussian-blur-varying", damaged, prior, encoder)["true_error_mean"])


def test_a_methods_noise_is_not_the_damages(prior, encoder):
    assert NOISE_SEED > 10**5  # photo i draws its damage from seed + i
    damaged = damage("gaussian-blur-fixed", photos(2), seed=6)
    settings = MethodSettings(eta=2.0, start=few)
    _, images = run_method("flash-ldps", "gaussian-blur-fixed", damaged, prior, encoder, 6, settings)
    solver = make_solver("ldps", BLUR, eta=2.0, through="denoiser")
    expected = restore(damaged.y, damaged.degradation, prior, solver, generators_for(6 + NOISE_SEED, 2), encoder, FEW)
    assert torch.equal(images, expected.image)


def test_batches_do_not_change_a_row(prior, encoder):
    damaged = damage("gaussian-blur-varying", photos(3), seed=0)
    settings = MethodSettings(start=few)
    rows = [
        run_method("flash-ldps", "gaussian-blur-varying", damaged, prior, encoder, 0, settings, batch)
        for batch in (1, 2, 10)
    ]
    for row, images in rows[1:]:
        assert relative_error(images, rows[0][1]) < 1e-10
        for key in ROW - {"task", "method", "seconds", "photos", "peak_memory_mib"}:
            assert row[key] == pytest.approx(rows[0][0][key], rel=1e-9)


def test_the_damaged_row_and_the_ceiling_are_what_they_say(prior):
    damaged = damage("gaussian-blur-fixed", photos(2), seed=0)
    _, as_it_is = run_method("damaged", "gaussian-blur-fixed", damaged, prior, None, 0, MethodSettings())
    _, ceiling = run_method("ceiling", "gaussian-blur-fixed", damaged, prior, None, 0, MethodSettings())
    assert torch.equal(as_it_is, damaged.y.clamp(0, 1))
    with torch.no_grad():
        assert torch.equal(ceiling, prior.decode(prior.encode(photos(2))).clamp(0, 1))


def test_a_row_without_noise_has_no_residual(prior, encoder):
    damaged = damage("gaussian-blur-fixed", photos(2), seed=0, noise_std=0.0)
    row, _ = run_method("ae", "gaussian-blur-fixed", damaged, prior, encoder, 0, MethodSettings())
    assert row["residual"] is None


def test_unknown_tasks_and_methods_are_refused(prior, encoder):
    with pytest.raises(AdaptDiffuseError, match="Unknown task 'rust'; there are gaussian-blur-varying"):
        damage("rust", photos(), 0)
    damaged = damage("gaussian-blur-fixed", photos(), seed=0)
    with pytest.raises(AdaptDiffuseError, match="Unknown method 'magic'; there are damaged, ceiling, ae"):
        run_method("magic", "gaussian-blur-fixed", damaged, prior, encoder, 0, MethodSettings())
    with pytest.raises(AdaptDiffuseError, match="'ae' needs a severity encoder"):
        run_method("ae", "gaussian-blur-fixed", damaged, prior, None, 0, MethodSettings())


def test_a_severity_row_correlates_with_level_and_error(prior, encoder):
    damaged = damage("gaussian-blur-varying", photos(6), seed=0)
    row = severity_row("gaussian-blur-varying", damaged, prior, encoder)
    severity = encoder.predict(damaged.y, prior.multiple)
    with torch.no_grad():
        z0 = prior.encode(pad_to_multiple(photos(6), prior.multiple))
    true = (severity.z_hat - z0).flatten(1).std(1)
    pairs = {"blur": damaged.level, "error": true}
    for name, other in pairs.items():
        expected = torch.corrcoef(torch.stack([severity.sigma_hat, other]))[0, 1]
        assert row[f"pearson_{name}"] == pytest.approx(float(expected), rel=1e-6)
        ranks = torch.stack([severity.sigma_hat.argsort().argsort(), other.argsort().argsort()]).double()
        assert row[f"spearman_{name}"] == pytest.approx(float(torch.corrcoef(ranks)[0, 1]), rel=1e-6)
    assert row["sigma_hat_mean"] == pytest.approx(float(severity.sigma_hat.mean()))


def test_a_severity_row_of_equal_levels_has_no_correlation(prior, encoder):
    damaged = damage("gaussian-blur-fixed", photos(3), seed=0)
    row = severity_row("gaussian-blur-fixed", damaged, prior, encoder)
    assert row["pearson_blur"] is row["spearman_blur"] is None
    assert row["pearson_error"] is not None


# Solvers by name


OPERATORS = {
    "blur": BLUR,
    "lost pixels": MissingPixels(torch.eye(4)[None, None]),
    "a lost box": MissingBox(2, 2),
    "noise alone": Noise(0.1),
    "JPEG": Jpeg(30.0),
    "downscaled": Downscale(2),
    "downscaled, then JPEG": chain(Downscale(2), Jpeg(30.0)),
    "blurred, then downscaled": chain(BLUR, Downscale(2)),
}


@pytest.mark.parametrize("name", SOLVER_NAMES)
def test_solvers_need_the_decoder_alone_unless_the_published_form_is_asked_for(name):
    assert make_solver(name, BLUR).through == "decoder"
    published = make_solver(name, BLUR, through="denoiser")
    assert published.through == ("denoiser" if name in ("ldps", "gml-dps", "psld", "dps") else "decoder")


@pytest.mark.parametrize(("name", "kind"), TUNED)
def test_numbers_are_tuned_for_degradation_and_start_and_can_be_chosen(name, kind):
    tuned, degradation = TUNED[name, kind], OPERATORS["blur" if kind == "blur" else "lost pixels"]
    number = "gamma" if name == "resample" else "eta"
    assert getattr(make_solver(name, degradation), number) == tuned.flash
    assert getattr(make_solver(name, degradation, flash=False), number) == tuned.from_noise
    assert getattr(make_solver(name, degradation, **{number: 0.25}), number) == 0.25
    if name in ("gml-dps", "psld"):
        assert make_solver(name, degradation).gamma == tuned.gamma
        assert make_solver(name, degradation, gamma=0.0).gamma == 0


def test_every_row_of_numbers_belongs_to_a_solver_and_there_is_one_for_each_kind():
    assert {kind_of(one) for one in OPERATORS.values()} == {"blur", "missing"}
    for name, kind in TUNED:
        assert name in SOLVERS
        assert {(name, "blur"), (name, "missing")} <= set(TUNED), kind


NEED_NO_GRADIENT = {"blur", "downscaled", "blurred, then downscaled"}


@pytest.mark.parametrize("operator", OPERATORS)
def test_the_default_needs_no_gradient_where_damage_is_linear_and_loses_no_pixels(operator):
    degradation, name = OPERATORS[operator], "latino" if operator in NEED_NO_GRADIENT else "diffpir"
    assert default_solver(degradation) == name
    solver = make_solver("default", degradation)
    assert solver == make_solver(name, degradation)
    if not isinstance(degradation, LinearDegradation):  # the line search goes less far there
        assert solver.iterations == BENT
        solver = replace(solver, iterations=SOLVERS[name]().iterations)
    assert solver == SOLVERS[name]()
    start = start_settings("default", 0, degradation)
    assert start == start_settings(name, 0, degradation)
    assert start.per_octave == (PER_OCTAVE if isinstance(degradation, LinearDegradation) else BENT_PER_OCTAVE)
    assert start_settings("ldps", 0, degradation).per_octave == 0


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("resample", "eta"),
        ("ldps", "gamma"),
        ("default", "gamma"),
        ("default", "eta"),
        ("dps", "gamma"),
        ("dcdp", "eta"),
    ],
)
def test_a_number_that_a_solver_does_not_have_is_refused(name, number):
    with pytest.raises(AdaptDiffuseError, match=f"The solver {name} has no {number}"):
        make_solver(name, BLUR, **{number: 1.0})


@pytest.mark.parametrize(
    ("name", "number", "factor"),
    [
        ("ldps", "eta", 2.0),
        ("psld", "eta", 2.0),
        ("resample", "gamma", 2.0),
        ("latino", "trust", 0.25),
        ("diffpir", "trust", 0.25),
        ("latent-daps", "trust", 0.25),
        ("dcdp", "tau", 0.5),
    ],
)
def test_a_stronger_pull_turns_the_one_number_that_is_its_strength(name, number, factor):
    solver = make_solver(name, BLUR)
    turned = stronger(solver, 2.0)
    assert getattr(turned, number) == factor * getattr(solver, number)
    assert replace(turned, **{number: getattr(solver, number)}) == solver
    assert stronger(solver, 1.0) == solver


@pytest.mark.parametrize("name", SOLVERS)
def test_every_solver_has_a_strength(name):
    solver = make_solver(name, BLUR)
    assert stronger(solver, 3.0) != solver == stronger(solver, 1.0)


def test_dps_wants_a_model_of_pixels(prior, encoder):
    damaged = damage("gaussian-blur-fixed", photos(), seed=0)
    with pytest.raises(AdaptDiffuseError, match="'dps' needs a diffusion model of pixels"):
        run_method("dps", "gaussian-blur-fixed", damaged, prior, encoder, 0, MethodSettings(start=few))
    with pytest.raises(AdaptDiffuseError, match="DPS is for models of pixels"):
        settings = MethodSettings(start=few, pixel_prior=prior)
        run_method("dps", "gaussian-blur-fixed", damaged, prior, encoder, 0, settings)


def test_a_restoration_network_has_a_row(prior):
    damaged = damage("gaussian-blur-fixed", photos(3), seed=0)
    with pytest.raises(AdaptDiffuseError, match="'swinir' needs a restoration network"):
        run_method("swinir", "gaussian-blur-fixed", damaged, prior, None, 0, MethodSettings())
    settings = MethodSettings(image_model=Brighten())
    row, images = run_method("swinir", "gaussian-blur-fixed", damaged, prior, None, 0, settings, batch=2)
    assert torch.equal(images, (damaged.y.clamp(0, 1) + 0.1).clamp(0, 1))
    assert row["psnr"] == pytest.approx(float(psnr(images, photos(3)).mean()), rel=1e-12)
    assert row["denoiser_forwards"] == row["decoder_forwards"] == 0


def test_a_photos_row_has_its_own_level_and_severity(prior, encoder):
    damaged = damage("gaussian-blur-varying", photos(3), seed=0)
    row, _ = run_method("ae", "gaussian-blur-varying", damaged, prior, encoder, 0, MethodSettings(), batch=2)
    assert [photo["level"] for photo in row["photos"]] == damaged.level.tolist()
    expected = encoder.predict(damaged.y, prior.multiple).sigma_hat
    assert [photo["sigma_hat"] for photo in row["photos"]] == pytest.approx(expected.tolist(), rel=1e-12)
    assert (
        "sigma_hat"
        not in run_method("ceiling", "gaussian-blur-varying", damaged, prior, None, 0, MethodSettings())[0]["photos"][0]
    )


def test_an_unknown_solver_is_refused():
    with pytest.raises(AdaptDiffuseError, match="Unknown solver 'magic'; there are default, ldps"):
        make_solver("magic", BLUR)
