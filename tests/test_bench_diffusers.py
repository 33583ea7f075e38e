"""The comparison with diffusers, on cases small enough for a test."""

import json
from pathlib import Path

import pytest
import torch

from avatar import bench_diffusers
from avatar.bench_diffusers import CASES, DiTCase, Target, VAECase, compare
from avatar.errors import UserError

TINY = DiTCase(latents=(1, 8, 8), hidden=128, double_blocks=1, single_blocks=1, dtype=torch.float32)
SMALL = {
    "dit": (TINY, Target(time=(1.0, 1.0))),
    "train": (
        DiTCase(latents=(1, 8, 8), hidden=128, double_blocks=1, single_blocks=1, training=True),
        Target(time=(1.0, 1.0)),
    ),
    "vae": (VAECase(frames=5, side=32, divisor=4), Target(time=(1.0, 1.0))),
}


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_diffusers, "CASES", SMALL)


@pytest.mark.parametrize("name", ["dit", "vae"])
def test_both_sides_compute_the_same(name: str) -> None:
    found = compare(name, runs=1, rate=1e11)
    assert found.apart < 1e-4
    assert found.operations > 0
    assert found.floor == pytest.approx(found.operations / 1e11)
    assert found.time_ratio == found.seconds["ours"] / found.seconds["diffusers"]
    assert found.memory_ratio is None  # not asked for


def test_cases_that_take_long_are_repeated_less(monkeypatch: pytest.MonkeyPatch) -> None:
    assert compare("dit", runs=3, rate=1e11).runs == 3
    monkeypatch.setattr(bench_diffusers, "ENOUGH", 0.0)
    assert compare("dit", runs=3, rate=1e11).runs == 1


def test_training_steps_start_from_the_same_prediction() -> None:
    assert compare("train", runs=1, rate=1e11).apart < 0.05  # bfloat16


def test_command_writes_figures_and_names_what_is_unknown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench_diffusers.run(["dit"], tmp_path / "out.json", runs=1)
    assert "dit: time" in capsys.readouterr().out
    (case,) = json.loads((tmp_path / "out.json").read_text())["cases"]
    assert case["time_ratio"] > 0
    with pytest.raises(UserError, match="--case dot: must be one of dit, train, vae, vae-flat"):
        bench_diffusers.run(["dot"])


def test_cases_have_the_tokens_of_their_names() -> None:
    for name, tokens in {"dit-1k": 1024, "dit-4k": 4096, "dit-16k": 16384, "train-4k": 4096}.items():
        case = CASES[name][0]
        assert isinstance(case, DiTCase)
        frames, height, width = case.latents
        assert frames * height * width // 4 == tokens
