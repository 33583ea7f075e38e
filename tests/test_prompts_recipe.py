"""The recipe of the net that moves by prompts: its data, its recorded losses, its resume."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from avatar.backbone.checkpoint import load
from avatar.backbone.precision import fast_dtype
from avatar.drivers.prompt_net import CONTEXT, RATE, TRACK, TRACKS, UNITS, WINDOW, PromptNet
from avatar.drivers.text import PACKAGE, SentenceEncoder
from avatar.recipes import prompts
from avatar.recipes.plans import act
from avatar.recipes.settings import read_settings

pytestmark = pytest.mark.skipif(find_spec(PACKAGE) is None, reason=f"needs {PACKAGE}")

# Losses of the run below in float32; processors that multiply bfloat16 train in it.
LOSSES = [2.542829, 0.648317, 3.039645, 0.681196]
CLOSE = 3e-3 if fast_dtype() == torch.float32 else 3e-2

USUAL = [
    "captions=48",
    "width=32",
    "steps=4",
    "warmup=2",
    "decay=0.5",
    "batch=4",
    "log_every=1",
    "probe_every=9",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prompts")


@pytest.fixture(scope="module")
def losses(folder: Path) -> list[float]:
    return prompts.main([*USUAL, f"data={folder}/data", f"out={folder}/run"])


def test_it_trains_and_resumes_exactly(folder: Path, losses: list[float]) -> None:
    assert losses == pytest.approx(LOSSES, rel=CLOSE)
    log = [json.loads(row) for row in (folder / "run/log.jsonl").read_text().splitlines()]
    assert [row["loss"] for row in log] == pytest.approx(losses, abs=1e-5)
    assert {"error", "change", "zero"} <= log[0].keys()
    words = [*USUAL, f"data={folder}/data", f"out={folder}/parts"]
    parts = prompts.main([*words, "minutes=1e-9"]) + prompts.main(words)
    assert parts == losses
    states = [torch.load(folder / run / "state.pt", weights_only=True)["model"] for run in ("run", "parts")]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_the_weights_keep_the_units_of_the_tracks(folder: Path, losses: list[float]) -> None:
    net = load(PromptNet, folder / "run/model.safetensors")
    assert net.deviation.shape == (len(TRACKS),)
    assert (net.deviation.numpy() >= 0.249 * UNITS).all()
    # Both runs read the same encoded captions: those drawn and their mirror images.
    assert len(list((folder / "data").iterdir())) == 2


def test_batches_hold_what_the_captions_say(folder: Path, losses: list[float]) -> None:
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


def test_captions_that_the_judge_asks_are_not_learnt(folder: Path, losses: list[float]) -> None:
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


def test_half_of_a_batch_mirrors_the_other(folder: Path, losses: list[float]) -> None:
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
