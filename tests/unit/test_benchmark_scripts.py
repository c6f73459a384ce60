"""The scripts behind the pages of the benchmark, run on a tiny model."""

import json
import sys

import pytest
import torch
from PIL import Image, ImageOps

from adapt_diffuse.autoencoder import autoencoder_folder, encode_raw
from adapt_diffuse.benchmark import TASKS
from adapt_diffuse.defaults import start_settings
from adapt_diffuse.degradation import DEGRADATIONS
from adapt_diffuse.degradation.families import parse_family
from adapt_diffuse.estimate import Damage
from adapt_diffuse.estimate.checkpoint import new_estimator
from adapt_diffuse.estimate.estimate import estimate_of
from adapt_diffuse.estimate.network import Gaussian, Readings
from adapt_diffuse.images import centre_crop, read_photo
from adapt_diffuse.schedule import vp_sigmas
from adapt_diffuse.severity.evaluation import prepare
from benchmarks import (
    autoencoders,
    choose,
    cost,
    duplicates,
    estimate,
    frontier,
    frontier_table,
    kinds,
    prior,
    reconstructions,
    refiners,
    robustness,
    scratches,
    severity,
    starts,
    sweep_figures,
    table,
    transfer,
)
from tests.models import draw_photos, drawn_batch
from tests.reference import ldm_alphas_cumprod

SIGMAS = vp_sigmas(ldm_alphas_cumprod())
NEED_A_FILE = {"mask", "bkse", "kernel-blur", "missing-box"}  # the box is a mask too


@pytest.fixture
def run(files, photos, tmp_path, monkeypatch):
    """Calls a script's main with the tiny model, and gives what it wrote."""

    def call(script, *arguments):
        out = tmp_path / f"{script.__name__}.json"
        common = ["--images", photos[0].parent, "--size", 24, "--out", out]
        common += ["--model", files / "model", "--severity-encoder", files / "model.safetensors"]
        monkeypatch.setattr(sys, "argv", ["script", *(str(value) for value in (*common, *arguments))])
        script.main()
        return json.loads(out.read_text())

    return call


@pytest.mark.parametrize("solver", ["ldps", "default"])
def test_a_fixed_start_of_equal_cost_costs_the_same(solver):
    sigma_hat, settings = torch.tensor([0.1, 0.3, 0.5, 0.9], dtype=torch.float64), start_settings(solver)
    level = starts.level_of_equal_cost(sigma_hat, SIGMAS, settings)
    cost = starts.mean_steps(torch.tensor([level]), SIGMAS, settings)
    assert abs(cost - starts.mean_steps(sigma_hat, SIGMAS, settings)) <= 0.75


def test_every_start_has_a_row_and_its_own_severity(run):
    rows = run(starts, "--task", "gaussian-blur-varying")
    by_name = {row["start"]: row for row in rows}
    assert len(by_name) == len(rows) == 3 + len(starts.FACTORS) + 3 + 2
    adaptive = [photo["sigma_hat"] for photo in by_name["adaptive"]["photos"]]
    for factor in starts.FACTORS:
        moved = [photo["sigma_hat"] for photo in by_name[f"times-{factor:g}"]["photos"]]
        assert moved == pytest.approx([factor * value for value in adaptive], rel=1e-6)
    assert sorted(photo["sigma_hat"] for photo in by_name["shuffled"]["photos"]) == pytest.approx(sorted(adaptive))
    oracle = [photo["sigma_hat"] for photo in by_name["oracle"]["photos"]]
    for name in ("gaussian", "coloured"):
        assert [photo["sigma_hat"] for photo in by_name[name]["photos"]] == oracle
    assert len({by_name[name]["psnr"] for name in ("gaussian", "coloured", "oracle")}) == 3  # three estimates
    assert by_name["times-2"]["denoiser_forwards"] > by_name["times-0.5"]["denoiser_forwards"]


