"""Public weights in every layout: read, inspected, converted and back; and all that can be wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import diffusers
import pytest
import torch
from conftest import run_avatar
from safetensors.torch import load_file, save_file
from test_audio_dit import TINY as AUDIO
from test_lora import kohya
from test_parity import DIT, ERROR, KINDS, VAE, dits, error, randn, vaes
from torch import Tensor
from typer.testing import CliRunner

from avatar import weights
from avatar.adapters.audio_dit import AudioDiT
from avatar.backbone import checkpoint
from avatar.backbone.fp8 import dequantise
from avatar.backbone.vae import CausalVAE
from avatar.cli import app
from avatar.cli_weights import app as weights_app
from avatar.errors import UserError
from avatar.releases import RELEASES

Tensors = dict[str, Tensor]


@pytest.fixture(autouse=True)
def tiny_releases(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real presets' names and kinds, at a size for tests."""
    sizes = {
        "hunyuan": KINDS["distilled"],
        "hunyuan-i2v": KINDS["token_replace"],
        "hunyuan-i2v-concat": KINDS["latent_concat"],
        "hunyuan-avatar": AUDIO,
    }
    for name, dit in sizes.items():
        monkeypatch.setitem(RELEASES, name, replace(RELEASES[name], vae=VAE, dit=dit))


def original(path: Path, tensors: Tensors, key: str | None = "module") -> Path:
    torch.save({key: tensors} if key else tensors, path)
    return path


def same(found: Tensors, expected: Tensors) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[n], v) for n, v in expected.items())


@pytest.mark.parametrize("key", ["module", "ema", None])
def test_original_pt(tmp_path: Path, key: str | None) -> None:
    tensors = dits("distilled")[0].state_dict()
    path = original(tmp_path / "mp_rank_00_model_states.pt", tensors, key)
    for given in (path, tmp_path):  # the file or its folder
        found = weights.load(given)
        assert same(found.tensors, tensors) and not found.differences()
        assert (found.layout, found.config) == ("original", KINDS["distilled"])
        assert found.told_by == "preset hunyuan, which fits best"


def test_module_or_ema(tmp_path: Path) -> None:
    tensors = dits("distilled")[0].state_dict()
    average = {name: value + 1 for name, value in tensors.items()}
    torch.save({"module": tensors, "ema": average, "step": 3}, path := tmp_path / "both.pt")
    assert same(weights.load(path).tensors, tensors)
    assert same(weights.load(path, key="ema").tensors, average)
    with pytest.raises(UserError, match=r"both\.pt: no key state_dict; it has module, ema"):
        weights.load(path, key="state_dict")


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[str, ...]]:
            return Path.touch, (tmp_path / "sprung",)  # type: ignore[return-value]

    torch.save({"module": {"img_in.proj.weight": Trap()}}, path := tmp_path / "trap.pt")
    with pytest.raises(UserError, match=r"trap\.pt: not a \.pt file of tensors alone"):
        weights.load(path)
    assert not (tmp_path / "sprung").exists()


def test_fp8_with_its_map(tmp_path: Path) -> None:
    exact = {n: v.bfloat16() for n, v in dits("distilled")[0].state_dict().items()}
    scaled, scales = dict(exact), {}
    for name, value in exact.items():
        if "blocks" in name and "txt_in" not in name and value.dim() == 2:
            scale = value.abs().max().float() / 448  # the largest e4m3 number
            scaled[name] = (value / scale).to(torch.float8_e4m3fn)
            scales[name.removesuffix(".weight")] = scale
    original(path := tmp_path / "states_fp8.pt", scaled)
    with pytest.raises(UserError, match=r"their scales are missing, states_fp8_map\.pt beside it"):
        weights.load(path)
    for key in (None, "module"):  # the map of the audio model is wrapped, that of the first release is not
        original(tmp_path / "states_fp8_map.pt", scales, key)
        found = weights.load(path).tensors
        assert {value.dtype for value in found.values()} == {torch.bfloat16}
        for name, value in exact.items():
            assert torch.allclose(found[name], value, rtol=2**-4, atol=2e-3), name  # 3 bits after the first
    dropped = dict(list(scales.items())[1:])
    original(tmp_path / "states_fp8_map.pt", dropped)
    with pytest.raises(UserError, match=r"8-bit weights and scales do not match: double_blocks\.0\.img_mod"):
        weights.load(path)


