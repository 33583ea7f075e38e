"""Distillation: the steps of a student and its teacher, and a few steps of the generator's recipe."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from small_run import equal, state
from tiny import generator as tiny_generator
from torch import Tensor

from avatar.backbone import flow
from avatar.backbone.checkpoint import load, save
from avatar.backbone.precision import fast_dtype
from avatar.errors import UserError
from avatar.model import Generator
from avatar.recipes import distill_mini
from avatar.recipes.distillation import Ladder, gained, line, walk
from avatar.recipes.shards import write

# Losses of four steps in float32.
LOSSES = [0.042707, 0.043148, 0.034350, 0.030997]
CLOSE = 3e-3 if fast_dtype() == torch.float32 else 3e-2


def curl(x: Tensor, time: Tensor) -> Tensor:
    """A field whose lines are bent."""
    return (1 + time)[:, None, None, None, None] * torch.stack([x[:, 1], -x[:, 0]], 1)


def noise(count: int) -> Tensor:
    return torch.randn(count, 2, 1, 2, 2, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("reverse", [False, True])
def test_a_step_of_the_student_is_cut_into_those_of_the_teacher(reverse: bool) -> None:
    times = Ladder(2, 6, shift=5.0, reverse=reverse).times
    whole = flow.schedule(6, 5.0, reverse)
    assert torch.equal(times, torch.stack([whole[:4], whole[3:]]))
    # The student's own times are those of its sampler.
    assert torch.allclose(
        torch.stack([times[0, 0], times[1, 0], times[1, 3]]), flow.schedule(2, 5.0, reverse)
    )
    with pytest.raises(UserError, match="teacher_steps=5: must be a multiple of student_steps=2"):
        Ladder(2, 5)


def test_all_steps_are_drawn() -> None:
    ladder = Ladder(3, 6)
    drawn = ladder.draw(200, torch.Generator().manual_seed(0))
    assert drawn.shape == (200, 3) and {tuple(row) for row in drawn.tolist()} == {
        tuple(row) for row in ladder.times.tolist()
    }


def test_a_walk_is_that_of_the_sampler_and_a_line_arrives_where_it_does() -> None:
    x, ladder = noise(3), Ladder(1, 8, shift=3.0)
    times = ladder.times.expand(3, -1)
    end = walk(curl, x, times)
    by_sampler = flow.euler(lambda x, t: curl(x, torch.full((3,), t)), x, flow.schedule(8, 3.0))
    torch.testing.assert_close(end, by_sampler)
    torch.testing.assert_close(x + line(x, end, times), end)
    # Samples may stand at different times.
    some = Ladder(2, 4).times
    apart = walk(curl, noise(2), some)
    for row in range(2):
        torch.testing.assert_close(apart[row], walk(curl, noise(2)[row : row + 1], some[row : row + 1])[0])


def test_what_is_gained_is_measured_against_as_few_steps_of_the_teacher() -> None:
    x, ladder = noise(4), Ladder(2, 8)
    found = gained(curl, curl, x, ladder)
    assert found["student"] == found["teacher"] > 1e-3

    def taught(x: Tensor, time: Tensor) -> Tensor:
        times = ladder.times[ladder.times[:, 0].sub(float(time[0])).abs().argmin()].expand(len(x), -1)
        return line(x, walk(curl, x, times), times)

    assert gained(taught, curl, x, ladder)["student"] < 1e-10


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Encoded clips of the generator's recipe, made up, and a teacher of random weights."""
    folder = tmp_path_factory.mktemp("data")
    for seed in range(5):
        rng = np.random.default_rng(seed)

        def some(*shape: int, rng: np.random.Generator = rng) -> np.ndarray:
            return rng.normal(size=shape).astype(np.float16)

        clean, face = some(16, 3, 8, 8), np.zeros((8, 8), np.float32)
        face[2:6, 2:6] = 1
        record = {
            "clean": clean,
            "driven": clean + some(16, 3, 8, 8) / 4,
            "reference": some(16, 1, 8, 8),
            "hole": rng.uniform(size=(4, 3, 8, 8)).astype(np.float16),
            "face": face,
            "motion": np.ones(2, np.float32),
            "audio": some(3, 4, 10, 384),
            "heard": np.ones(1, np.float32),
            "pose": some(16, 3, 8, 8),
            "codes": some(3, 4, 48),
            "seen": np.ones(1, np.float32),
        }
        write(record, folder / f"latents/latent-{seed}.safetensors")
    save(tiny_generator(random=True), folder / "teacher.safetensors")
    return folder


def _words(data: Path, out: Path) -> list[str]:
    words = [
        f"data={data}/latents",
        f"teacher={data}/teacher.safetensors",
        f"out={out}",
        "steps=4",
        "batch=2",
    ]
    words += ["batch=2", "warmup=2", "decay=0.5", "threads=1", "log_every=1", "probe_every=2", "held_out=2"]
    return [*words, "student_steps=1", "learning_rate=1e-3"]


def test_the_generator_is_distilled_and_resumes_exactly(data: Path, tmp_path: Path) -> None:
    losses = distill_mini.main(_words(data, tmp_path / "whole"))
    assert losses == pytest.approx(LOSSES, rel=CLOSE)
    words = _words(data, tmp_path / "parts")
    parts = distill_mini.main([*words, "minutes=1e-9"]) + distill_mini.main([*words, "minutes=1e-9"])
    parts += distill_mini.main(words)
    assert parts == losses and equal(state(tmp_path / "parts"), state(tmp_path / "whole"))
    assert load(Generator, tmp_path / "whole/model.safetensors").config == tiny_generator(True).config


def test_a_student_comes_nearer_to_its_teacher_than_the_teacher_in_as_few_steps(
    data: Path, tmp_path: Path
) -> None:
    distill_mini.main(
        [*_words(data, tmp_path), "steps=60", "warmup=5", "learning_rate=3e-3", "probe_every=60"]
    )
    log = [json.loads(row) for row in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert log[-1]["held_out"] < 0.8