def test_the_oracle_is_the_standard_deviation_of_the_true_error(run, monkeypatch):
    made = {}
    for name in ("severities", "clean_latents"):
        whole = getattr(starts, name)
        monkeypatch.setattr(
            starts, name, lambda *arguments, name=name, whole=whole: made.setdefault(name, whole(*arguments))
        )
    (row,) = run(starts, "--task", "gaussian-blur-varying", "--only", "oracle")
    error = (made["severities"].z_hat - made["clean_latents"]).flatten(1)
    assert [photo["sigma_hat"] for photo in row["photos"]] == pytest.approx(error.std(1).tolist(), rel=1e-6)


@pytest.mark.parametrize("task", ["gaussian-blur-varying", frontier.NONLINEAR])
def test_fixed_starts_are_of_the_density_that_the_tool_has_for_the_damage(run, monkeypatch, task):
    seen = []
    monkeypatch.setattr(starts, "starts", lambda *arguments: seen.append(arguments[-1]) or {"adaptive": arguments[0]})
    (row,) = run(starts, "--task", task, "--only", "adaptive")
    sigma_hat = torch.tensor([photo["sigma_hat"] for photo in row["photos"]], dtype=torch.float64)
    assert starts.mean_steps(sigma_hat, SIGMAS, seen[0]) == pytest.approx(row["denoiser_forwards"])


def test_the_error_of_the_plain_encoding_is_that_of_all_photos(files, monkeypatch):
    parts = []
    grainy = refiners.grainy
    monkeypatch.setattr(refiners, "grainy", lambda *arguments: parts.extend(grainy(*arguments)) or parts)
    photos = drawn_batch(3, 24, 24)
    autoencoder = refiners.load_guide(files / "model" / "vae")
    _, plain = refiners.judged(files / "model.safetensors", autoencoder, photos, draws=1, batch=2)
    assert [len(part.z0) for part in parts] == [2, 1]
    error = torch.cat([part.encoding - part.z0 for part in parts])
    assert plain == pytest.approx(float(error.square().mean().sqrt()), rel=1e-6)


def test_severity_encoders_are_judged_on_photos_of_each_grain(files):
    photos, family = drawn_batch(3, 24, 24), parse_family("gaussian-blur", 0.1)
    autoencoder = refiners.load_guide(files / "model" / "vae")

    def encode(image):
        return encode_raw(autoencoder, image * 2 - 1)

    usual = prepare(encode, family, photos, 7, torch.device("cpu"), True, 2)
    made = {kind: refiners.grainy(encode, family, photos, 7, kind, 2) for kind in refiners.KINDS}
    for ours, theirs in zip(made[refiners.TRAINED], usual, strict=True):
        assert torch.equal(ours.damaged, theirs.damaged) and torch.equal(ours.encoding, theirs.encoding)
        assert torch.equal(ours.z0, theirs.z0) and torch.equal(ours.level, theirs.level)
    (first, _), (alike, _) = made[refiners.TRAINED], made["alike in all channels"]
    assert not torch.equal(first.damaged, alike.damaged) and torch.equal(first.z0, alike.z0)
    assert all(float(part.damaged.std(1).max()) < 1e-6 for part in made["grey"])
    red, green, blue = made["sepia"][0].damaged.unbind(1)
    assert torch.allclose(green, 0.92 * red) and torch.allclose(blue, 0.75 * red)


def test_an_error_of_a_spectrum_is_as_large_and_as_smooth_but_another():
    generator = torch.Generator().manual_seed(0)
    error = torch.nn.functional.avg_pool2d(torch.randn(2, 4, 18, 13, generator=generator), 3, stride=1)
    made = starts.with_spectrum_of(error, torch.randn(error.shape, generator=generator))
    assert torch.allclose(torch.fft.rfft2(made).abs(), torch.fft.rfft2(error).abs(), atol=1e-4)
    assert torch.allclose(made.square().sum((2, 3)), error.square().sum((2, 3)), rtol=1e-5)
    assert abs(float(torch.corrcoef(torch.stack([made.flatten(), error.flatten()]))[0, 1])) < 0.3


