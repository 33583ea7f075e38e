"""Prompts as motion: the shipped weights obey wordings that they were never told; the sampler's own rules."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from avatar.backbone.dit import FinalLayer, Modulation
from avatar.drivers.curves import CURVES, INDEX, MOUTH, curve_indices
from avatar.drivers.mix import BESIDE_SPEECH, add_expressions, add_poses
from avatar.drivers.prompt import Prompt, PromptDriver, PromptSignal, at_rate, read_prompt, sample
from avatar.drivers.prompt_net import (
    CONTEXT,
    TRACK,
    TRACKS,
    UNITS,
    WINDOW,
    MeanConfig,
    PromptConfig,
    PromptNet,
    curves_of,
    dit_config,
    head_of,
    without_text,
)
from avatar.drivers.text import CHANNELS, PACKAGE, Sentences
from avatar.errors import UserError
from avatar.recipes.prompt_judge import CASES, judge, motion_of, quiet, smile

FPS = Fraction(25)
HOP = WINDOW - CONTEXT


# ---- without the encoder -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def net() -> PromptNet:
    """A tiny net with random weights where it starts with zeros."""
    torch.manual_seed(0)
    made = PromptNet(PromptConfig(mean=MeanConfig(width=32), dit=dit_config(32)))
    for layer in made.modules():
        if isinstance(layer, Modulation | FinalLayer):
            for parameter in layer.parameters():
                torch.nn.init.normal_(parameter, std=0.05)
    return made.eval()


@pytest.fixture(scope="module")
def two() -> Sentences:
    """Two made-up prompts, the second two tokens shorter."""
    generator = torch.Generator().manual_seed(1)
    mask = torch.ones(2, 7, dtype=torch.bool)
    mask[1, 5:] = False
    tokens = torch.randn(2, 7, CHANNELS, generator=generator) * mask[..., None]
    return Sentences(tokens, mask, torch.randn(2, CHANNELS, generator=generator))


def test_a_window_is_one_euler_run_and_guidance_on_the_mean(net: PromptNet, two: Sentences) -> None:
    """One step from noise lands on the clean prediction; 1.5 adds half of the wanted mean - the unwanted."""
    from avatar.backbone import flow

    made = sample(net, two, 4.0, guidance=1.5, seed=3, steps=1)
    assert made.shape == (52, len(TRACKS))
    noise = flow.noise((1, len(TRACKS), WINDOW, 1, 1), 3)
    nothing, when = torch.zeros_like(noise), torch.tensor([[0.0, 4.0]])
    with torch.no_grad():
        clean = net(noise, torch.zeros(1), two.first(1), nothing, nothing[:, :1], when)
        wanted, unwanted = net.mean_motion(two, when.expand(2, -1))
    guided = clean[0, :, :52, 0, 0] + 0.5 * (wanted - unwanted)[:, :52]
    np.testing.assert_allclose(made, guided.T.numpy() * net.deviation.numpy(), atol=1e-5)


def test_an_untrained_net_makes_the_mean_motion(two: Sentences) -> None:
    """A frame between the middles of two pairs is between their means."""
    torch.manual_seed(0)
    made = PromptNet(PromptConfig(mean=MeanConfig(width=32), dit=dit_config(32))).eval()
    x, when = torch.randn(2, len(TRACKS), WINDOW, 1, 1), torch.tensor([[0.0, 5.0], [6.72, 9.0]])
    with torch.no_grad():
        clean = made(x, torch.zeros(2), two, torch.zeros_like(x), torch.zeros_like(x[:, :1]), when)[..., 0, 0]
        mean = made.mean(two, when)
    torch.testing.assert_close(clean[..., 0], mean[..., 0])
    # The middle of frame 2 is 2.5 / 2 - 0.5 = 0.75 pairs after that of the first pair.
    torch.testing.assert_close(clean[..., 2], 0.25 * mean[..., 0] + 0.75 * mean[..., 1])


def test_padding_says_nothing(net: PromptNet, two: Sentences) -> None:
    more = Sentences(
        torch.cat([two.tokens, torch.ones(2, 4, CHANNELS)], 1),
        torch.cat([two.mask, torch.zeros(2, 4, dtype=torch.bool)], 1),
        two.pooled,
    )
    told = [sample(net, text, 2.0, guidance=2.0, seed=0, steps=2) for text in (two, more)]
    np.testing.assert_allclose(told[0], told[1], atol=1e-5)


def test_text_left_out_is_one_silent_token(two: Sentences) -> None:
    left = without_text(two, torch.tensor([False, True]))
    assert left.mask.tolist() == [[True] * 7, [True] + [False] * 6]
    assert torch.equal(left.tokens[0], two.tokens[0]) and torch.equal(left.pooled[0], two.pooled[0])
    assert not left.tokens[1].any() and not left.pooled[1].any()


@pytest.mark.parametrize("seconds", [0.04, 7.0, 7.5, 7.6, 14.0, 31.7])
def test_any_length_is_filled(net: PromptNet, two: Sentences, seconds: float) -> None:
    made = sample(net, two, seconds, guidance=1.5, seed=0, steps=1)
    assert len(made) == int(np.ceil(seconds * 12.5)) + 2
    assert np.isfinite(made).all()


def test_windows_share_their_frames_without_a_seam(net: PromptNet, two: Sentences) -> None:
    """Where windows meet, the shares of the new one rise evenly from 1/13 to 12/13: the jump at either end is
    a thirteenth of how far the two windows differ, beside the motion's own change."""
    whole = sample(net, two, 20.0, guidance=1.5, seed=0, steps=2)
    alone = sample(net, two, 6.0, guidance=1.5, seed=0, steps=2)
    assert len(alone) < HOP
    # The length of the video is told to the net, so only motion of equal length is equal.
    again = sample(net, two, 20.0, guidance=1.5, seed=0, steps=2)
    np.testing.assert_array_equal(whole, again)
    change = np.abs(np.diff(whole / net.deviation.numpy(), axis=0)).mean(1)
    meeting = [change[k * HOP - 1 : k * HOP + CONTEXT + 1].max() for k in (1, 2)]
    assert max(meeting) < 2 * np.quantile(change, 0.95)


