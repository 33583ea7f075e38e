"""Plans against published figures (section 10 of the reference), within 25 %."""

import json
from pathlib import Path

import pytest

from avatar import plan
from avatar.errors import UserError

WIDE = (720, 1280)
TIMES = [  # device, size, devices, seconds of 129 frames and 50 steps
    ("h100", WIDE, {1: 1904.08, 2: 925.04, 4: 514.08, 8: 337.58}),
    ("h20", WIDE, {1: 6639, 2: 3400, 4: 1763, 8: 941}),
    ("l20", WIDE, {2: 6044, 4: 3271, 8: 2080}),
    ("h100", (960, 960), {1: 1735, 2: 934, 3: 645, 6: 367}),
    ("a100", WIDE, {1: 3600}),
]


@pytest.mark.parametrize(("gpu", "size", "published"), TIMES)
def test_times(gpu: str, size: tuple[int, int], published: dict[int, float]) -> None:
    for count, seconds in published.items():
        assert plan.make("hunyuan", size, 129, gpu, count).seconds == pytest.approx(seconds, rel=0.25)


@pytest.mark.parametrize(("size", "gigabytes"), [(WIDE, 60), ((544, 960), 45)])
def test_memory(size: tuple[int, int], gigabytes: float) -> None:
    found = plan.make("hunyuan", size, 129, "h100")
    assert sum(found.memory.values()) / 1e9 == pytest.approx(gigabytes, rel=0.25)


def test_tokens_and_operations() -> None:
    """33 x 45 x 80 tokens; 24 D^2 and 4 N D operations a token and block with D = 3072 and 60 blocks."""
    found = plan.make("hunyuan", WIDE, 129, "h100")
    assert found.tokens == 33 * 45 * 80
    sequence = found.tokens + 256
    assert found.linear == 24 * 3072**2 * sequence * 60
    assert found.attention == 4 * sequence**2 * 3072 * 60
    assert plan.make("hunyuan-avatar", WIDE, 129, "h100").evaluations == 100  # two branches of guidance


def test_decode_operations_are_those_of_the_decoder() -> None:
    """Convolutions of the public decoder, counted layer by layer for one frame group of 32 px."""
    import torch

    from avatar.backbone.vae import CausalVAE
    from avatar.bench import operations
    from avatar.releases import TEXT

    with torch.device("meta"):
        vae = CausalVAE(TEXT.vae)
        counted = operations(lambda: vae.decoder(torch.empty(1, 16, 9, 4, 4)))
    assert plan.decode_operations() * 33 * 32 * 32 == pytest.approx(counted, rel=0.15)  # frame 0 costs less


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tiny", "720x1280", 129, "h100", 1), "--preset tiny"),
        (("hunyuan", "720", 129, "h100", 1), "--size 720"),
        (("hunyuan", "720x1281", 129, "h100", 1), "multiples of 16"),
        (("hunyuan", "720x1280", 128, "h100", 1), "such as 129"),
        (("hunyuan", "720x1280", 129, "abacus", 1), "--gpu abacus"),
    ],
)
def test_wrong_input_is_named(arguments: tuple, message: str) -> None:
    with pytest.raises(UserError, match=message):
        plan.run(*arguments)


def test_command_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan.run("hunyuan", "720x1280", 129, "h20", 8, weights="fp8", json_out=tmp_path / "plan.json")
    assert "118,800 of video" in capsys.readouterr().out
    content = json.loads((tmp_path / "plan.json").read_text())
    assert content["gpu_hours"] == pytest.approx(content["seconds"] * 8 / 3600)
    assert content["memory"]["DiT weights"] == pytest.approx(12.8e9, rel=0.01)  # a byte a parameter