@pytest.mark.parametrize("task", ["gaussian-blur-varying", frontier.NONLINEAR])
def test_the_frontier_has_a_point_for_every_method_and_density(run, tmp_path, task):
    methods = "ae,flash-ldps,flash-latino,flash-diffpir,latino"
    found = run(frontier, "--task", task, "--methods", methods)
    rows = {row["case"]: row for row in found["rows"]}
    assert list(rows) == [case.name for case in frontier.cases_for(task, methods.split(","))]
    assert ("flash-latino 3" in rows) == (task != frontier.NONLINEAR)
    assert rows["flash-diffpir 6"]["cost"] > rows["flash-diffpir 1"]["cost"] > rows["ae 0"]["cost"] > 0
    reference = rows[frontier.REFERENCE]
    passes = {name: reference[name] for name in ("denoiser_forwards", "denoiser_backwards")}
    assert passes["denoiser_forwards"] == passes["denoiser_backwards"] > 20


def point(case, psnr, steps, seconds=1.0):
    method = case.split()[0]
    made = row(method, psnr)
    for photo, count in zip(made["photos"], steps, strict=True):
        photo["steps"] = count
    calls = sum(steps) / len(steps)
    passes = {"denoiser_forwards": calls, "decoder_forwards": calls + 1, "encoder_passes": 1.0}
    return {**made, **passes, "haarpsi": 0.5, "case": case, "seconds": seconds}


def test_the_frontiers_table_leaves_photos_out_of_means_and_cost(tmp_path, monkeypatch, capsys):
    points = [
        point("ae 0", [20.0, 21.0, 30.0], [0, 0, 0], 1.0),
        point("flash-ldps 0", [22.0, 22.5, 10.0], [50, 70, 600], 40.0),
        point("flash-ldps 0 tiny", [21.0, 21.5, 9.0], [50, 70, 600], 20.0),
    ]
    file, picture = tmp_path / "rows.json", tmp_path / "frontier.png"
    file.write_text(json.dumps({"task": points[0]["task"], "rows": points[::-1]}))
    monkeypatch.setattr(sys, "argv", ["table", str(file), "--drop", "2", "--time", "--picture", str(picture)])
    frontier_table.main()
    _, _, estimate_line, reference, tiny = capsys.readouterr().out.strip().splitlines()
    assert "| 0.0 | 1.1 | 20.50 |" in estimate_line and "| **-1.75 [-2.00, -1.50]** |" in estimate_line
    assert estimate_line.endswith("| 1/40 |")
    # 60 denoiser passes, 61 of the decoder, one of the encoder
    assert f"| 60.0 | {60 + 61 * 0.6 + 0.5:.1f} | 22.25 |" in reference
    assert tiny.startswith("|  | flash-ldps, tiny decoder | all levels |") and tiny.endswith("| 1/2 |")
    assert float(read_photo(picture).std()) > 0.02


def test_the_default_is_chosen_among_candidates_that_cost_what_they_do(run, capsys):
    found = run(choose, "--task", "gaussian-blur-varying", "--only", "1 per octave")["rows"]
    assert {row["candidate"].split(",")[0] for row in found} == {"latino", "diffpir"} and len(found) == 5
    for row in found:
        assert row["cost"] > row["calls"] > 0
        assert row["psnr"] == pytest.approx(sum(row["photos"]["psnr"]) / len(row["photos"]["psnr"]))
    assert capsys.readouterr().out.count("| latino, 1 per octave") == 3


def test_a_test_photo_that_is_a_training_photo_is_found_and_left_out(photos, tmp_path, monkeypatch, capsys):
    test = tmp_path / "test"
    draw_photos(test, 2, 64, 96, 77)
    ImageOps.mirror(Image.open(photos[0])).resize((64, 48)).save(test / "twin.png")
    arguments = ["--test", test, "--train", photos[0].parent, "--copy", tmp_path / "clean"]
    monkeypatch.setattr(sys, "argv", ["duplicates", *(str(value) for value in arguments)])
    duplicates.main()
    told = capsys.readouterr().out
    assert f"twin.png is {photos[0].name}" in told and "2 of 3 photos" in told
    assert len(list((tmp_path / "clean").iterdir())) == 2


