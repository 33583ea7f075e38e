"""The recipe of the net that moves by prompts: its data, its recorded losses, its resume."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from avatar.backbone.checkpoint import load
from avatar.backbone.precision import fast_dtype
from avatar.drivers.prompt_net import CONTEXT, RATE, TRACK, TRACKS, UNITS, WINDOW, MeanMotion, PromptNet
from avatar.drivers.text import PACKAGE, SentenceEncoder
from avatar.recipes import prompts
from avatar.recipes.plans import act
from avatar.recipes.settings import read_settings

pytestmark = pytest.mark.skipif(find_spec(PACKAGE) is None, reason=f"needs {PACKAGE}")

# Losses of the runs below in float32; processors that multiply bfloat16 train in it.
MEAN_LOSSES = [0.814665, 0.590718, 2.871198, 0.508822]
MOTION_LOSSES = [0.791977, 0.587454, 2.845797, 0.506717]
CLOSE = 3e-3 if fast_dtype() == torch.float32 else 3e-2

USUAL = ["captions=48", "width=32", "steps=4", "warmup=2", "decay=0.5", "batch=4"]
USUAL += ["log_every=1", "probe_every=9", "threads=1"]


class Run(NamedTuple):
    """A finished run of the recipe."""

    losses: list[float]
    out: Path
    words: list[str]


def finish(folder: Path, name: str, *words: str) -> Run:
    words_of_run = [*USUAL, f"data={folder}/data", *words]
    return Run(prompts.main([*words_of_run, f"out={folder}/{name}"]), folder / name, words_of_run)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prompts")


@pytest.fixture(scope="module")
def mean_run(folder: Path) -> Run:
    return finish(folder, "mean")


@pytest.fixture(scope="module")
def motion_run(folder: Path, mean_run: Run) -> Run:
    return finish(folder, "motion", f"mean={mean_run.out}/model.safetensors")


@pytest.mark.parametrize(("run", "losses"), [("mean_run", MEAN_LOSSES), ("motion_run", MOTION_LOSSES)])
def test_both_parts_train_and_resume_exactly(
    run: str, losses: list[float], folder: Path, request: pytest.FixtureRequest
) -> None:
    done: Run = request.getfixturevalue(run)
    assert done.losses == pytest.approx(losses, rel=CLOSE)
    log = [json.loads(row) for row in (done.out / "log.jsonl").read_text().splitlines()]
    assert [row["loss"] for row in log] == pytest.approx(done.losses, abs=1e-5)
    words = [*done.words, f"out={folder}/{run}-parts"]
    assert prompts.main([*words, "minutes=1e-9"]) + prompts.main(words) == done.losses
    states = [
        torch.load(out / f"states/state-{len(done.losses)}.pt", weights_only=True)["model"]
        for out in (done.out, folder / f"{run}-parts")
    ]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_the_second_part_keeps_the_mean(folder: Path, mean_run: Run, motion_run: Run) -> None:
    mean = load(MeanMotion, mean_run.out / "model.safetensors")
    net = load(PromptNet, motion_run.out / "model.safetensors")
    assert all(torch.equal(value, mean.state_dict()[name]) for name, value in net.mean.state_dict().items())
    assert (net.deviation.numpy() >= 0.249 * UNITS).all()
    # All runs read the same encoded captions: those drawn and their mirror images.
    assert len(list((folder / "data").iterdir())) == 2


def test_batches_hold_what_the_captions_say(folder: Path, mean_run: Run) -> None:
    settings = read_settings(prompts.PromptSettings, "prompts", [*USUAL, f"data={folder}/data", "late=0.5"])
    scale = np.full(len(TRACKS), 0.5, np.float32)
    read = prompts.CaptionReader(settings, SentenceEncoder(), scale)
    batch = read(0)
    assert batch["clean"].shape == (4, len(TRACKS), WINDOW, 1, 1)
    assert all(torch.equal(value, read(0)[name]) for name, value in batch.items())
    assert not torch.equal(batch["clean"], read(1)["clean"])
    batches = [read(step) for step in range(20)]
    late = torch.cat([b["late"] for b in batches])
    when = torch.cat([b["when"] for b in batches])
    assert 0.2 < late.float().mean() < 0.8
    assert (when[~late, 0] == 0).all()
    hop = (WINDOW - CONTEXT) / float(RATE)
    assert set((when[late, 0] / hop).round(decimals=3).tolist()) <= {1.0, 2.0, 3.0}
    assert (when[:, 1] > when[:, 0]).all()
    first = torch.cat([b["clean"][:, :, 0, 0, 0] for b in batches])
    assert not first[~late].any()  # motion begins at rest


def test_a_late_window_goes_on_where_the_one_before_ends(folder: Path) -> None:
    """The same chance acts the same plan, so that windows of one video fit together."""
    plan = prompts.draw_captions(5, 0)[0][3]
    whole = act(plan, 20.0, np.arange(200) / 12.5, np.random.default_rng(7))
    part = act(plan, 20.0, np.arange(120) / 12.5, np.random.default_rng(7))
    np.testing.assert_array_equal(whole[:120, :22], part[:, :22])


def test_captions_that_the_judge_asks_are_not_learnt(folder: Path, mean_run: Run) -> None:
    plans, texts = prompts.draw_captions(300, 0)
    assert len(plans) == len(texts) == 300
    assert not {text.rstrip(".").lower() for text in texts} & prompts.prompt_judge.ASKED


def test_encoded_captions_are_those_of_the_encoder(folder: Path) -> None:
    texts = ["she smiles", "", "he turns his head to the left, then nods"]
    encoder = SentenceEncoder()
    read = prompts.Texts.of(texts[:2], encoder, folder / "other")
    read += prompts.Texts.of(texts[2:], encoder, folder / "other")
    batch, found = read.batch(np.array([2, 0, 1])), encoder([texts[2], texts[0], texts[1]])
    assert torch.equal(batch.mask, found.mask)
    torch.testing.assert_close(batch.tokens, found.tokens, atol=2e-3, rtol=1e-3)
    torch.testing.assert_close(batch.pooled, found.pooled, atol=1e-3, rtol=1e-3)
    assert len(list((folder / "other").iterdir())) == 2


def test_half_of_a_batch_mirrors_the_other(folder: Path, mean_run: Run) -> None:
    """Where a caption has no side, its mirror image is the sample itself."""
    settings = read_settings(prompts.PromptSettings, "prompts", [*USUAL, f"data={folder}/data", "batch=16"])
    read = prompts.CaptionReader(settings, SentenceEncoder(), np.ones(len(TRACKS), np.float32))
    mirrored = 0
    for step in range(10):
        batch = read(step)
        one, other = batch["clean"].split(8)
        for row in range(8):
            if torch.equal(batch["tokens"][row], batch["tokens"][row + 8]):
                assert torch.equal(one[row], other[row])
            else:
                mirrored += 1
                yaw, pitch = TRACK["yaw"], TRACK["pitch"]
                torch.testing.assert_close(one[row, pitch], other[row, pitch], atol=0.05, rtol=0.5)
                sides = one[row, yaw] + other[row, yaw]  # a shaken head and eyes that wander are not mirrored
                assert sides.abs().max() < 0.05 or one[row, yaw].min() < 0 < one[row, yaw].max()
    assert mirrored > 10


def test_captions_lose_tokens_but_never_the_first(folder: Path, mean_run: Run) -> None:
    settings = read_settings(prompts.PromptSettings, "prompts", [*USUAL, f"data={folder}/data", "batch=64"])
    read = prompts.CaptionReader(settings, SentenceEncoder(), np.ones(len(TRACKS), np.float32))
    batch = read(3)
    seen = prompts.text_of(batch, settings, torch.Generator().manual_seed(0))
    assert seen.mask[:, 0].all() and not (seen.mask & ~batch["mask"]).any()
    assert (seen.tokens[~seen.mask] == 0).all()
    told = seen.pooled.any(1)
    assert (seen.mask[~told].sum(1) == 1).all() and not seen.tokens[~told].any()  # withheld as a whole
    share = (seen.mask[told].sum() / batch["mask"][told].sum()).item()
    assert share == pytest.approx(0.7, abs=0.12)  # 1 - 0.9 E[u^2], u even in [0, 1]
    assert 0.65 < told.float().mean() <= 1  # 0.85 of them
