"""Whole runs of the solvers on the toy model, and what they cost, in float64."""

import pytest
import torch

from adapt_diffuse.cost import Cost, CountedPrior
from adapt_diffuse.measurement import Measurement
from adapt_diffuse.restore import generators_for
from adapt_diffuse.solvers import LDPS, SOLVERS, solve
from tests.randomness import untouched_random_state
from tests.reference import relative_error
from tests.toy_scene import LATENT, PRIOR, THROUGH, data_term, scene, schedules


def run(solver, task="blur", seed=0, callback=None, prior=PRIOR):
    x, _, measurement = scene(task=task)
    return solve(solver, prior, measurement, x, schedules(), generators_for(seed, 3), callback)


@pytest.mark.parametrize("task", ["blur", "mask"])
@pytest.mark.parametrize("through", THROUGH)
@pytest.mark.parametrize("name", SOLVERS)
def test_a_batch_with_different_starts_equals_one_by_one(name, task, through):
    solver = SOLVERS[name](eta=2.0, through=through)
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


@pytest.mark.parametrize("through", THROUGH)
def test_a_seed_decides_the_run(through):
    solver = LDPS(eta=2.0, through=through)
    assert torch.equal(run(solver, seed=3), run(solver, seed=3))
    assert not torch.equal(run(solver, seed=3), run(solver, seed=4))


def test_a_run_changes_nothing_of_the_caller():
    x, _, measurement = scene()
    table = schedules()
    kept = x.clone(), measurement.y.clone(), [schedule.clone() for schedule in table]
    with untouched_random_state():
        z0 = solve(LDPS(eta=2.0), PRIOR, measurement, x, table, generators_for(0, 3))
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