def test_autoencoders_are_compared_on_the_same_photos(files, photos, tmp_path, monkeypatch):
    out, folder = tmp_path / "autoencoders.json", autoencoder_folder(files / "model")
    arguments = ["--images", photos[0].parent, "--size", 24, "--model", files / "model", "--vaes", folder, "--out", out]
    monkeypatch.setattr(sys, "argv", ["autoencoders", *(str(value) for value in arguments)])
    autoencoders.main()
    own, other = json.loads(out.read_text())
    assert {**own, "autoencoder": folder.name} == other
    errors = [own["errors"][f"{std:g}"] for std in autoencoders.STDS]
    assert len(errors) == 4 and min(errors) > 0
    assert -1 <= own["spearman"] <= 1


def test_the_severity_report_separates_the_photo_from_its_damage(run, tmp_path):
    report = run(severity, "--task", "gaussian-blur-varying", "--draws", 4, "--picture", tmp_path / "qq.png")
    assert float(read_photo(tmp_path / "qq.png").std()) > 0.02
    assert (report["photos"], report["draws"]) == (3, 4)
    for part in ("over_all", "within_a_photo"):
        assert set(report[part]) == {"sigma_hat-level", "true_error-level", "sigma_hat-true_error"}
        for value in (entry["pearson"] for entry in report[part].values()):
            assert -1 <= value <= 1
    assert len(report["kolmogorov_smirnov_of_channels"]) == 4
    assert report["expected_calibration_error"] >= 0


