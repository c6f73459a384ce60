"""Training the estimator of degradations: examples are kept and checked, and what it leaves is what the pack loads."""

import shutil

import pytest

from adapt_diffuse.errors import AdaptDiffuseError
from adapt_diffuse.estimate.checkpoint import load_estimator, new_estimator
from adapt_diffuse.estimate.training import scores
from tests.command_line import run_main
from tests.models import draw_photos
from training import train_estimator

pytestmark = pytest.mark.slow
CHUNK = 64  # a file of held-out photos and one to learn from, a quarter of the usual size


def train(photos, out, *more):
    arguments = ("--images", photos, "--out", out, "--examples", 2 * CHUNK, "--batch", 32, "--device", "cpu", *more)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_estimator, "CHUNK", CHUNK)
        run_main(train_estimator, *arguments)


def examples_of(out):
    return [train_estimator.read_chunk(path) for path in sorted(out.with_suffix(".examples").glob("*.pt"))]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    draw_photos(folder, 20, 180, 176)
    return folder


@pytest.fixture(scope="module")
def trained(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("estimator") / "estimator.safetensors"
    train(photos, out, "--epochs", 40)
    return out


def test_what_it_leaves_is_loaded_and_has_learned(trained):
    held_out, learned = examples_of(trained)
    fresh = new_estimator(seed=0).eval()
    fresh.set_scale(learned.statistics)
    before, now = scores(fresh, held_out), scores(load_estimator(trained), held_out)
    assert now["log_noise error"] < 0.3 * before["log_noise error"]
    assert now["factor right"] > before["factor right"] + 0.2


def test_a_file_of_examples_that_is_lost_is_made_again_as_it_was_and_no_other(photos, trained):
    held_out, _ = examples_of(trained)
    lost, kept = sorted(trained.with_suffix(".examples").glob("*.pt"))
    written = kept.stat().st_mtime_ns
    lost.unlink()
    train(photos, trained, "--epochs", 1)
    again, _ = examples_of(trained)
    assert again.statistics.spectra.equal(held_out.statistics.spectra)
    assert again.statistics.numbers.equal(held_out.statistics.numbers)
    assert kept.stat().st_mtime_ns == written


def test_a_batch_of_more_than_there_is_takes_all_there_is(photos, trained, tmp_path):
    out = tmp_path / "estimator.safetensors"
    shutil.copytree(trained.with_suffix(".examples"), out.with_suffix(".examples"))
    train(photos, out, "--epochs", 1, "--batch", 10 * CHUNK)
    load_estimator(out)


def test_examples_of_another_seed_are_refused(photos, trained):
    with pytest.raises(AdaptDiffuseError, match="other photos, seeds or damage"):
        train(photos, trained, "--seed", 1)