def test_tracks_become_curves_and_a_head() -> None:
    tracks = np.zeros((2, len(TRACKS)), np.float32)
    for name, value in {
        "gazeRight": 0.4,
        "gazeDown": -0.3,
        "mouthFrown": 0.2,
        "yaw": 0.1,
        "away": -0.5,
    }.items():
        tracks[1, TRACK[name]] = value
    curves, head = curves_of(tracks), head_of(tracks)
    moved = {CURVES[index]: round(float(curves[1, index]), 3) for index in np.flatnonzero(curves[1])}
    # The picture's right is the person's left.
    assert moved == {
        "eyeLookOutLeft": 0.4, "eyeLookInRight": 0.4, "eyeLookUpLeft": 0.3, "eyeLookUpRight": 0.3,
        "mouthFrownLeft": 0.2, "mouthFrownRight": 0.2,
    }  # fmt: skip
    assert head[1].tolist() == pytest.approx([0.1, 0, 0, 0, 0, -0.5])
    assert not curves[0].any() and not head[0].any()


def test_another_rate_goes_through_the_same_points() -> None:
    tracks = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    found = at_rate(tracks, FPS, 36)
    np.testing.assert_allclose(found[::2], tracks[:18], atol=1e-6)
    assert len(at_rate(tracks, Fraction(30000, 1001), 43)) == 43


# ---- the record --------------------------------------------------------------------------------


def made_signal(frames: int = 6) -> PromptSignal:
    rng = np.random.default_rng(0)
    return PromptSignal(
        fps=FPS,
        curves=rng.uniform(-0.2, 0.8, (frames, 52)).astype(np.float32),
        head=rng.normal(0, 0.1, (frames, 6)).astype(np.float32),
        sway=np.full((frames, 1), -0.5, np.float32),
        prompt="she smiles",
        negative="a frown",
    )


