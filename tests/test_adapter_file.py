"""Adapter files: a loaded file does what low-rank changes learnt, and other files are refused."""

import shutil
from pathlib import Path

import pytest
import torch
from conftest import edit_metadata, run_avatar
from safetensors.torch import save_file

from avatar.adapters.adapter_file import FILE, Adapter, add_adapters, digest
from avatar.backbone import checkpoint
from avatar.drivers.speech import SpeechConfig, SpeechToCurves, Style
from avatar.errors import UserError
from avatar.recipes.lora import add_lora, lora_tensors

SMALL = SpeechConfig(layers=(0,), feature_dim=8, width=16, dilations=(1, 2))
RANK, ALPHA = 2, 4.0


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A folder of weights with a small speech net."""
    torch.manual_seed(0)
    checkpoint.save(SpeechToCurves(SMALL), tmp_path / "speech.safetensors")
    return tmp_path


def fresh(base: Path) -> SpeechToCurves:
    return checkpoint.load(SpeechToCurves, base / "speech.safetensors")


@pytest.fixture
def trained(base: Path) -> tuple[SpeechToCurves, Path]:
    """A net with random changes of low rank and a random style, and the file of them."""
    net = fresh(base)
    add_lora(net, ["enter", "out", "leave"], RANK, ALPHA)
    net.style = Style()
    torch.manual_seed(1)
    own = lora_tensors(net)
    with torch.no_grad():
        for value in own.values():
            value.copy_((0.1 * torch.randn(value.shape)).half().float())
    tensors = {f"speech.{name}": value for name, value in own.items()}
    adapter = Adapter("audio", {"speech": digest(base / "speech.safetensors")}, ALPHA / RANK, tensors)
    adapter.save(base / FILE)
    return net, base / FILE


def curves(net: SpeechToCurves) -> torch.Tensor:
    return net.curves(torch.randn(60, 1, 8, generator=torch.Generator().manual_seed(2)))


def test_a_loaded_adapter_does_what_was_trained(base: Path, trained: tuple[SpeechToCurves, Path]) -> None:
    net, path = trained
    adapted, plain = fresh(base), fresh(base)
    add_adapters([(path, 1.0)], {"speech": adapted}, base)
    torch.testing.assert_close(curves(adapted), curves(net), rtol=0, atol=1e-5)
    assert (curves(adapted) - curves(plain)).abs().max() > 0.01


def test_strengths_add_up_and_none_changes_nothing(base: Path, trained: tuple[SpeechToCurves, Path]) -> None:
    nets = [fresh(base) for _ in range(3)]
    for net, strengths in zip(nets, ([0.0], [0.25, 0.5], [0.75]), strict=True):
        add_adapters([(trained[1], strength) for strength in strengths], {"speech": net}, base)
    torch.testing.assert_close(curves(nets[0]), curves(fresh(base)), rtol=0, atol=0)
    torch.testing.assert_close(curves(nets[1]), curves(nets[2]), rtol=0, atol=1e-5)


def test_the_file_says_what_it_is(trained: tuple[SpeechToCurves, Path]) -> None:
    read = Adapter.load(trained[1].parent)  # the folder of a run
    assert (read.kind, read.scale) == ("audio", 2.0)
    modules = ["enter", "blocks.0.out", "blocks.1.out", "leave"]
    factors = {f"speech.{m}.lora_{ab}.weight" for m in modules for ab in "AB"}
    assert set(read.tensors) == factors | {"speech.style.weight.change"}


def test_an_adapter_of_other_weights_is_refused(base: Path, trained: tuple[SpeechToCurves, Path]) -> None:
    (base / "other").mkdir()
    torch.manual_seed(5)
    checkpoint.save(SpeechToCurves(SMALL), base / "other/speech.safetensors")
    with pytest.raises(UserError, match="made for other weights of speech; fine-tune it again"):
        add_adapters([(trained[1], 1.0)], {"speech": fresh(base / "other")}, base / "other")


def test_an_adapter_with_other_layers_is_refused(base: Path, trained: tuple[SpeechToCurves, Path]) -> None:
    read = Adapter.load(trained[1])
    tensors = {**read.tensors, "speech.norm.bias.change": torch.zeros(3)}
    Adapter("audio", read.base, 1.0, tensors).save(base / "odd.safetensors")
    with pytest.raises(UserError, match=r"odd.safetensors: norm.bias: the net has no such parameter"):
        add_adapters([(base / "odd.safetensors", 1.0)], {"speech": fresh(base)}, base)


@pytest.mark.parametrize("kind", ["missing", "text", "weights", "format"])
def test_other_files_are_one_clear_line(kind: str, base: Path, trained: tuple[SpeechToCurves, Path]) -> None:
    path = base / f"{kind}.safetensors"
    if kind == "text":
        path.write_text("hello")
    elif kind == "weights":
        save_file({"a": torch.zeros(1)}, path)
    elif kind == "format":
        shutil.copy(trained[1], path)
        edit_metadata(path, format="avatar-adapter 0")
    with pytest.raises(UserError) as refused:
        Adapter.load(path)
    assert str(refused.value).startswith(f"--adapter {path}: ") and "\n" not in str(refused.value)


@pytest.mark.slow
def test_the_command_refuses_a_wrong_adapter(face: Path, recording: Path, tmp_path: Path) -> None:
    out = tmp_path / "talk.mp4"
    inputs = ["drive", "--ref", face, "--audio", recording, "--out", out]
    told = run_avatar(*inputs, "--adapter", tmp_path / "none")
    assert told.code == 2 and not out.exists()
    assert (
        told.stderr.strip()
        .splitlines()[-1]
        .startswith(f"avatar: --adapter {tmp_path / 'none'}: no such file")
    )
    told = run_avatar(*inputs, "--adapter", f"{tmp_path}:much")
    assert told.code == 2 and "must be a number" in told.stderr