def test_dequantised_weight_is_weight_times_scale() -> None:
    small = torch.tensor([[1.5, -448.0]]).to(torch.float8_e4m3fn)
    found = dequantise({"a.weight": small, "a.bias": torch.ones(1)}, {"a": torch.tensor(0.5)})
    assert found["a.weight"].tolist() == [[0.75, -224.0]] and found["a.bias"].tolist() == [1.0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", ["10GB", "40KB"])  # one file, or several and an index
def test_diffusers_folder(tmp_path: Path, kind: str, size: str) -> None:
    ours, theirs = dits(kind)
    theirs.save_pretrained(tmp_path / "transformer", max_shard_size=size)
    assert (len(list((tmp_path / "transformer").glob("*.safetensors"))) > 1) == (size == "40KB")
    found = weights.load(tmp_path / "transformer")
    assert (found.layout, found.config, found.told_by) == ("diffusers", KINDS[kind], "config.json")
    assert same(found.tensors, ours.state_dict()) and not found.differences()


def test_single_safetensors(tmp_path: Path) -> None:
    ours, theirs = dits("latent_concat")
    for name, tensors in (("ours", ours.state_dict()), ("theirs", theirs.state_dict())):
        save_file(tensors, path := tmp_path / f"{name}.safetensors")
        found = weights.load(path)
        assert same(found.tensors, ours.state_dict()) and not found.differences()
        assert found.told_by == "preset hunyuan-i2v-concat, which fits best"


def test_preset_is_asked_where_sizes_can_not_tell(tmp_path: Path) -> None:
    path = original(tmp_path / "i2v.pt", dits("token_replace")[0].state_dict())
    assert not weights.load(path).config.clean_first_frame  # type: ignore[union-attr]
    assert weights.load(path, preset="hunyuan-i2v").config.clean_first_frame  # type: ignore[union-attr]
    with pytest.raises(UserError, match="--preset big: must be one of hunyuan, hunyuan-i2v"):
        weights.load(path, preset="big")


def test_audio_model(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = AudioDiT(AUDIO)
    path = original(tmp_path / "avatar.pt", net.state_dict())
    found = weights.load(path)
    assert found.told_by == "preset hunyuan-avatar, which fits best" and found.net is AudioDiT
    weights.write(found, tmp_path / "avatar.safetensors", "avatar")
    again = checkpoint.load(AudioDiT, tmp_path / "avatar.safetensors")
    assert again.config == AUDIO and same(again.state_dict(), net.state_dict())
    with pytest.raises(UserError, match="diffusers has no net with speech"):
        weights.write(found, tmp_path / "folder", "diffusers")


@pytest.mark.parametrize("prefix", ["", "vae."])
@pytest.mark.parametrize("wrap", [None, "state_dict"])
def test_vae_pt(tmp_path: Path, prefix: str, wrap: str | None) -> None:
    ours, theirs = vaes()
    tensors = {prefix + name: value for name, value in ours.state_dict().items()}
    if prefix:
        tensors["loss.logvar"] = torch.zeros(1)  # what was trained beside it is left where it is
    original(tmp_path / "pytorch_model.pt", tensors, wrap)
    found = weights.load(tmp_path)
    assert (found.net, found.layout, found.config) == (CausalVAE, "original", VAE)
    assert not found.differences()
    assert ("left out: loss.logvar" in found.told_by) == bool(prefix)
    config = dict(theirs.config) | {"_class_name": "AutoencoderKLCausal3D", "scaling_factor": 0.25}
    (tmp_path / "config.json").write_text(json.dumps(config | {"mid_block_causal_attn": False}))
    found = weights.load(tmp_path)
    assert found.config == replace(VAE, scaling_factor=0.25, causal_attention=False)


def test_vae_diffusers_folder_and_back(tmp_path: Path) -> None:
    ours, theirs = vaes()
    theirs.save_pretrained(tmp_path / "vae")
    found = weights.load(tmp_path / "vae")
    assert found.layout == "diffusers" and found.config == VAE
    weights.write(found, tmp_path / "vae.safetensors", "avatar")
    assert same(checkpoint.load(CausalVAE, tmp_path / "vae.safetensors").state_dict(), ours.state_dict())
    weights.write(weights.load(tmp_path / "vae.safetensors"), tmp_path / "again", "diffusers")
    again = diffusers.AutoencoderKLHunyuanVideo.from_pretrained(tmp_path / "again")
    assert same(again.state_dict(), theirs.state_dict())
    assert again.config.scaling_factor == 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_there_and_back(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """diffusers' folder to our file to a folder of several shards that diffusers itself loads."""
    _, theirs = dits(kind)
    theirs.save_pretrained(tmp_path / "a")
    weights.write(weights.load(tmp_path / "a"), tmp_path / "b.safetensors", "avatar")
    monkeypatch.setattr(weights, "SHARD", 40_000)
    found = weights.load(tmp_path / "b.safetensors")
    assert (found.layout, found.config, found.told_by) == ("avatar", KINDS[kind], "its own header")
    weights.write(found, tmp_path / "c", "diffusers")
    assert len(list((tmp_path / "c").glob("*.safetensors"))) > 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b.safetensors", "c"]  # nothing half-written
    again, info = diffusers.HunyuanVideoTransformer3DModel.from_pretrained(
        tmp_path / "c", output_loading_info=True
    )
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert same(again.state_dict(), theirs.state_dict())
    written, expected = (json.loads((tmp_path / folder / "config.json").read_text()) for folder in "ca")
    assert written == {name: expected[name] for name in written}


def test_types_are_kept(tmp_path: Path) -> None:
    tensors = {n: v.bfloat16() if v.dim() > 1 else v for n, v in dits("plain")[0].state_dict().items()}
    path = original(tmp_path / "mixed.pt", tensors)
    RELEASES["plain"] = replace(RELEASES["hunyuan"], vae=VAE, dit=DIT)
    try:
        weights.write(weights.load(path), tmp_path / "out.safetensors", "avatar")
    finally:
        del RELEASES["plain"]
    assert same(load_file(tmp_path / "out.safetensors"), tensors)


def test_merging_several_loras(tmp_path: Path) -> None:
    ours, _ = dits("distilled")
    original(tmp_path / "base.pt", ours.state_dict())
    files = [kohya(ours, "lora_unet_", 1.0, 0), kohya(ours, "Hunyuan_video_I2V_lora_", 3.0, 50)]
    for i, file in enumerate(files):
        save_file(file, tmp_path / f"{i}.safetensors")
    runner = CliRunner()
    loras = [f"--lora={tmp_path / '0.safetensors'}=0.5", f"--lora={tmp_path / '1.safetensors'}"]
    arguments = ["convert", str(tmp_path / "base.pt"), str(tmp_path / "out.safetensors"), *loras]
    told = runner.invoke(weights_app, arguments, catch_exceptions=False)
    assert told.exit_code == 0 and "0.safetensors by 0.5" in told.output
    name, flat = "single_blocks.1.linear2", "single_blocks_1_linear2"
    expected = ours.state_dict()[f"{name}.weight"].clone()
    prefixes = {"lora_unet_": 0.5 * 1 / 3, "Hunyuan_video_I2V_lora_": 1.0 * 3 / 3}  # strength alpha / rank
    for file, (prefix, scale) in zip(files, prefixes.items(), strict=True):
        up, down = (file[f"{prefix}{flat}.lora_{part}.weight"] for part in ("up", "down"))
        expected += scale * up @ down
    assert error(load_file(tmp_path / "out.safetensors")[f"{name}.weight"], expected) <= ERROR
    with pytest.raises(UserError, match=r"2\.safetensors=much: the strength after = must be a number"):
        runner.invoke(weights_app, [*arguments, "--lora=2.safetensors=much"], catch_exceptions=False)


def test_inspect_says_what_it_is(tmp_path: Path) -> None:
    ours, theirs = dits("distilled")
    theirs.save_pretrained(tmp_path / "transformer", max_shard_size="40KB")
    lines, wrong = weights.describe(tmp_path / "transformer")
    count, size = sum(p.numel() for p in ours.parameters()), len(ours.state_dict())
    assert "DiT, layout diffusers, " in lines[0] and "files" in lines[0] and wrong == ""
    assert lines[2] == f"tensors {size}, parameters {count:,}, float32 {size}"
    save_file(kohya(ours, "lora_unet_", 1.0), tmp_path / "lora.safetensors")
    lines, wrong = weights.describe(tmp_path / "lora.safetensors")
    assert "LoRA, kohya, 1 file" in lines[0] and lines[1].startswith("layers 10, rank 3") and wrong == ""


def test_inspect_names_all_that_does_not_fit(tmp_path: Path) -> None:
    tensors = dits("distilled")[0].state_dict()
    del tensors["double_blocks.1.txt_mlp.fc2.bias"], tensors["guidance_in.mlp.0.weight"]
    tensors["double_blocks.9.img_mod.linear.bias"] = torch.zeros(3)
    tensors["final_layer.linear.bias"] = torch.zeros(5)
    path = original(tmp_path / "states.pt", tensors)
    _, wrong = weights.describe(path)
    assert wrong == (
        "missing: double_blocks.1.txt_mlp.fc2.bias, guidance_in.mlp.0.weight; "
        "unexpected: double_blocks.9.img_mod.linear.bias; wrong shape: final_layer.linear.bias"
    )
    with pytest.raises(UserError, match=r"states\.pt does not fit DiT: missing: double_blocks\.1"):
        weights.write(weights.load(path), tmp_path / "out.safetensors", "avatar")
    assert [p.name for p in tmp_path.iterdir()] == ["states.pt"]


def test_incomplete_folders_are_named_file_by_file(tmp_path: Path) -> None:
    folder = tmp_path / "transformer"
    dits("plain")[1].save_pretrained(folder, max_shard_size="40KB")
    shards = sorted(folder.glob("*.safetensors"))
    kept = shards[0].read_bytes()
    for lost in (shards[0], shards[2]):
        lost.unlink()
    with pytest.raises(UserError, match=f"is incomplete: missing {shards[0].name}, {shards[2].name}$"):
        weights.load(folder)
    shards[0].write_bytes(kept[: len(kept) // 2])
    shutil.copy(shards[1], shards[2])
    with pytest.raises(UserError, match=f"{shards[0].name}: not a whole safetensors file"):
        weights.load(folder)
    shards[0].write_bytes(kept)
    with pytest.raises(UserError, match=r"index\.json and its files disagree: "):
        weights.load(folder)


def test_wrong_folders(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere: no such file or folder"):
        weights.load(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"is incomplete: missing a \.safetensors file, .*; it holds nothing"):
        weights.load(tmp_path)
    for name in ("a.pt", "b.safetensors"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(UserError, match=r"holds several weights: name one of a\.pt, b\.safetensors"):
        weights.load(tmp_path)
    (tmp_path / "transformer").mkdir()
    (tmp_path / "transformer" / "config.json").write_text("{}")
    (tmp_path / "model_index.json").write_text("{}")
    with pytest.raises(UserError, match="is a whole pipeline: name one of its folders, transformer"):
        weights.load(tmp_path)


def test_wrong_files(tmp_path: Path) -> None:
    (damaged := tmp_path / "a.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(UserError, match=r"a\.safetensors: not a whole safetensors file"):
        weights.load(damaged)
    (tmp_path / "b.pt").write_bytes(b"x" * 100)
    with pytest.raises(UserError, match=r"b\.pt: not a \.pt file of tensors alone"):
        weights.load(tmp_path / "b.pt")
    save_file({"some.weight": torch.zeros(1)}, path := tmp_path / "c.safetensors")
    with pytest.raises(UserError, match=r"c\.safetensors: neither a DiT nor a VAE .*; it has some\.weight"):
        weights.load(path)
    torch.save([torch.zeros(1)], path := tmp_path / "d.pt")
    with pytest.raises(UserError, match=r"d\.pt: not a file of named tensors"):
        weights.load(path)
    folder = tmp_path / "transformer"
    dits("plain")[1].save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    without = {name: value for name, value in config.items() if name != "num_layers"}
    for values, complaint in (
        ("{", "config.json: not JSON"),
        (json.dumps(without), "transformer: no field num_layers"),
        (json.dumps(config | {"qk_norm": "layer_norm"}), "qk_norm is layer_norm, only rms_norm is supported"),
    ):
        (folder / "config.json").write_text(values)
        with pytest.raises(UserError, match=complaint):
            weights.load(folder)


def test_options_without_effect_are_refused(tmp_path: Path) -> None:
    found = weights.load(original(tmp_path / "states.pt", dits("distilled")[0].state_dict()))
    weights.write(found, path := tmp_path / "net.safetensors", "avatar")
    with pytest.raises(UserError, match=r"^--preset hunyuan: .*net\.safetensors says itself what it is"):
        weights.load(path, preset="hunyuan")
    with pytest.raises(UserError, match=r"^--key ema: only \.pt files have keys"):
        weights.load(path, key="ema")


def test_outputs_are_not_replaced(tmp_path: Path) -> None:
    found = weights.load(original(tmp_path / "states.pt", dits("distilled")[0].state_dict()))
    with pytest.raises(UserError, match=r"states\.pt: exists already"):
        weights.write(found, tmp_path / "states.pt", "avatar")
    with pytest.raises(UserError, match=r"out\.bin: must end in \.safetensors"):
        weights.write(found, tmp_path / "out.bin", "avatar")
    with pytest.raises(UserError, match="nowhere: no such folder"):
        weights.write(found, tmp_path / "nowhere" / "a.safetensors", "avatar")


def test_command_line(tmp_path: Path) -> None:
    ours, theirs = dits("token_replace")
    theirs.save_pretrained(tmp_path / "transformer")
    told = run_avatar("weights", "inspect", tmp_path / "transformer")
    assert told.code == 0 and told.stdout.endswith("nothing is missing or unexpected\n"), told.stderr
    told = run_avatar("weights", "convert", tmp_path / "transformer", tmp_path / "net.safetensors")
    assert told.code == 0, told.stderr
    loaded = checkpoint.load(type(ours), tmp_path / "net.safetensors")
    assert loaded.config == ours.config and same(loaded.state_dict(), ours.state_dict())
    told = run_avatar("weights", "inspect", tmp_path / "nowhere")
    assert (told.code, told.stderr) == (2, f"avatar: {tmp_path / 'nowhere'}: no such file or folder\n")


def test_weights_is_a_verb() -> None:
    told = CliRunner().invoke(app, ["weights", "--help"])
    assert told.exit_code == 0 and "inspect" in told.output and "convert" in told.output


def test_a_random_tensor_is_not_enough(tmp_path: Path) -> None:
    """One tensor of a DiT is a DiT that lacks the rest, not something unknown."""
    save_file({"img_in.proj.bias": randn(20)}, path := tmp_path / "part.safetensors")
    assert weights.load(path).differences().startswith("missing: double_blocks.0.img_attn_k_norm.weight")