def test_white_errors_have_no_correlation_with_their_neighbours_and_smooth_ones_have():
    white = torch.randn(8, 40, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert abs(severity.neighbour_correlation(white)) < 0.02
    smooth = torch.nn.functional.avg_pool2d(white[:, None], 2, stride=1)[:, 0]
    assert severity.neighbour_correlation(smooth) == pytest.approx(0.5, abs=0.02)


def test_the_ratio_by_level_shows_where_the_severity_is_too_small():
    level = torch.arange(40.0, dtype=torch.float64).reshape(2, 20)
    true = torch.where(level < 36, 0.5, 1.0)
    found = {"level": level, "true_error": true, "sigma_hat": torch.full_like(true, 0.5)}
    rows = severity.by_level(found)
    assert [row["level"] for row in rows] == [1.5 + 4 * place for place in range(10)]
    assert [row["ratio"] for row in rows] == pytest.approx([1.0] * 9 + [0.5])


def test_correlations_within_a_photo_ignore_what_differs_between_photos():
    level = torch.tensor([[1.0, 2.0, 3.0], [2.0, 3.0, 1.0], [3.0, 1.0, 2.0], [4.0, 4.0, 4.0]], dtype=torch.float64)
    shifted = level + torch.tensor([0.0, 50.0, -50.0])
    assert severity.within(level, shifted)["pearson"] == pytest.approx(1)
    assert abs(severity.over_all(level, shifted)["pearson"]) < 0.2


def test_the_robustness_sweeps_change_one_thing_at_a_time(run):
    rows = run(robustness, "--methods", "damaged,ae")
    count = len(robustness.NOISES) + len(robustness.STDS) + len(robustness.TOLD)
    assert len(rows) == 2 * count
    noise = [row["psnr"] for row in rows if row["sweep"] == "noise" and row["method"] == "damaged"]
    blur = [row["psnr"] for row in rows if row["sweep"] == "blur" and row["method"] == "damaged"]
    assert noise == sorted(noise, reverse=True)
    assert blur == sorted(blur, reverse=True)
    # being told another std changes nothing of what there is to see
    assert len({row["psnr"] for row in rows if row["sweep"].startswith("told") and row["method"] == "damaged"}) == 1


def row(method, psnr, task="gaussian-blur-fixed"):
    photos = [{"psnr": value, "ssim": value / 40, "haarpsi": value / 50} for value in psnr]
    mean = sum(psnr) / len(psnr)
    return {"task": task, "method": method, "images": len(psnr), "psnr": mean, "residual": None, "photos": photos}


def test_parts_of_a_set_of_photos_are_joined():
    first, second = row("ae", [20.0, 22.0]), row("ae", [30.0])
    (whole,) = table.joined([first, second])
    assert whole["images"] == 3
    assert whole["psnr"] == pytest.approx(24.0)
    assert [photo["psnr"] for photo in whole["photos"]] == [20.0, 22.0, 30.0]
    assert table.joined([first, row("ldps", [1.0])]) == [first, row("ldps", [1.0])]


def test_a_row_without_some_photos_has_the_severity_of_the_others():
    whole = row("flash-ldps", [20.0, 22.0, 30.0])
    for photo, value in zip(whole["photos"], (0.2, 0.4, 0.9), strict=True):
        photo["sigma_hat"] = value
    fewer = table.without({**whole, "sigma_hat_mean": 0.5}, [2])
    assert fewer["sigma_hat_mean"] == pytest.approx(0.3) and fewer["psnr"] == 21.0
    assert "sigma_hat_mean" not in table.without(row("dps", [20.0, 22.0]), [1])


def test_differences_are_paired_and_only_of_the_same_photos():
    rows = [row("ae", [20.0, 30.0, 25.0]), row("flash-ldps", [21.0, 31.0, 26.0]), row("ldps", [10.0])]
    (line,) = table.differences(rows, "ae")
    assert line[:3] == ["gaussian-blur-fixed", "flash-ldps", "3"]
    assert line[3] == "1.00 [1.00, 1.00]"  # every photo gains one decibel, however much they differ


def test_the_tables_are_printed_for_files(tmp_path, monkeypatch, capsys):
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([row("ae", [20.0, 30.0]), row("flash-ldps", [22.0, 31.0])]))
    monkeypatch.setattr(sys, "argv", ["table", str(path), "--against", "ae"])
    table.main()
    said = capsys.readouterr().out
    assert "| gaussian-blur-fixed | flash-ldps | 2 | 26.50 [22.00, 31.00] |" in said
    assert "| gaussian-blur-fixed | flash-ldps | 2 | 1.50 [1.00, 2.00] |" in said


def test_rows_of_the_same_photos_in_another_way_have_a_name_of_their_own(tmp_path, monkeypatch, capsys):
    path, other = tmp_path / "rows.json", tmp_path / "detail.json"
    path.write_text(json.dumps([row("ae", [20.0, 30.0])]))
    other.write_text(json.dumps([{"method": "severity"}, row("ae", [21.0, 33.0])]))
    monkeypatch.setattr(sys, "argv", ["table", str(path), "--also", f"with detail={other}", "--against", "ae"])
    table.main()
    said = capsys.readouterr().out
    assert "| gaussian-blur-fixed | ae | 2 | 25.00 [20.00, 30.00] |" in said
    assert "| gaussian-blur-fixed | ae with detail | 2 | 27.00 [21.00, 33.00] |" in said
    assert "| gaussian-blur-fixed | ae with detail | 2 | 2.00 [1.00, 3.00] |" in said


