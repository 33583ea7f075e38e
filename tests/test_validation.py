"""What a training run shows: figures of lips on made tracks, the sheet, and videos in the run folder."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_run import equal, line, line_settings, noisy_fit, points, state
from torch import nn

from avatar.adapters.adapter_file import Adapter, digest
from avatar.drivers.speech import WEIGHTS
from avatar.media import audio_seconds, frame_count, video_info
from avatar.metrics import Tracks
from avatar.recipes import validation
from avatar.recipes.prepared import Footage
from avatar.recipes.training import train

FPS = 25.0
SPOKEN = 0.1 * (1 - np.cos(np.arange(100) / 4)).clip(0.2, None)  # opens and shuts every second


def tracks(aperture: np.ndarray) -> Tracks:
    return Tracks(aperture, *[np.zeros(len(aperture))] * 6)


def film(path: Path, shades: list[int]) -> None:
    frames = [np.full((64, 96, 3), shade, np.uint8) for shade in shades]
    validation.write_video(frames, path, Fraction(25))


def test_moments_are_where_the_lips_are_shut_or_open() -> None:
    aperture = np.array([0, 0, 1, 1, 1, 0.4, 0.4, 0.1])  # P90 is 1
    found = [(p.kind, p.start, p.end) for p in validation.moments(aperture, 2.0)]
    assert found == [("closed", 0, 1), ("open", 1, 2.5), ("other", 2.5, 3.5), ("closed", 3.5, 4)]


def test_lips_that_do_as_the_true_ones_have_full_figures() -> None:
    found = validation.lip_figures(tracks(0.5 * SPOKEN), tracks(SPOKEN), FPS)  # size does not count
    assert found == {"aperture_r": pytest.approx(1), "closure": 1, "opening": 1}


def test_lips_that_never_shut_and_lips_that_are_late_are_told_of() -> None:
    ajar = validation.lip_figures(tracks(SPOKEN.clip(0.1, None)), tracks(SPOKEN), FPS)
    assert ajar["closure"] == 0 and ajar["opening"] == 1
    late = validation.lip_figures(tracks(np.roll(SPOKEN, 12)), tracks(SPOKEN), FPS)
    assert late["aperture_r"] < -0.5 and late["closure"] < 0.5
    assert validation.lip_figures(tracks(np.full(100, np.nan)), tracks(SPOKEN), FPS)["closure"] == 0


def test_means_leave_out_what_can_not_be_told() -> None:
    found = validation.means([{"a": 1.0, "b": 2.0}, {"a": 2.0}, {"c": float("nan")}], "shown_")
    assert found == {"shown_a": 1.5, "shown_b": 2.0}


def test_a_sheet_has_a_row_for_each_video_in_the_order_of_time(tmp_path: Path) -> None:
    film(tmp_path / "rising.mp4", list(range(40, 220, 10)))
    film(tmp_path / "dark.mp4", [30] * 3)
    sheet = np.asarray(validation.contact_sheet(sorted(tmp_path.glob("*.mp4")), "step 3")).astype(int)
    tile, row = validation.TILE * 96 // 64, validation.TITLE + validation.TILE
    assert sheet.shape == (2 * row, validation.COLUMNS * tile, 3)
    levels = sheet[row + validation.TITLE + 80, tile // 2 :: tile, 0]  # "dark" comes first
    assert (np.diff(levels) > 10).all()
    assert abs(levels[0] - 40) < 6 and abs(levels[-1] - 210) < 6
    assert (sheet[100, : 3 * tile, 0] < 45).all() and (sheet[100, 3 * tile :, 0] == 255).all()


def test_a_run_shows_what_its_average_makes_and_goes_on_as_without(tmp_path: Path) -> None:
    def show(net: nn.Module, place: Path) -> dict[str, float]:
        assert not net.training and not (place / "one.mp4").exists()
        film(place / "one.mp4", [10] * 5)
        (place / "other.txt").write_text("")
        return {"shown_slope": round(net.linear.weight[0, 0].item(), 6)}  # type: ignore[union-attr, operator]

    plain = train(line(), points, noisy_fit, line_settings(tmp_path / "plain"))
    out = tmp_path / "run"
    whole = train(line(), points, noisy_fit, line_settings(out, show_every=5, log_every=1), show=show)
    assert whole == plain and equal(state(out), state(tmp_path / "plain"))
    assert sorted(path.name for path in (out / "validation").iterdir()) == [
        "step-10-one.mp4",
        "step-5-one.mp4",
    ]
    assert video_info(out / "validation/step-10-one.mp4").frames == 5
    assert Image.open(out / "sheet.png").size == (5 * validation.TILE * 96 // 64, 174)
    assert not (out / "validation.part").exists()
    log = [json.loads(row) for row in (out / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in log if "shown_slope" in row] == [5, 10]

    parts = []  # stopped by the clock in between, shown anew where it goes on
    for _ in range(6):
        parts += train(
            line(), points, noisy_fit, line_settings(tmp_path / "cut", show_every=5, minutes=1e-9), show=show
        )
    parts += train(line(), points, noisy_fit, line_settings(tmp_path / "cut", show_every=5), show=show)
    assert parts == whole and equal(state(tmp_path / "cut"), state(out))


@pytest.mark.slow
def test_a_clip_is_driven_by_its_first_frame_and_its_sound(
    talking: Path, speech: Path, tmp_path: Path
) -> None:
    """The clip was made by the same nets, so that lips and sound go as in it."""
    clip = Footage("talk", talking, speech, "validation")
    nothing = Adapter("audio", {"speech": digest(WEIGHTS)}, 1.0, {})
    found = validation.drive_clips([clip], nothing, tmp_path)
    info = video_info(tmp_path / "talk.mp4")
    assert info.has_audio and info.frames == frame_count(audio_seconds(speech), Fraction(25))
    assert found["shown_aperture_r"] > 0.7 and found["shown_closure"] > 0.7 and found["shown_opening"] > 0.7
    assert found["shown_sync_r"] > 0.4 and abs(found["shown_sync_lag"]) <= 2


def test_nothing_is_shown_unless_asked_for(tmp_path: Path) -> None:
    def show(net: nn.Module, place: Path) -> dict[str, float]:
        raise AssertionError

    train(line(), points, noisy_fit, line_settings(tmp_path), show=show)
    assert not (tmp_path / "validation").exists()
