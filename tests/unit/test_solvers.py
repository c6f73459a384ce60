"""Whole runs of the solvers on the toy model, and what they cost, in float64."""

import pytest
import torch

from adapt_diffuse.cost import Cost, CountedPrior
from adapt_diffuse.degradation.base import Dense, SameSize
from adapt_diffuse.errors import AdaptDiffuseError
from adapt_diffuse.measurement import Measurement
from adapt_diffuse.restore import generators_for
from adapt_diffuse.solvers import (
    DCDP,
    DPS,
    GMLDPS,
    LATINO,
    LDPS,
    MPGD,
    PSLD,
    SOLVERS,
    FlowDPS,
    LatentDAPS,
    LatentDiffPIR,
    ReSample,
    solve,
)
from tests.randomness import untouched_random_state
from tests.reference import ToyPrior, relative_error, toy_weights
from tests.toy_scene import LATENT, PRIOR, THROUGH, data_term, scene, schedules

# every solver in every form; PSLD and ReSample fit a linear photo as well as any other
CASES = {
    **{
        f"{name} {through}": SOLVERS[name](eta=2.0, through=through)
        for name in ("ldps", "gml-dps", "psld")
        for through in THROUGH
    },
    "resample": ReSample(iterations=7, every=3),
    "resample without noise between": ReSample(iterations=3, every=4, eta_ddim=0.0, proximal=0.0),
    "diffpir": LatentDiffPIR(churn=0.3, iterations=3),
    "latino": LATINO(churn=0.5),
    "latino as published": LATINO(churn=1.0, correct=False),
    "mpgd": MPGD(eta=2.0, churn=0.2),
    "flow-dps": FlowDPS(eta=2.0),
    "latent-daps": LatentDAPS(ode_steps=3, iterations=3),
    "dcdp": DCDP(iterations=2),
}
every = pytest.mark.parametrize("name", CASES)


def run(solver, task="blur", seed=0, callback=None, prior=PRIOR):
    x, _, measurement = scene(task=task)
    return solve(solver, prior, measurement, x, schedules(), generators_for(seed, 3), callback)


@pytest.mark.parametrize("task", ["blur", "mask"])
@every
def test_a_batch_with_different_starts_equals_one_by_one(name, task):
    solver = CASES[name]
    x, _, measurement = scene(task=task)
    together = solve(solver, PRIOR, measurement, x, schedules(), generators_for(5, 3))
    for index in range(3):
        chosen = torch.tensor([index])
        alone = solve(
            solver,
            PRIOR,
            measurement.select(chosen),
            x[chosen],
            [schedules()[index]],
            generators_for(5 + index, 1),
        )
        assert relative_error(together[chosen], alone) < 1e-10


def test_images_with_the_same_start_stay_apart():
    x, _, measurement = scene()
    twins = torch.cat([x[:1], x[:1]])
    both = measurement.select(torch.tensor([0, 0]))
    z0 = solve(LDPS(eta=2.0), PRIOR, both, twins, [schedules()[0]] * 2, generators_for(0, 2))
    assert float((z0[0] - z0[1]).abs().max()) > 1e-3  # their noise differs
    same = [torch.Generator().manual_seed(9) for _ in range(2)]
    z0 = solve(LDPS(eta=2.0), PRIOR, both, twins, [schedules()[0]] * 2, same)
    assert relative_error(z0[0], z0[1]) < 1e-12


@every
def test_a_seed_decides_the_run(name):
    solver = CASES[name]
    assert torch.equal(run(solver, seed=3), run(solver, seed=3))
    assert not torch.equal(run(solver, seed=3), run(solver, seed=4))


@every
def test_a_run_changes_nothing_of_the_caller(name):
    x, _, measurement = scene()
    table = schedules()
    kept = x.clone(), measurement.y.clone(), [schedule.clone() for schedule in table]
    with untouched_random_state():
        z0 = solve(CASES[name], PRIOR, measurement, x, table, generators_for(0, 3))
    assert torch.equal(x, kept[0])
    assert torch.equal(measurement.y, kept[1])
    assert all(torch.equal(a, b) for a, b in zip(table, kept[2], strict=True))
    assert not z0.requires_grad
    assert torch.is_grad_enabled()


class Stop(Exception):
    """Raised by a callback."""


def test_a_callback_that_raises_ends_the_run_and_changes_nothing():
    x, _, measurement = scene()
    kept = x.clone(), measurement.y.clone()
    seen = []

    def callback(step, steps, x, z0, sigma):
        seen.append(step)
        if step == 2:
            raise Stop

    with pytest.raises(Stop):
        solve(LDPS(eta=2.0), PRIOR, measurement, x, schedules(), generators_for(0, 3), callback)
    assert seen == [0, 1, 2]
    assert torch.equal(x, kept[0])
    assert torch.equal(measurement.y, kept[1])
    assert torch.is_grad_enabled()