def test_costs_are_counted_in_denoiser_passes(files, tmp_path, monkeypatch):
    out = tmp_path / "cost.json"
    arguments = ["--model", files / "model", "--severity-encoder", files / "model.safetensors", "--out", out]
    arguments += ["--size", 32, "--batch", 1, "--rounds", 3, "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["cost", *(str(value) for value in arguments)])
    cost.main()
    found = json.loads(out.read_text())
    assert found[cost.UNIT] == 1
    # what a backward adds is a difference of two times, which a busy machine may turn round on so small a model
    assert all(value > 0 for name, value in found.items() if not name.endswith("backwards"))
    assert found["guided step through the decoder"] > 1


def test_encoders_are_measured_on_every_task(files, photos, tmp_path, monkeypatch, capsys):
    out = tmp_path / "transfer.json"
    arguments = ["--encoders", files / "model.safetensors", "--model", files / "model", "--images", photos[0].parent]
    arguments += ["--size", 24, "--out", out]
    monkeypatch.setattr(sys, "argv", ["transfer", *(str(value) for value in arguments)])
    transfer.main()
    cells = json.loads(out.read_text())
    assert [cell["task"] for cell in cells] == list(TASKS)
    assert all(cell["images"] == 3 and cell["sigma_ratio"] > 0 for cell in cells)
    assert all(("psnr" in cell["default"]) != ("failed" in cell["default"]) for cell in cells)
    assert capsys.readouterr().out.count("\n") == 2 + len(TASKS)


def test_reconstructions_stand_below_their_photos(files, photos, tmp_path, monkeypatch):
    out = tmp_path / "pairs.png"
    arguments = ["--model", files / "model", "--images", photos[0].parent, "--size", 24, "--out", out]
    monkeypatch.setattr(sys, "argv", ["reconstructions", *(str(value) for value in arguments)])
    reconstructions.main()
    picture = read_photo(out)
    assert picture.shape[2:] == (48, 72)
    assert torch.equal(picture[:, :, :24, :24], centre_crop(read_photo(photos[0]), 24))


def test_the_prior_is_judged_level_by_level(files, photos, tmp_path, monkeypatch, capsys):
    found = []
    for extra in ([], ["--whole"]):
        out = tmp_path / "prior.json"
        arguments = ["--model", files / "model", "--images", photos[0].parent, "--size", 16, "--out", out, *extra]
        monkeypatch.setattr(sys, "argv", ["prior", *(str(value) for value in arguments)])
        prior.main()
        found.append(json.loads(out.read_text()))
        assert "| sigma | 0.1 | 0.2 |" in capsys.readouterr().out
    assert found[0]["photos"] == len(photos) and [one["whole"] for one in found] == [False, True]
    assert all(len(values) == len(photos) for one in found for values in one["errors"].values())
    assert found[0]["errors"] != found[1]["errors"]


def test_a_denoiser_that_does_nothing_has_a_relative_error_of_one():
    class Idle:
        encode = staticmethod(lambda image: image)
        denoise = staticmethod(lambda x, sigma: x)

    found = prior.relative(prior.errors(Idle(), drawn_batch(3, 64, 64), batch=2))
    assert list(found.values()) == pytest.approx([1.0] * len(prior.LEVELS), abs=0.01)
    together = prior.errors(Idle(), drawn_batch(3, 64, 64), batch=3)
    assert prior.relative(together) == pytest.approx(found)


def test_starts_and_sweeps_are_drawn(tmp_path, monkeypatch):
    names = ["adaptive", "oracle", "shuffled", "times-0.5", "times-2", "fixed-0.30", "fixed-0.60"]
    rows = [
        {**row("default", [20.0 + number, 25.0]), "start": name, "denoiser_forwards": 10.0 + number}
        for number, name in enumerate(names)
    ]
    sweeps = [
        {**row(method, [20.0 - value, 22.0]), "sweep": "noise", "value": value}
        for value in (0.1, 0.2)
        for method in ("damaged", "ae")
    ]
    (tmp_path / "starts.json").write_text(json.dumps(rows))
    (tmp_path / "robustness.json").write_text(json.dumps(sweeps))
    arguments = ["--starts", tmp_path / "starts.json", "--robustness", tmp_path / "robustness.json", "--out", tmp_path]
    monkeypatch.setattr(sys, "argv", ["sweep_figures", *(str(value) for value in arguments)])
    sweep_figures.main()
    for name in ("starts.png", "robustness.png"):
        assert float(read_photo(tmp_path / name).std()) > 0.02  # not an empty page
    figure = sweep_figures.starts(rows)
    drawn = [point for line in figure.axes[0].get_lines() for point in line.get_xydata().tolist()]
    assert [10.0, 0.0] in drawn  # the adaptive start differs from itself by nothing
    assert [11.0, 0.5] in drawn  # the oracle is one decibel better on one of two photos


def test_every_kind_of_damage_is_measured_and_drawn(files, photos, tmp_path, monkeypatch, capsys):
    out, sheet = tmp_path / "kinds.json", tmp_path / "kinds.png"
    arguments = ["--encoder", files / "model.safetensors", "--model", files / "model", "--images", photos[0].parent]
    arguments += ["--size", 20, "--limit", 1, "--out", out, "--sheet", sheet]  # not a multiple of the factor 3
    monkeypatch.setattr(sys, "argv", ["kinds", *(str(value) for value in arguments)])
    kinds.main()
    rows = json.loads(out.read_text())
    assert [row["kind"] for row in rows] == [text for text, _ in kinds.KINDS]
    assert {name for row in rows for name in DEGRADATIONS if name in row["kind"]} >= set(DEGRADATIONS) - NEED_A_FILE
    assert all(row["damaged"]["psnr"] > 0 for row in rows)
    assert capsys.readouterr().out.count("\n") == 2 + len(kinds.KINDS)
    assert read_photo(sheet).shape[2] > 20 * len(kinds.KINDS)


def test_scratches_are_scored_on_photos_that_were_scratched(photos, tmp_path, monkeypatch):
    out = tmp_path / "scratches.json"
    arguments = ["--images", photos[0].parent, "--out", out, "--sheets", tmp_path / "sheets", "--sensitivity", 0.2, 0.9]
    monkeypatch.setattr(sys, "argv", ["script", *(str(value) for value in arguments)])
    scratches.main()
    strict, keen = json.loads(out.read_text())
    assert (strict["sensitivity"], keen["sensitivity"]) == (0.2, 0.9)
    assert strict["recall"] <= keen["recall"] <= 1
    assert strict["photos"] == len(photos) == len(list((tmp_path / "sheets").iterdir()))


def test_estimates_are_scored_and_restored(run, monkeypatch, tmp_path):
    small = new_estimator(hidden=8)
    monkeypatch.setattr(estimate, "load_estimator", small.eval)
    draw_photos(tmp_path / "large", 1, 64, 72)
    more = ["--images", tmp_path / "large", "--size", 64]
    report = run(estimate, "--reduce", 1, "--restore", "--limit", 1, *more)
    assert set(report["restored"]) == {"damaged", "none", "true", "estimated", "refined"}
    for name, each in report["each"].items():
        assert report["restored"][name]["psnr"] == pytest.approx(sum(each["psnr"]) / len(each["psnr"]))
        assert all(0 < value < 1 for value in each["haarpsi"])
    assert report["numbers"]["noise"]["photos"] == 1
    (row,) = report["photos"]
    assert set(row) == {"photo", "estimate", "std", "length", "angle", "factor", "quality", "noise_std"}


def test_the_error_of_an_angle_goes_round():
    truth = Damage(*(torch.tensor([value]).double() for value in (0, 9, 178, 1, 100, 0.01)))
    said = estimate_of(small_readings())
    error, _ = estimate.numbers_of(truth, said)["angle"]
    assert error == pytest.approx(2 + 45, abs=1e-3)


def small_readings():
    one = Gaussian(torch.zeros(1), torch.zeros(1))
    direction = Gaussian(torch.tensor([[0.0, 1.0]]), torch.zeros(1, 1))
    motion, none = torch.tensor([[0.0, 0.0, 9.0]]), torch.zeros(1, 4)
    return Readings(motion, one, one, direction, none, torch.zeros(1), one, one)
