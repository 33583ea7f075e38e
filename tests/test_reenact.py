"""The recipe of pose and expression: films that drive and are unlike each other, and how a run goes."""

from __future__ import annotations

import json
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from avatar import media, metrics
from avatar.drivers.curves import INDEX
from avatar.errors import UserError
from avatar.evaluate import beside_truth
from avatar.following import Joints, Motion, joint_share
from avatar.recipes import films, halfbody, reenact
from avatar.report import CHANNELS, Steering
from avatar.watch import generated_region
from avatar.writer import VideoWriter


def test_the_motion_of_the_rendered_face_is_unlike_the_other_film() -> None:
    rng = np.random.default_rng(0)
    tracks = {name: np.cumsum(rng.standard_normal(121)) for name in CHANNELS}
    other = Motion(Fraction(30), tracks)
    curves, angles = films.draw_motion(other, 100, np.random.default_rng(1))
    assert curves.shape == (100, 52) and curves.min() >= 0 and curves.max() <= 1
    drawn = [*angles.T, curves[:, INDEX["jawOpen"]], curves[:, INDEX["eyeBlinkLeft"]]]
    drawn.append(curves[:, INDEX["browInnerUp"]])
    for track in drawn:
        assert track.std() > 0.05
        for name in CHANNELS:  # clipping to 0..1 gives a little back
            assert abs(metrics.correlation(track, other.at(name, films.FPS, 100))) < 0.1, name
    pairs = [metrics.correlation(a, b) for i, a in enumerate(drawn) for b in drawn[:i]]
    assert np.abs(pairs).max() < 0.1
    assert not np.array_equal(angles, films.draw_motion(None, 100, np.random.default_rng(1))[1])


def test_exact_joints_are_their_own_truth() -> None:
    joints = np.tile([[100.0, 200], [90, 260], [80, 320], [200, 200], [210, 260], [220, 320]], (3, 1, 1))
    joints[:, 2] += np.arange(3)[:, None] * [30, 0]
    film = halfbody.Film(np.zeros((3, 512, 512, 3), np.uint8), joints.astype(np.float32))
    exact = films.exact_pose(film)
    own = Joints(exact, exact.at_rows(np.zeros(1, int)))
    assert joint_share(exact, own) == 1
    # A wrist moves 30 px a frame, shoulders are 100 px apart: in 2 of 3 frames one of six is elsewhere.
    assert joint_share(exact, own, still=True) == pytest.approx(1 - 2 / 18)
    assert exact.size == (512, 512) and exact.fps == films.FPS


def test_a_true_person_leaves_the_error_of_what_is_around(talking: Path, tmp_path: Path) -> None:
    frames = np.stack(list(islice(media.read_video(talking), 4)))
    size = (frames.shape[2], frames.shape[1])
    for name, shown in (("truth", frames), ("dark", frames // 2)):
        with VideoWriter(tmp_path / f"{name}.mp4", size=size, fps=Fraction(25)) as film:
            for frame in shown:
                film.write(frame)
    clip, dark = tmp_path / "truth.mp4", tmp_path / "dark.mp4"
    truth = beside_truth(dark, clip, generated_region(media.read_image(clip)))
    found = reenact.true_person(truth, dark)
    around = metrics.psnr(float(np.mean((frames[1:] / 2.0) ** 2)))  # of the dark video, everywhere
    assert found.psnr is not None and found.face_psnr is not None
    assert found.psnr > around + 1 and found.face_psnr > 30 + around
    assert found.psnr < 30


def test_parts_are_checked() -> None:
    assert reenact.names("self, mix") == ["self", "mix"]
    assert reenact.names("") == list(reenact.PARTS)
    with pytest.raises(UserError, match="--parts dance: must be of self, separation"):
        reenact.names("dance")


def test_a_run_keeps_what_was_found_and_names_what_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(bench: reenact.Bench) -> dict[str, reenact.Figures]:
        raise UserError("no face")

    monkeypatch.setitem(reenact.PARTS, "mix", lambda bench: {"both": {"lip_loss": 0.01, "mix_cost": 1.7}})
    monkeypatch.setitem(reenact.PARTS, "body", fails)
    (tmp_path / "figures.json").write_text(json.dumps({"self": {"self": {"psnr": 20.0}}}))
    reenact.run(reenact.Bench(tmp_path), ["body", "mix"])
    printed = capsys.readouterr().out
    assert "left out: body (no face)" in printed and "FAIL" not in printed.split("wall time")[0]
    assert "wall time of a mix" in printed and "FAIL" in printed
    content = json.loads((tmp_path / "figures.json").read_text())
    assert set(content) == {"self", "mix"} and content["mix"]["both"]["mix_cost"] == 1.7


def test_what_is_lost() -> None:
    assert reenact.lost({"closure": 0.9}, {"closure": 0.7}, "closure") == pytest.approx(0.2)
    assert reenact.lost({"closure": None}, {"closure": 0.7}, "closure") == 0
    assert Steering().lip_loss is None