def test_a_callback_sees_every_step_and_who_takes_part():
    lengths = [len(schedule) - 1 for schedule in schedules()]
    steps_seen, last = [], []

    def callback(step, steps, x, z0, sigma):
        taking_part = [index for index, length in enumerate(lengths) if steps - step <= length]
        expected = [float(schedules()[index][step - steps - 1]) for index in taking_part]
        assert sigma.tolist() == expected
        assert x.shape == z0.shape == (len(taking_part), *LATENT)
        assert steps == max(lengths)
        steps_seen.append(step)
        last.append((x.clone(), z0.clone()))

    result = run(LDPS(eta=2.0), callback=callback)
    assert steps_seen == list(range(max(lengths)))
    assert torch.equal(last[-1][0], result)


def test_what_a_callback_does_to_its_tensors_does_not_reach_the_run():
    def spoil(step, steps, x, z0, sigma):
        for value in (x, z0, sigma):
            value.fill_(torch.nan)

    assert torch.equal(run(LDPS(eta=2.0), callback=spoil), run(LDPS(eta=2.0)))


@pytest.mark.parametrize("through", THROUGH)
def test_the_data_term_draws_the_result_to_the_photo(through):
    _, _, measurement = scene()
    guided = data_term(measurement, run(LDPS(eta=4.0, through=through)))
    unguided = data_term(measurement, run(LDPS(eta=0.0, through=through)))
    # the toy prior knows no photos, so from high levels little is gained
    assert bool((guided < 0.96 * unguided).all())
    assert float(guided[0]) < 0.55 * float(unguided[0])


def test_unguided_runs_do_not_depend_on_the_photo():
    x, _, measurement = scene()
    other = Measurement(1 - measurement.y, measurement.degradation)
    assert torch.equal(run(LDPS(eta=0.0)), solve(LDPS(eta=0.0), PRIOR, other, x, schedules(), generators_for(0, 3)))


# Costs


# Each solver's own


class PixelPrior(ToyPrior):
    """The toy network on the pixels themselves: three channels, identity decoder and encoder."""

    multiple = 1

    def __init__(self):
        super().__init__(toy_weights(seed=2))
        self.W1, self.W2 = self.W1[:, :3], self.W2[:3]

    def decode(self, z0):
        return (z0 + 1) / 2

    def encode(self, image):
        return image * 2 - 1


def test_dps_is_latent_dps_with_the_identity_as_autoencoder():
    _, _, measurement = scene()
    x = torch.randn(3, 3, *measurement.y.shape[2:], generator=torch.Generator().manual_seed(1)).double()
    ours, latent = (
        solve(solver, PixelPrior(), measurement, x, schedules(), generators_for(2, 3))
        for solver in (DPS(eta=2.0), LDPS(eta=2.0))
    )
    assert torch.equal(ours, latent)
    assert not torch.equal(ours, solve(DPS(eta=0.0), PixelPrior(), measurement, x, schedules(), generators_for(2, 3)))


def test_dps_refuses_latents():
    with pytest.raises(AdaptDiffuseError, match="for models of pixels"):
        run(DPS())


def test_psld_refuses_what_is_not_linear():
    x, _, measurement = scene()
    nonlinear = Measurement(measurement.y, NotLinear())
    with pytest.raises(AdaptDiffuseError, match="linear degradations only"):
        solve(PSLD(), PRIOR, nonlinear, x, schedules(), generators_for(0, 3))


class NotLinear(Dense, SameSize):
    """A degradation without an adjoint."""

    noise_std = 0.05

    def __call__(self, image):
        return image**2

    def select(self, indices):
        return self


@pytest.mark.parametrize("through", THROUGH)
@pytest.mark.parametrize("kind", [GMLDPS, PSLD])
def test_without_its_own_term_a_solver_is_latent_dps(kind, through):
    plain = run(LDPS(eta=2.0, through=through))
    assert relative_error(run(kind(eta=2.0, gamma=0.0, through=through)), plain) < 1e-12
    assert relative_error(run(kind(eta=2.0, gamma=0.5, through=through)), plain) > 1e-4


def test_gml_dps_draws_to_fixed_points_of_the_autoencoder():
    def distance(z0):
        return (z0 - PRIOR.encode(PRIOR.decode(z0))).flatten(1).norm(dim=1)

    free, drawn = (distance(run(GMLDPS(eta=0.0, gamma=gamma))) for gamma in (0.0, 4.0))
    assert bool((drawn < 0.9 * free).all())


