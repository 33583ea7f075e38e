"""Folders of public weights: both layouts, and what is said of those that do not fit."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from avatar import weights
from avatar.adapters.audio_dit import AudioDiTConfig
from avatar.backbone.dit_sizes import sizes_from
from avatar.errors import UserError
from avatar.loading import Placed, find, load_dit, load_vae, small_dtype
from avatar.recipes import tiny_hunyuan
from avatar.releases import RELEASES

Checkpoints = Callable[[str], Path]
STATES = "hunyuan-video-t2v-720p/transformers/mp_rank_00_model_states.pt"


@pytest.fixture
def copied(checkpoints: Checkpoints, tmp_path: Path) -> Path:
    """A folder of the text release that a test may spoil."""
    return shutil.copytree(checkpoints("hunyuan"), tmp_path / "ckpts")


@pytest.mark.parametrize("preset", RELEASES)
def test_a_whole_folder_loads(checkpoints: Checkpoints, preset: str) -> None:
    files = find(checkpoints(preset), preset)
    net = load_dit(files, torch.bfloat16)
    assert type(net) is RELEASES[preset].net and net.config == tiny_hunyuan.dit_config(RELEASES[preset])
    assert {p.dtype for p in net.parameters()} == {torch.bfloat16}
    assert load_vae(files, torch.float32).config.widths == (32, 32, 32, 32)
    assert (files.whisper is not None) == (preset == "hunyuan-avatar")


@pytest.mark.parametrize("below", ["ckpts", "weights/ckpts"])
def test_the_folder_above_is_good_too(copied: Path, tmp_path: Path, below: str) -> None:
    root = tmp_path / "repository"
    (root / below).parent.mkdir(parents=True)
    copied.rename(root / below)
    assert find(root, "hunyuan").dit == root / below / STATES


def test_layout_of_diffusers(copied: Path, tmp_path: Path) -> None:
    """Its folders, its names of tensors, its tokenizers in folders of their own."""
    whole = tmp_path / "whole"
    whole.mkdir()
    (whole / "model_index.json").write_text("{}", encoding="utf-8")
    old = find(copied, "hunyuan")
    weights.write(weights.load(old.dit, "hunyuan"), whole / "transformer", "diffusers")
    weights.write(weights.load(old.vae), whole / "vae", "diffusers")
    for name, tokenizer in (("text_encoder", "tokenizer"), ("text_encoder_2", "tokenizer_2")):
        shutil.copytree(copied / name, whole / name)
        (whole / tokenizer).mkdir()
        for file in (whole / name).iterdir():
            if "token" in file.name or file.name in ("vocab.json", "merges.txt"):
                file.rename(whole / tokenizer / file.name)
    new = find(whole, "hunyuan")
    states = [load_dit(files, torch.float32).state_dict() for files in (old, new)]
    assert all(torch.equal(states[1][name], value) for name, value in states[0].items())
    with pytest.raises(UserError, match=r"does not fit the preset hunyuan-i2v: .*clean_first_frame is False"):
        find(whole, "hunyuan-i2v")
    with pytest.raises(UserError, match="diffusers has no layout for hunyuan-avatar"):
        find(whole, "hunyuan-avatar")
    (whole / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(UserError, match=r"missing .*transformer/diffusion_pytorch_model\.safetensors$"):
        find(whole, "hunyuan")


def test_all_that_is_missing_is_in_one_message(copied: Path) -> None:
    gone = [
        STATES,
        "hunyuan-video-t2v-720p/vae/pytorch_model.pt",
        "text_encoder/tokenizer.json",
        "text_encoder_2/model.safetensors",
        "text_encoder_2/config.json",
    ]
    for name in gone:
        (copied / name).unlink()
    with pytest.raises(UserError) as told:
        find(copied, "hunyuan")
    message = str(told.value)
    assert message.startswith(f"{copied} is not complete for the preset hunyuan: missing ")
    assert sorted(message.partition("missing ")[2].split(", ")) == sorted(str(copied / name) for name in gone)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"--weights {tmp_path / 'no'}: no such folder"):
        find(tmp_path / "no", "hunyuan")
    with pytest.raises(UserError, match="--preset big: must be one of hunyuan, hunyuan-i2v"):
        find(tmp_path, "big")


def test_shards_that_are_missing(copied: Path) -> None:
    folder = copied / "text_encoder"
    (folder / "model.safetensors").unlink()
    index = (
        '{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}'
    )
    (folder / "model.safetensors.index.json").write_text(index, encoding="utf-8")
    with pytest.raises(
        UserError, match=r"text_encoder is incomplete: missing model-00001-of-00002\.safetensors, "
    ):
        find(copied, "hunyuan")


def test_tensors_and_sizes_that_do_not_fit_are_named(copied: Path) -> None:
    states = torch.load(copied / STATES, weights_only=True)["module"]
    states["strange.weight"] = states.pop("final_layer.linear.bias")
    torch.save({"module": states}, copied / STATES)
    config = copied / "text_encoder" / "config.json"
    config.write_text(config.read_text().replace('"hidden_size": 32', '"hidden_size": 40'))
    with pytest.raises(UserError) as told:
        find(copied, "hunyuan")
    assert "missing: final_layer.linear.bias; unexpected: strange.weight" in str(told.value)
    assert "text_encoder: size 40, the DiT wants 32" in str(told.value)


def test_another_kind_of_encoder(copied: Path, checkpoints: Checkpoints) -> None:
    shutil.rmtree(copied / "text_encoder")
    shutil.copytree(checkpoints("hunyuan-i2v") / "text_encoder_i2v", copied / "text_encoder")
    with pytest.raises(UserError, match="text_encoder: is llava, not llama"):
        find(copied, "hunyuan")


def test_the_file_in_eight_bits_is_asked_for(copied: Path) -> None:
    """Beside the other file, with its map, as it is released."""
    states = torch.load(copied / STATES, weights_only=True)["module"]
    inside = {
        name
        for name, value in states.items()
        if name.startswith(("double_blocks", "single_blocks"))
        and name.endswith("weight")
        and value.dim() == 2
    }
    small = {n: v.to(torch.float8_e4m3fn) if n in inside else v for n, v in states.items()}
    file = copied / STATES
    torch.save({"module": small}, file.with_stem(file.stem + "_fp8"))
    scales = {name.removesuffix(".weight"): torch.tensor(1.0) for name in inside}
    torch.save(scales, file.with_stem(file.stem + "_fp8_map"))
    assert find(copied, "hunyuan").dit == file
    found = find(copied, "hunyuan", fp8=True)
    assert found.dit == file.with_stem(file.stem + "_fp8")
    name = "single_blocks.0.linear1.weight"
    near = load_dit(found, torch.float32).state_dict()[name]
    assert torch.allclose(near, states[name], rtol=2**-4, atol=2e-3)
    file.with_stem(file.stem + "_fp8").unlink()
    with pytest.raises(UserError, match=r"missing .*mp_rank_00_model_states_fp8\.pt$"):
        find(copied, "hunyuan", fp8=True)


def test_sizes_of_another_width() -> None:
    """Those of the shapes; a block that is missing in between is still expected."""
    release = RELEASES["hunyuan"]
    small = tiny_hunyuan.dit_config(release)
    with torch.device("meta"):
        tensors = release.net(small).state_dict()
    assert sizes_from(tensors, release.dit) == small
    without = {name: value for name, value in tensors.items() if not name.startswith("double_blocks.0.")}
    assert sizes_from(without, release.dit).double_blocks == 2
    with pytest.raises(ValueError, match=r"can not be told without single_blocks\.0\.q_norm\.weight"):
        sizes_from({n: v for n, v in tensors.items() if "single_blocks" not in n}, release.dit)


def test_shares_of_a_head_are_those_of_both_public_sizes() -> None:
    """16, 56, 56 of 128 and 12, 42, 42 of 96 (reference, section 2.1)."""
    dit = RELEASES["hunyuan"].dit
    shapes = {
        "img_in.proj.weight": (480, 16, 1, 2, 2),
        "single_blocks.0.q_norm.weight": (96,),
        "single_blocks.0.linear2.weight": (480, 5 * 480),
        "txt_in.input_embedder.weight": (480, 4096),
        "vector_in.in_layer.weight": (480, 768),
    }
    found = sizes_from({name: torch.empty(shape, device="meta") for name, shape in shapes.items()}, dit)
    assert (found.heads, found.rope_channels, found.mlp_ratio) == (5, (12, 42, 42), 4)


def test_audio_release_tells_its_sizes(checkpoints: Checkpoints) -> None:
    found = weights.load(find(checkpoints("hunyuan-avatar"), "hunyuan-avatar").dit)
    assert found.told_by == "preset hunyuan-avatar, which fits best, at the width and depth of its tensors"
    assert isinstance(found.config, AudioDiTConfig)
    assert found.config.speech == (10, 5, tiny_hunyuan.SPEECH) and not found.differences()


def test_a_net_is_made_once_and_only_when_it_is_used() -> None:
    made = []

    def make() -> torch.nn.Linear:
        made.append(torch.nn.Linear(1, 1))
        return made[-1]

    placed = Placed(make, torch.device("cpu"), offload=True)
    assert not made
    for _ in range(2):
        with placed() as net:
            assert net is made[0]
    assert len(made) == 1


def test_types() -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert small_dtype(cpu, torch.bfloat16) == torch.float32
    assert small_dtype(cuda, torch.bfloat16) == torch.float16
    assert small_dtype(cuda, torch.float32) == torch.float32
