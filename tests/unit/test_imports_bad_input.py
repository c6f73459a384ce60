"""What import-model and import-severity cannot use is one sentence and exit code 2, and nothing is written."""

import pytest
import torch

from adapt_diffuse.hosts.diffusers import DiffusersPrior
from tests.command_line import call, names, one_sentence
from tests.compvis import Denoiser, FirstStage, Model, declared


@pytest.fixture(scope="module")
def model():
    return Model.draw(FirstStage(), Denoiser(multipliers=(1, 2)))


@pytest.fixture(scope="module")
def state(model):
    return model.state_dict()


def refused(tmp_path, capsys, content, *parts, options=()):
    """import-model of this content: one sentence with the parts, and no folder."""
    path = tmp_path / "model.ckpt"
    torch.save(content, path)
    assert call("import-model", path, "--out", tmp_path / "out", *options) == 2
    one_sentence(capsys, *parts)
    assert names(tmp_path / "out") == []
    assert not list(tmp_path.glob(".*partial*"))


def without(state, *beginnings):
    return {key: value for key, value in state.items() if not key.startswith(beginnings)}


@pytest.mark.parametrize("keep", [0, 10, 0.3, 0.999])
@pytest.mark.parametrize("legacy", [False, True])
def test_a_truncated_checkpoint_is_one_sentence(state, tmp_path, capsys, keep, legacy):
    path = tmp_path / "model.ckpt"
    torch.save({"state_dict": state}, path, _use_new_zipfile_serialization=not legacy)
    content = path.read_bytes()
    path.write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
    assert call("import-model", path, "--out", tmp_path / "out") == 2
    one_sentence(capsys, path, "is not a complete PyTorch checkpoint")
    assert names(tmp_path) == ["model.ckpt"]


def test_a_file_that_is_no_checkpoint_is_never_to_be_run(tmp_path, capsys):
    (tmp_path / "flower.png").write_bytes(b"\x89PNG\r\n\x1a\n" * 9)
    assert call("import-model", tmp_path / "flower.png", "--out", tmp_path / "out") == 2
    assert "weights_only" not in one_sentence(capsys, "is not a complete PyTorch checkpoint", "Fetch it again")