def test_resample_ends_with_a_latent_that_fits_the_photo_to_its_noise():
    _, _, measurement = scene()
    fitted = data_term(measurement, run(ReSample(proximal=0.0, iterations=400)))
    noise = 2 * 0.05 * measurement.count().sqrt()
    # the others come from levels from which the toy prior finds no image that could be fitted
    assert float(fitted[0]) <= float(noise[0])
    assert float(fitted[0]) > 0.98 * float(noise[0])  # it stops there


def test_the_proximal_term_holds_the_fit_to_its_anchor():
    _, _, measurement = scene()
    one = measurement.select(torch.tensor([0]))
    anchor = torch.randn(1, *LATENT, generator=torch.Generator().manual_seed(4)).double()
    moves = [
        float((ReSample(proximal=weight, iterations=60).fit(PRIOR, one, anchor, sigma=0.5) - anchor).norm())
        for weight in (0.0, 1.0, 100.0, 10000.0)
    ]
    assert moves[0] > moves[1] > moves[2] > moves[3]
    assert moves[3] < 0.2 * moves[0]


def test_resample_fits_where_the_paper_does():
    calls = []

    class Watched(ReSample):
        def fit(self, prior, measurement, z0, sigma, in_pixels=False):
            calls.append((sigma, in_pixels))
            return super().fit(prior, measurement, z0, sigma, in_pixels)

    x, _, measurement = scene(count=2)
    levels = [schedule.clone() for schedule in schedules()[1:2]]  # one image, from pure noise
    solve(
        Watched(every=1, iterations=1),
        PRIOR,
        measurement.select(torch.tensor([1])),
        x[1:],
        levels,
        generators_for(0, 1),
    )
    sigmas = levels[0][:-1].tolist()
    index = [int((PRIOR.sigmas - sigma).abs().argmin()) for sigma in sigmas]
    expected = [(sigma, level > 300) for sigma, level in zip(sigmas, index, strict=True) if level <= 750]
    assert calls == expected


@pytest.mark.parametrize("through", THROUGH)
def test_a_run_costs_one_pass_of_each_kind_per_step_and_image(through):
    counted = CountedPrior(PRIOR)
    run(LDPS(eta=2.0, through=through), prior=counted)
    steps = sum(len(schedule) - 1 for schedule in schedules())
    assert counted.cost == Cost(
        denoiser_forwards=steps,
        denoiser_backwards=steps if through == "denoiser" else 0,
        decoder_forwards=steps,
        decoder_backwards=steps,
        encoder_passes=0,
    )


@pytest.mark.parametrize("kind", [GMLDPS, PSLD])
def test_a_gradient_through_the_encoder_is_counted(kind):
    counted = CountedPrior(PRIOR)
    run(kind(eta=2.0), prior=counted)
    assert counted.cost.encoder_backwards == counted.cost.encoder_passes == counted.cost.denoiser_forwards > 0


def test_counting_changes_nothing():
    assert torch.equal(run(LDPS(eta=2.0), prior=CountedPrior(PRIOR)), run(LDPS(eta=2.0)))


def test_encoder_passes_and_sums_are_counted():
    counted = CountedPrior(PRIOR)
    image = torch.zeros(3, 3, 8, 8, dtype=torch.float64)
    assert torch.equal(counted.encode(image), PRIOR.encode(image))
    counted.decode(torch.zeros(2, 4, 2, 2, dtype=torch.float64))
    assert counted.cost == Cost(encoder_passes=3, decoder_forwards=2)
    assert counted.cost + Cost(1, 2, 3, 4, 5) == Cost(1, 2, 5, 4, 8)
    assert torch.equal(counted.sigmas, PRIOR.sigmas)
    assert counted.multiple == PRIOR.multiple


# Half precision


class HalfPrior(ToyPrior):
    """A model and a decoder whose results are as coarse as their input, or, where ``images`` says so, finer."""

    def __init__(self, images=None):
        super().__init__(toy_weights(seed=2))
        self.images = images

    def denoise(self, x, sigma):
        return super().denoise(x.double(), sigma).to(x.dtype)

    def decode(self, z0):
        return super().decode(z0.double()).to(self.images or z0.dtype)

    def encode(self, image):
        return super().encode(image.double()).to(image.dtype)


@pytest.mark.parametrize(("dtype", "images"), [(torch.float16, None), (torch.bfloat16, torch.float32)])
@every
def test_half_precision_runs_and_stays_close(name, dtype, images):
    x, _, measurement = scene(1)
    exact = solve(CASES[name], PRIOR, measurement, x, schedules(1), generators_for(5, 1))
    coarse = Measurement(measurement.y.to(images or dtype), measurement.degradation)
    found = solve(CASES[name], HalfPrior(images), coarse, x.to(dtype), schedules(1), generators_for(5, 1))
    assert found.dtype == dtype
    assert relative_error(found.double(), exact) < 0.05
