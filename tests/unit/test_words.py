"""Figures as sentences for people."""

from dataclasses import replace

import pytest
import torch

from adapt_diffuse.cost import Cost
from adapt_diffuse.degradation import (
    Downscale,
    FilmDamage,
    GaussianBlur,
    Jpeg,
    KernelBlur,
    LensBlur,
    Marks,
    MotionBlur,
    Noise,
    RandomMissingPixels,
    chain,
    for_each,
)
from adapt_diffuse.degradation.film import Fading
from adapt_diffuse.restore import Restoration
from adapt_diffuse.severity import Severity
from adapt_diffuse.words import damage_word, describe_batch, describe_restoration, grade


def restoration(sigma_hat):
    severity = None if sigma_hat is None else Severity(torch.zeros(1, 4, 2, 2), torch.tensor([sigma_hat]), (8, 8))
    one = torch.ones(1)
    return Restoration(torch.zeros(1, 3, 8, 8), severity, one, torch.tensor([91]), one, Cost(), 2.34, 100.0)


@pytest.mark.parametrize(
    ("sigma_hat", "word"),
    [
        (0.0, "barely"),
        (0.149, "barely"),
        (0.15, "mildly"),
        (0.3, "clearly"),
        (0.5, "heavily"),
        (0.8, "extremely"),
        (float("inf"), "extremely"),
    ],
)
def test_a_severity_has_a_word(sigma_hat, word):
    assert grade(sigma_hat) == word


def test_a_restoration_says_how_bad_the_photo_was_and_what_it_took():
    assert describe_restoration(restoration(0.42), torch.ones(1000), GaussianBlur(2.0)) == (
        "this photo is clearly blurred (severity 0.42); 91 steps where pure noise takes 1000, 2.3 s"
    )


def test_a_restoration_from_pure_noise_has_no_severity():
    assert (
        describe_restoration(restoration(None), torch.ones(1000), Noise(0.1))
        == "restored from pure noise in 91 steps, 2.3 s"
    )


def test_each_photo_of_a_batch_has_its_sentence():
    severity = Severity(torch.zeros(2, 4, 2, 2), torch.tensor([0.42, 0.1]), (8, 8))
    one = torch.ones(2)
    result = Restoration(torch.zeros(2, 3, 8, 8), severity, one, torch.tensor([91, 7]), one, Cost(), 2.34, None)
    assert describe_restoration(result, torch.ones(1000), Noise(0.1), 1) == (
        "this photo is barely noisy (severity 0.10); 7 steps where pure noise takes 1000, 2.3 s for 2 photos"
    )


def test_nobody_is_asked_to_lower_a_noise_that_was_estimated():
    result = replace(restoration(0.42), residual=torch.tensor([0.2]))
    plain = "this photo is clearly noisy (severity 0.42); 91 steps where pure noise takes 1000, 2.3 s"
    assert describe_restoration(result, torch.ones(1000), Noise(0.1)).endswith(": lower --noise-std to 0.020")
    assert describe_restoration(result, torch.ones(1000), Noise(0.1), estimated=True) == plain
    seen = describe_restoration(result, torch.ones(1000), Noise(0.1), unsaid=0.2, estimated=True)
    assert seen.endswith("Its noise looks like 0.200, which is more than its degradation says: set --noise-std to that")


def test_damage_that_does_not_explain_the_photo_is_told():
    result = replace(restoration(0.42), residual=torch.tensor([0.2]))
    told = {
        missed: describe_restoration(result, torch.ones(1000), GaussianBlur(2.0, 0.05), missed=missed)
        for missed in (0.089, 0.091)
    }
    assert told[0.089].endswith("lower --noise-std to 0.010")
    assert told[0.091].endswith(
        "2.3 s. That damage does not explain the photo: try less of it, another kind, or a larger --noise-std"
    )
    faint = describe_restoration(restoration(0.42), torch.ones(1000), GaussianBlur(2.0, 0.001), missed=0.017)
    assert faint.endswith("2.3 s")


def test_a_batch_is_told_photo_by_photo_and_by_its_kind_of_damage():
    sigma_hat, steps = torch.tensor([0.24, 0.61]), torch.tensor([41, 1])
    assert describe_batch(sigma_hat[:1], steps[:1], 1000, GaussianBlur(2.0), torch.ones(1), [0.0], [0.0], 9.04) == (
        "this photo is mildly blurred (severity 0.24); 41 steps where pure noise takes 1000, 9.0 s"
    )
    residual = torch.tensor([1.3, 0.6])
    missing = RandomMissingPixels(0.5, noise_std=0.05)
    told = describe_batch(sigma_hat, steps, 1000, missing, residual, [0.0314, 0.0], [0.3, 0.0], 9.04)
    assert told.splitlines() == [
        "photo 1 is mildly incomplete (severity 0.24); 41 steps where pure noise takes 1000. Its noise looks like "
        "0.031, which is more than its degradation says: set noise_std to that",
        "photo 2 is heavily incomplete (severity 0.61); 1 step where pure noise takes 1000. It has less noise than "
        "its degradation says: lower noise_std to 0.030",
        "9.0 s in all",
    ]
    estimated = describe_batch(sigma_hat, steps, 1000, missing, residual, [0.0, 0.0], [0.0, 0.0], 9.04, estimated=True)
    assert (
        estimated.splitlines()[1] == "photo 2 is heavily incomplete (severity 0.61); 1 step where pure noise takes 1000"
    )
    words = [damage_word(one) for one in (Downscale(2), Jpeg(20), Noise(0.1), chain(GaussianBlur(1.0), Jpeg(20)))]
    assert words == ["coarse", "compressed", "noisy", "damaged"]


BLUR, JPEG, LENS = GaussianBlur(1.0), Jpeg(20), LensBlur(2.0)


@pytest.mark.parametrize(
    ("degradation", "word"),
    [
        (LENS, "blurred"),
        (KernelBlur(torch.ones(2, 2)), "blurred"),
        (FilmDamage(Marks(1, 1), Fading.of(0.2)), "worn"),
        (chain(BLUR, Noise(0.1)), "blurred"),
        (chain(Noise(0.1), Noise(0.1)), "noisy"),
        (chain(FilmDamage(Marks(1, 1), Fading.of(0.2)), Noise(0.1)), "worn"),
        (for_each([BLUR, chain(MotionBlur(3.0), Noise(0.1)), LENS]), "blurred"),
        (for_each([BLUR, JPEG]), "damaged"),
        (for_each([BLUR, chain(BLUR, JPEG)]), "damaged"),
        (chain(for_each([BLUR, LENS]), Noise(0.1)), "blurred"),
        (chain(for_each([BLUR, LENS]), JPEG), "damaged"),
        (chain(BLUR, LENS), "damaged"),
    ],
)
def test_the_word_is_that_of_what_happened_however_it_was_put_together(degradation, word):
    assert damage_word(degradation) == word
