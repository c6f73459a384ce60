"""Any number in any option of any degradation: a sentence, or an operator that keeps its contracts."""

from __future__ import annotations

import dataclasses
import inspect
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from adapt_diffuse.degradation import DEGRADATIONS, FAMILIES, family_from_json, measure, noise_levels, parse_degradation
from adapt_diffuse.errors import AdaptDiffuseError
from adapt_diffuse.measurement import Measurement
from adapt_diffuse.restore import generators_for
from tests.learned_blur import save_learned_blur

SIZE = (13, 10)  # of the photos whose degradation reads a file
sizes = st.tuples(st.integers(1, 33), st.integers(1, 33))
seeds = st.integers(0, 2**32 - 1)
noises = st.one_of(st.floats(0, 1), st.floats(0, 1), st.floats())
# what belongs there, what is just outside, and what nobody should type
usual = st.one_of(st.integers(0, 20).map(float), st.floats(0, 1), st.floats(0, 100))
numbers = st.one_of(usual, usual, st.floats(-400, 400), st.floats())
bounded = settings(derandomize=True, max_examples=60)


def options_of(name):
    """The options of a degradation that are numbers, and those that are text."""
    known = list(inspect.signature(DEGRADATIONS[name]).parameters.values())[1:]
    texts = [option.name for option in known if option.annotation == "str"]
    return [option.name for option in known if option.name not in texts], texts


NAMED = [name for name in DEGRADATIONS if "file" not in options_of(name)[1]]
FILED = [name for name in DEGRADATIONS if name not in NAMED]


@st.composite
def texts(draw, name, file=None):
    """``name:key=value,...`` with some of its options."""
    keys, words = options_of(name)
    if draw(st.booleans()):  # as a person means it
        parts = [f"{key}={draw(st.integers(1, 9))}" for key in keys]
    else:
        parts = [f"{key}={draw(numbers)}" for key in keys if draw(st.booleans())]
    if "filter" in words and draw(st.booleans()):
        parts.append(f"filter={draw(st.sampled_from(['bicubic', 'area', 'best', '']))}")
    return f"{name}:{','.join(parts if file is None else [*parts, f'file={file}'])}"


chains = st.lists(st.sampled_from(NAMED).flatmap(texts), min_size=1, max_size=4).map("|".join)


def photos(size, seed, count=2):
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sound_or_sentence(check):
    """Run ``check``: it passes, or ends in a sentence; any other error is the test's failure."""
    try:
        check()
    except AdaptDiffuseError as error:
        text = str(error)
        assert text.strip() and "\n" not in text and len(text) < 500, text


def keeps_its_contracts(operator, size, seed):
    """Finite values and gradients, sizes that agree, a batch of two that is two of one."""
    image = photos(size, seed).requires_grad_()
    clean = operator(image)
    assert clean.dtype == image.dtype and clean.shape[:2] == (2, 3)
    whole = operator.image_size(*clean.shape[2:])
    assert all(large >= side for large, side in zip(whole, size, strict=True))
    (gradient,) = torch.autograd.grad(clean.square().sum(), image)
    assert bool(torch.isfinite(gradient).all())
    image = image.detach()
    y = measure(image, operator, generators_for(seed, 2))
    assert y.shape == clean.shape and bool(torch.isfinite(y).all())
    start = operator.start_image(operator.observed(y))
    assert start.shape == (2, 3, *whole) and bool(torch.isfinite(start).all())
    known = Measurement.of(y, operator)
    assert bool((known.count() >= 1).all()) and bool((known.count() <= y[0].numel()).all())
    if whole == size:
        ratio = known.residual_ratio(image)
        assert bool((torch.isfinite(ratio) | (noise_levels(operator, 2) == 0)).all())
    for index in (0, 1):
        part = operator.select(torch.tensor([index]))
        alone = measure(image[index : index + 1], part, generators_for(seed + index, 1))
        assert torch.allclose(alone[0], y[index], rtol=0, atol=1e-12)


def test_every_degradation_is_fuzzed():
    assert set(NAMED) | set(FILED) == set(DEGRADATIONS)
    assert "gaussian-blur" in NAMED and "mask" in FILED
    assert options_of("downscale") == (["factor"], ["filter"])


@pytest.mark.parametrize("name", NAMED)
@bounded
@given(data=st.data(), noise_std=noises, size=sizes, seed=seeds)
def test_any_option_is_a_sentence_or_a_sound_operator(name, data, noise_std, size, seed):
    text = data.draw(texts(name))

    def run():
        operator = parse_degradation(text, noise_std)
        keeps_its_contracts(operator, size, seed)

    sound_or_sentence(run)


@bounded
@given(text=chains, noise_std=st.floats(0, 1), size=sizes, seed=seeds)
def test_any_chain_is_a_sentence_or_a_sound_operator(text, noise_std, size, seed):
    sound_or_sentence(lambda: keeps_its_contracts(parse_degradation(text, noise_std), size, seed))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("files of degradations")


@pytest.mark.parametrize("name", FILED)
@settings(derandomize=True, max_examples=25)
@given(data=st.data(), noise_std=noises, size=st.one_of(st.just(SIZE), sizes), seed=seeds)
def test_any_option_beside_a_file_is_a_sentence_or_a_sound_operator(name, folder, data, noise_std, size, seed):
    path = folder / f"{name} of SIZE.png"
    if not path.exists():
        if name == "bkse":
            save_learned_blur(path)
        else:
            lost = np.random.default_rng(1).random(SIZE) < 0.5
            Image.fromarray((lost * 255).astype(np.uint8)).save(path)
    text = data.draw(texts(name, path))
    sound_or_sentence(lambda: keeps_its_contracts(parse_degradation(text, noise_std), size, seed))


@bounded
@given(st.text(st.characters(codec="utf-8"), max_size=30))
def test_any_text_is_a_sentence_or_a_degradation(text):
    sound_or_sentence(lambda: parse_degradation(text, 0.05))


@pytest.mark.parametrize("name", FAMILIES)
@settings(derandomize=True, max_examples=40)
@given(data=st.data(), size=sizes, seed=seeds)
def test_any_family_is_a_sentence_or_draws_sound_operators(name, data, size, seed):
    fields = [field.name for field in dataclasses.fields(FAMILIES[name])]
    values = {field: data.draw(numbers) for field in data.draw(st.sets(st.sampled_from(fields)))}

    def run():
        family = family_from_json({"name": name, **values})
        operator, level = family.sample((2, 3, *size), generators_for(seed, 2))
        assert level.shape == (2,) and bool(torch.isfinite(level).all())
        keeps_its_contracts(operator, size, seed)
        for index in (0, 1):
            _, alone = family.sample((1, 3, *size), generators_for(seed + index, 1))
            assert float(alone) == float(level[index])

    sound_or_sentence(run)


@bounded
@given(size=sizes, seed=seeds, noise_std=st.floats(0, 1), rubbish=st.sampled_from([math.nan, math.inf, -math.inf]))
def test_a_pixel_that_is_no_number_is_a_sentence_wherever_it_is(size, seed, noise_std, rubbish):
    operator = parse_degradation("gaussian-blur:std=1", noise_std)
    y = photos(size, seed)
    y.view(-1)[seed % y.numel()] = rubbish
    with pytest.raises(AdaptDiffuseError, match="NaN or infinite"):
        Measurement.of(y, operator)
