"""Figures as sentences for people."""

import pytest
import torch

from adapt_diffuse.cost import Cost
from adapt_diffuse.restore import Restoration
from adapt_diffuse.severity import Severity
from adapt_diffuse.words import describe_restoration, grade


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
        (0.8, "almost beyond recognition"),
        (float("inf"), "almost beyond recognition"),
    ],
)
def test_a_severity_has_a_word(sigma_hat, word):
    assert grade(sigma_hat) == word


def test_a_restoration_says_how_bad_the_photo_was_and_what_it_took():
    assert describe_restoration(restoration(0.42), torch.ones(1000)) == (
        "this photo is clearly damaged (severity 0.42); 91 steps where pure noise takes 1000, 2.3 s"
    )


def test_a_restoration_from_pure_noise_has_no_severity():
    assert describe_restoration(restoration(None), torch.ones(1000)) == "restored from pure noise in 91 steps, 2.3 s"