class Payload:
    """A pickle that writes a file when it is loaded."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (open, (str(self.target), "w"))


@pytest.mark.parametrize("command", ["import-model", "import-severity"])
def test_a_checkpoint_cannot_run_code(state, tmp_path, capsys, command):
    torch.save({"state_dict": state, "callbacks": Payload(tmp_path / "ran")}, tmp_path / "model.ckpt")
    options = ["--out", tmp_path / "out"] if command == "import-model" else ["--out", tmp_path / "out.safetensors"]
    options += ["--model", tmp_path] if command == "import-severity" else []
    assert call(command, tmp_path / "model.ckpt", *options) == 2
    one_sentence(capsys, tmp_path / "model.ckpt", "open'", "could run code")
    assert names(tmp_path) == ["model.ckpt"]


def test_a_missing_checkpoint_is_one_sentence(tmp_path, capsys):
    assert call("import-model", tmp_path / "none.ckpt", "--out", tmp_path / "out") == 2
    one_sentence(capsys, f"There is no file {tmp_path / 'none.ckpt'}.")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ([1, 2], "it holds a list, not named weights"),
        (torch.zeros(2), "it holds a Tensor, not named weights"),
        ({"state_dict": {}}, "holds no named weights"),
        ({"state_dict": [torch.zeros(1)]}, "holds no named weights"),
        ({0: torch.zeros(1)}, "holds no named weights"),
        ({"state_dict": {"conv.weight": torch.zeros(1)}}, "is no latent diffusion model: it has no weights of a"),
    ],
)
def test_other_files_are_refused(tmp_path, capsys, content, sentence):
    refused(tmp_path, capsys, content, sentence)


@pytest.mark.parametrize(
    ("lost", "sentence"),
    [
        ("first_stage_model.", "it has no weights of a first_stage_model"),
        ("model.diffusion_model.", "it has no weights of a model.diffusion_model"),
        ("betas", "does not hold its noise schedule (betas)"),
        ("first_stage_model.encoder.mid.block_1.conv1.bias", "an architecture that diffusers' VQModel does not have"),
        ("first_stage_model.decoder.up.1.upsample", "(missing: decoder.up_blocks.0.upsamplers.0.conv.bias, 64)"),
        ("first_stage_model.encoder.", "has no first stage of a known kind"),
        ("first_stage_model.decoder.conv_in", "has no first stage of a known kind"),
        ("model.diffusion_model.out.2", "has no denoiser of a known kind"),
        ("model.diffusion_model.output_blocks.", "has no denoiser of a known kind"),
        ("model.diffusion_model.input_blocks.2.0.op.", "an architecture that diffusers' UNet2DModel does not have"),
    ],
)
def test_missing_weights_are_named(state, tmp_path, capsys, lost, sentence):
    refused(tmp_path, capsys, {"state_dict": without(state, lost)}, sentence, options=["--no-ema"])


def test_an_incomplete_average_is_refused_but_can_be_left_out(state, tmp_path, capsys):
    content = without(state, "model_ema.diffusion_modelout2bias")
    refused(tmp_path, capsys, content, "(EMA)", "lacks model_ema.diffusion_modelout2bias; --no-ema takes")
    assert call("import-model", tmp_path / "model.ckpt", "--out", tmp_path / "out", "--no-ema") == 0


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        ("cond_stage_model.transformer.weight", "holds a conditional model"),
        ("model.diffusion_model.label_emb.weight", "holds a conditional model (text or classes)"),
        ("model.diffusion_model.middle_block.1.transformer_blocks.0.weight", "holds a conditional model"),
        ("model.diffusion_model.id_predictor.0.weight", "(additional: id_predictor.0.weight, 2 x 2)"),
        ("first_stage_model.quantize.used", "(additional: quantize.used, 2 x 2)"),
    ],
)
def test_conditional_and_unknown_models_are_refused(state, tmp_path, capsys, extra, sentence):
    content = {"state_dict": {**state, extra: torch.zeros(2, 2)}}
    refused(tmp_path, capsys, content, sentence, options=["--no-ema"])


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        ((7, 64, 1), "An attention of 2 channels cannot have heads"),
        ((97, 64, 1), "has no denoiser of a known kind"),
        ((96, 64, 1), "(additional: mid_block.attentions.0.to_k.weight, 32 x 64)"),
        ((), "has no denoiser of a known kind"),
    ],
)
def test_an_attention_of_an_odd_shape_is_refused(state, tmp_path, capsys, shape, sentence):
    content = {**state, "model.diffusion_model.middle_block.1.qkv.weight": torch.zeros(shape)}
    refused(tmp_path, capsys, content, sentence, options=["--no-ema"])


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan")])
def test_a_scale_that_is_none_is_refused(state, tmp_path, capsys, factor):
    content = {**state, "scale_factor": torch.tensor(factor)}
    refused(tmp_path, capsys, content, "must be a number above 0, not")


def test_a_denoiser_that_sees_more_than_latents_is_refused(tmp_path, capsys):
    wide = Model.draw(FirstStage(), Denoiser(latent=6, multipliers=(1, 2)))
    refused(tmp_path, capsys, wide.state_dict(), "is conditional: its denoiser sees more than latents of 3 channels")


def test_what_the_weights_do_not_tell_is_asked_for(tmp_path, capsys):
    kl = Model.draw(FirstStage(latent=4, width=4, codes=0), Denoiser(latent=4, multipliers=(1, 2)))
    refused(tmp_path, capsys, kl.state_dict(), "does not hold its scale_factor: give its config.yaml with --config")
    shifted = Model.draw(FirstStage(), Denoiser(multipliers=(1, 2), scale_shift=True))
    refused(tmp_path, capsys, shifted.state_dict(), "do not tell its number of attention heads", "--config")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "There is no file"),
        ("a: [", "cannot be read as YAML"),
        ("\xff\xfe", "cannot be read as YAML"),
        ("", "is no configuration of a latent diffusion model"),
        ("model: 3", "is no configuration of a latent diffusion model"),
        ("model: {params: {unet_config: {params: 3}}}", "is no configuration of a latent diffusion model"),
        ("model: {params: {unet_config: {params: {}}}}", "neither num_head_channels nor num_heads"),
        ("model: {params: {unet_config: {params: {num_heads: many}}}}", "holds a wrong value"),
        ("model: {params: {scale_factor: [1], unet_config: {params: {num_heads: 1}}}}", "holds a wrong value"),
        (
            "model: {params: {unet_config: {params: {num_heads: 2, num_heads_upsample: 4}}}}",
            "another number of heads on the way up",
        ),
        (
            "model: {params: {parameterization: mu, unet_config: {params: {num_heads: 1}}}}",
            "The parameterization 'mu' in",
        ),
        ("model: {params: {unet_config: {params: {num_head_channels: 48}}}}", "(48 channels each)"),
        ("model: {params: {unet_config: {params: {num_heads: 5}}}}", "(5 heads)"),
    ],
)
def test_a_config_that_cannot_be_used_is_one_sentence(state, tmp_path, capsys, text, sentence):
    path = tmp_path / "config.yaml"
    if text is not None:
        path.write_text(text, encoding="latin-1")
    refused(tmp_path, capsys, state, sentence, options=["--config", path])


@pytest.mark.parametrize("taken", ["file", "folder"])
def test_what_is_there_is_not_overwritten(state, tmp_path, capsys, taken):
    torch.save(state, tmp_path / "model.ckpt")
    out = tmp_path / "out"
    kept = out if taken == "file" else out / "kept.txt"
    kept.parent.mkdir(exist_ok=True)
    kept.write_text("mine")
    assert call("import-model", tmp_path / "model.ckpt", "--out", out) == 2
    one_sentence(capsys, out, "is not empty: choose another --out" if taken == "folder" else "cannot be written")
    assert kept.read_text() == "mine"
    assert names(tmp_path) == sorted(["model.ckpt", kept.relative_to(tmp_path).as_posix()])


def test_an_empty_folder_is_filled(model, state, tmp_path):
    torch.save(state, tmp_path / "model.ckpt")
    (tmp_path / "out").mkdir()
    assert call("import-model", tmp_path / "model.ckpt", "--out", tmp_path / "out") == 0
    assert DiffusersPrior.load(tmp_path / "out").space.channels == 3


def test_a_number_of_heads_that_does_not_divide_is_refused_by_the_loader(tmp_path, capsys):
    kind = Model.draw(
        FirstStage(), Denoiser(multipliers=(1, 2), head_channels=0, heads=4, attention_resolutions=(1, 2))
    )
    torch.save(kind.state_dict(), tmp_path / "model.ckpt")
    (tmp_path / "config.yaml").write_text(declared(kind))
    options = ["--config", tmp_path / "config.yaml", "--out", tmp_path / "out"]
    assert call("import-model", tmp_path / "model.ckpt", *options) == 0
    config = tmp_path / "out" / "unet" / "config.json"
    assert '"attention_heads": 4' in config.read_text()
    config.write_text(config.read_text().replace('"attention_heads": 4', '"attention_heads": 5'))
    with pytest.raises(ValueError, match="cannot have 5 attention_heads"):
        DiffusersPrior.load(tmp_path / "out")