def base(frames: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Curves, head and rest of a video."""
    rng = np.random.default_rng(1)
    curves = rng.uniform(0, 0.5, (frames, 52)).astype(np.float32)
    return curves, rng.normal(0, 0.02, (frames, 6)).astype(np.float32), np.zeros(52, np.float32)


def add_prompt(
    curves: np.ndarray, head: np.ndarray, signal: PromptSignal, rest: np.ndarray, speech: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Curves and head with a signal added by the rules of the mix."""
    told = (signal.head, signal.sway, signal.strength)
    face = signal.expression(np.zeros(52, np.float32))  # the photo shows nothing
    return add_expressions(curves, [face], rest, rest, speech), add_poses(head, [], [told])


SPEECH, SILENCE = np.ones(6, np.float32), np.zeros(6, np.float32)


@pytest.mark.parametrize("speech", [SPEECH, SILENCE])
def test_at_strength_0_nothing_changes_to_the_bit(speech: np.ndarray) -> None:
    curves, head, rest = base()
    got = add_prompt(curves, head, made_signal().scaled(0), rest, speech)
    assert np.array_equal(got[0], curves) and np.array_equal(got[1], head)


def test_speech_keeps_the_mouth() -> None:
    curves, head, rest = base()
    signal = made_signal()
    got = add_prompt(curves, head, signal, rest, SPEECH)[0]
    shape = sorted(set(MOUTH) - set(BESIDE_SPEECH))
    assert np.array_equal(got[:, shape], curves[:, shape])
    smile, jaw = INDEX["mouthSmileLeft"], INDEX["jawOpen"]
    added = signal.expression(np.zeros(52, np.float32)).curves
    assert added[:, list(MOUTH)].min() >= 0  # nothing can be taken off the mouth of a face that shows nothing
    np.testing.assert_allclose(got[:, smile], curves[:, smile] + added[:, smile], atol=1e-6)
    silent = add_prompt(curves, head, signal, rest, SILENCE)[0]
    np.testing.assert_allclose(silent[:, jaw], curves[:, jaw] + added[:, jaw], atol=1e-6)


def test_a_frown_takes_the_smile_of_the_photo_off_and_a_smile_does_not_smile_twice() -> None:
    """0.1 is half a frown, 0.3 a whole one; of a smile of 0.8 that is shown 0.4 and 0.8 are taken off."""
    curves, shown = np.zeros((4, 52), np.float32), np.zeros(52, np.float32)
    smile = list(curve_indices("mouthSmile"))
    shown[smile] = 0.8
    curves[1:3, list(curve_indices("mouthFrown"))] = np.float32([[0.1], [0.3]])
    curves[3, smile] = 0.9
    still: dict[str, Any] = {"head": np.zeros((4, 6)), "sway": np.zeros((4, 1)), "strength": np.ones(4)}
    signal = replace(made_signal(), curves=curves, **still)
    added = signal.expression(shown).curves[:, smile]
    np.testing.assert_allclose(added, np.float32([[0], [-0.4], [-0.8], [0.1]]).repeat(2, 1), atol=1e-6)


def test_the_head_is_added_to_the_sway_that_is_left() -> None:
    curves, head, rest = base()
    signal = made_signal()
    half = add_prompt(curves, head, signal.scaled(0.5), rest, SPEECH)[1]
    np.testing.assert_allclose(half, 0.75 * head + 0.5 * signal.head, atol=1e-6)  # 1 + 0.5 x -0.5 of the sway
    beside = add_poses(head, [(signal.head, signal.strength)], [(signal.head, signal.sway, signal.strength)])
    np.testing.assert_allclose(beside, 2 * signal.head, atol=1e-6)  # a pose leaves no sway


def test_words_or_a_file_of_words(tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    made_signal().save(path)
    assert read_prompt(str(path)).prompt == "she smiles"  # type: ignore[union-attr]
    words = read_prompt("she smiles")
    assert isinstance(words, Prompt) and words.masked("eyes").scaled(0.5).on_face(1) == Prompt(
        "she smiles", 0.5, frozenset({"eyes"}), 1
    )
    with pytest.raises(UserError, match="--prompt: is empty"):
        read_prompt("  ")
    with pytest.raises(UserError, match=r"q\.safetensors"):
        read_prompt(tmp_path / "q.safetensors")


def test_a_signal_is_kept_in_a_file(tmp_path: Path) -> None:
    signal = made_signal()
    signal.save(tmp_path / "p.safetensors")
    found = PromptSignal.load(tmp_path / "p.safetensors")
    assert (found.prompt, found.negative, found.fps) == ("she smiles", "a frown", FPS)
    for name in PromptSignal.SHAPES:
        np.testing.assert_array_equal(getattr(found, name), getattr(signal, name))
    assert not signal.expression(np.zeros(52, np.float32)).absolute
    np.testing.assert_array_equal(signal.pose.head, signal.head)
    assert len(replace(signal).resampled(Fraction(50))) == 12


# ---- the shipped weights -----------------------------------------------------------------------

needs_encoder = pytest.mark.skipif(find_spec(PACKAGE) is None, reason=f"needs {PACKAGE}")


@pytest.fixture(scope="module")
def driver() -> PromptDriver:
    return PromptDriver.from_pretrained()


@needs_encoder
@pytest.mark.parametrize(
    ("prompt", "least"),
    [
        ("she smiles and slowly turns to the left", 0.6),
        ("an angry man shaking his head", 0.4),
        ("the woman closes her eyes", 0.8),
        ("she is overjoyed", 0.6),
        ("a gloomy teenager stares at his shoes", 0.6),
        ("terrified by a noise", 0.8),
        ("the presenter swivels her head leftward", 0.4),
        ("he gazes at the stars", 0.8),
        ("she turns to her left", 0.5),
        ("like a statue, completely immobile", 0.7),
        ("first a smile, afterwards a look of anger", 0.4),
    ],
)
def test_wordings_that_were_never_learnt_are_obeyed(driver: PromptDriver, prompt: str, least: float) -> None:
    """Responses of `python -m avatar.recipes.prompts --judge`, with room for other processors."""
    found = judge(driver, next(case for case in CASES if case.prompt == prompt), seeds=2)
    assert min(found.responses) > least


@needs_encoder
def test_nothing_asked_is_hardly_any_motion(driver: PromptDriver) -> None:
    assert quiet(driver) < 0.1


@needs_encoder
def test_the_negative_prompt_pushes_away(driver: PromptDriver) -> None:
    plain, less = smile(driver, "a joyful face"), smile(driver, "a joyful face", "smiling")
    assert plain > 0.4 and less < plain - 0.1


@needs_encoder
def test_guidance_makes_motion_keep_to_the_words(driver: PromptDriver) -> None:
    case = CASES[0]
    low, high = (min(judge(driver, case, guidance, seeds=2).responses) for guidance in (1.0, 2.0))
    assert high > low > 0.3


@needs_encoder
def test_equal_seeds_give_equal_bits_and_others_other_motion(driver: PromptDriver) -> None:
    told = [driver("she nods", frames=50, fps=FPS, seed=seed) for seed in (5, 5, 6)]
    assert np.array_equal(told[0].head, told[1].head) and np.array_equal(told[0].curves, told[1].curves)
    assert not np.array_equal(told[0].head, told[2].head)


@needs_encoder
def test_a_signal_fits_its_video_and_begins_at_rest(driver: PromptDriver) -> None:
    signal = driver("she smiles and looks up", frames=61, fps=Fraction(30000, 1001))
    assert (len(signal), signal.fps, signal.prompt) == (61, Fraction(30000, 1001), "she smiles and looks up")
    assert not signal.curves[0].any() and not signal.head[0].any()
    assert signal.curves.min() >= -0.5 and signal.curves.max() <= 1 and np.abs(signal.sway).max() <= 1


@needs_encoder
def test_long_motion_has_no_seams_and_keeps_what_holds(driver: PromptDriver) -> None:
    """Three windows: where they meet, motion changes no faster than it does elsewhere."""
    tracks = motion_of(driver, "she smiles and nods", 0, seconds=18.0) / UNITS
    change = np.abs(np.diff(tracks, axis=0)).max(1)
    meeting = np.concatenate([change[k * HOP - 1 : k * HOP + CONTEXT + 1] for k in (1, 2)])
    assert meeting.max() <= np.sort(change)[-3]
    smiling = tracks[25:, TRACK["mouthSmileLeft"]]
    assert smiling.min() > 0.5 * smiling.max()


@needs_encoder
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"guidance": 0.5}, "--prompt-guidance 0.5: must be 1 to 5"),
        ({"guidance": float("nan")}, "--prompt-guidance nan: must be 1 to 5"),
        (
            {"guidance": 1, "negative": "a smile"},
            "--negative-prompt: has no effect at a --prompt-guidance of 1",
        ),
        ({"prompt": "smile " * 200}, "the prompt has 202 tokens"),
    ],
)
def test_wrong_options_are_refused(driver: PromptDriver, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        driver(**({"prompt": "a smile", "frames": 5, "fps": FPS} | options))
