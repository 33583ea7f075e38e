"""Fine-tuning of the mouth: geometry, pieces of clips, and a few steps on a person with the mean face."""

import json
import shutil
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import EXAMPLE
from safetensors.torch import save_file
from tiny import landmarks

from avatar.adapters.adapter_file import FILE, add_adapters
from avatar.backbone.checkpoint import load
from avatar.drivers.curves import INDEX
from avatar.drivers.expression_net import facing
from avatar.drivers.mesh import LEFT_EYE, FaceBasis, ReferenceMesh
from avatar.drivers.speech import WEIGHTS, SpeechToCurves, resample
from avatar.drivers.whisper import WhisperFeatures
from avatar.errors import UserError
from avatar.media import read_audio, read_image
from avatar.recipes import audio_adapter as recipe
from avatar.recipes import person_mouth, personal
from avatar.recipes.prepared import read_index
from avatar.recipes.settings import read_settings
from avatar.voice import ARTICULATION
from avatar.writer import VideoWriter

LOSSES = [0.0132788, 0.0160117, 0.0109290]


@pytest.fixture(scope="module")
def mesh() -> ReferenceMesh:
    basis = FaceBasis.load()
    return ReferenceMesh(basis, facing(landmarks(256)[None], basis)[0])


@pytest.fixture(scope="module")
def features() -> torch.Tensor:
    return WhisperFeatures.from_pretrained()(read_audio(EXAMPLE / "talk.wav"))


def wide(curves: np.ndarray) -> np.ndarray:
    """A person whose jaw opens half as far again, and who smiles on the left while speaking."""
    own = curves.copy()
    for name in ("jawOpen", "mouthClose"):
        own[:, INDEX[name]] *= 1.5
    own[:, INDEX["mouthSmileLeft"]] += own[:, INDEX["jawOpen"]] - own[:, INDEX["mouthClose"]]
    return own.clip(0, 1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, mesh: ReferenceMesh, features: torch.Tensor) -> Path:
    """A prepared folder of that person, and in run/signals what would be read from its films."""
    folder = tmp_path_factory.mktemp("person")
    (folder / "clips").mkdir()
    (folder / "run/signals").mkdir(parents=True)
    index = []
    cuts = {"a": (0, 90, "train"), "b": (90, 180, "train"), "c": (180, 260, "validation")}
    for name, (start, stop, split) in cuts.items():
        own = features[start:stop]
        told = (ARTICULATION * load(SpeechToCurves, WEIGHTS).curves(own)).clamp(0, 1).numpy()
        frames = (stop - start) // 2
        points = mesh.place(mesh.act(wide(resample(told, 25, frames))), np.zeros((frames, 6), np.float32))
        points[3] = np.nan  # a frame without a face
        signals = {"landmarks": torch.from_numpy(points), "features": own.half()}
        save_file(signals, folder / f"run/signals/{name}.safetensors")
        for ending in ("mp4", "wav"):
            (folder / f"clips/{name}.{ending}").touch()
        index.append({"id": name, "split": split, "identity": "x", "seconds": frames / 25})
    (folder / "index.json").write_text(json.dumps(index))
    return folder


def words(data: Path, *more: str) -> list[str]:
    usual = [
        "steps=3",
        "warmup=1",
        "batch=4",
        "piece=20",
        "log_every=1",
        "probe_every=1",
        "measured=0",
        "rounds=1",
    ]
    return [f"data={data}", f"out={data}/run", *usual, *more]


def test_the_mouth_is_where_the_driven_reference_has_it(mesh: ReferenceMesh) -> None:
    curves = np.random.default_rng(0).uniform(0, 0.6, (30, 52)).astype(np.float32)
    there = person_mouth.PersonMouth(mesh)(torch.from_numpy(curves)).numpy()
    np.testing.assert_allclose(there, mesh.act(curves)[:, list(person_mouth.POINTS), :2], atol=1e-5)


def test_frames_are_means_over_their_time(features: torch.Tensor) -> None:
    net = load(SpeechToCurves, WEIGHTS)
    rows = (ARTICULATION * net.curves(features[:101])).clamp(0, 1).numpy()
    config = recipe.PersonalConfig(speech=net.config, rank=2, alpha=2.0)
    with torch.no_grad():
        padded = recipe._padded(features[:101], net.context)
        shown = recipe.PersonalSpeech(config, net)(padded[None])[0].numpy()
    assert shown.shape == (50, 52)
    told = resample(rows, 25, 50)
    closed = rows[:, INDEX["mouthClose"]] > 0.3 * rows[:, INDEX["jawOpen"]]
    open_ = ~(closed[:-1:2] | closed[1::2] | closed[2::2])  # else the firmest moment is shown
    np.testing.assert_allclose(shown[open_], told[open_], atol=1e-4)
    assert open_.sum() > 10


def test_a_person_seen_in_any_pose_has_the_same_points(mesh: ReferenceMesh) -> None:
    head = np.array([[0, 0, 0, 0, 0, 0], [0.2, -0.1, 0.1, 0.1, 0.05, -1]], np.float32)
    curves = np.zeros((2, 52), np.float32)
    curves[:, INDEX["jawOpen"]] = 0.4
    points = person_mouth.own_points(mesh.place(mesh.act(curves), head), mesh)
    torch.testing.assert_close(points[0], points[1], rtol=0, atol=0.01)
    expected = mesh.act(curves)[0][list(person_mouth.POINTS), :2]
    np.testing.assert_allclose(points[0], expected, atol=0.01)


def test_what_the_nets_miss_is_learnt(mesh: ReferenceMesh) -> None:
    rng = np.random.default_rng(0)
    mouth, plain = person_mouth.PersonMouth(mesh), person_mouth.PersonMouth(mesh)
    curves = torch.from_numpy(rng.uniform(0, 0.5, (400, 52)).astype(np.float32))
    wrong = torch.from_numpy(rng.normal(0, 0.05, (52, 21, 2)).astype(np.float32))

    def seen(given: torch.Tensor) -> torch.Tensor:
        return plain(given) + torch.einsum("tk,kpd->tpd", given, wrong) + 0.01

    points = seen(curves[:300])
    points[7] = float("nan")
    mouth.correct(curves[:300], points)
    before = (plain(curves[300:]) - seen(curves[300:])).abs().mean()
    assert (mouth(curves[300:]) - seen(curves[300:])).abs().mean() < 0.1 * before


def test_frames_of_a_blink_do_not_count(mesh: ReferenceMesh) -> None:
    points = np.tile(landmarks(256), (9, 1, 1))
    points[4, LEFT_EYE.upper] = points[4, LEFT_EYE.lower]
    points[7] = np.nan
    open_eyed = np.array([True, True, True, True, False, True, True, False, True])
    assert (person_mouth.awake(person_mouth.turned(points, mesh.basis)) == open_eyed).all()
    own = person_mouth.own_points(points, mesh)
    assert (own.isfinite().all((1, 2)).numpy() == open_eyed).all()


def test_errors_of_open_eyed_frames_and_of_all() -> None:
    open_eyed = np.array([True, True, False, True])
    true = personal.Mouths(np.zeros((4, 20, 2), np.float32), np.ones(4, bool))
    away = np.array([0.0, 0.1, 0.5, 0.2], np.float32)[:, None] * np.ones((4, 20), np.float32)
    made = personal.Mouths(np.stack([away, 0 * away], -1), open_eyed)
    found = personal.landmark_errors(made, true)
    # means of (0, 0.1, 0.2) and of (0, 0.1, 0.5, 0.2); the true mouth never moves
    assert found == pytest.approx((0.1, 0.2, 0.0))


@pytest.mark.slow
def test_what_the_nets_make_is_measured(data: Path, mesh: ReferenceMesh, features: torch.Tensor) -> None:
    clip = data / "clips/a.mp4"
    face = read_image(EXAMPLE / "face.png")
    with VideoWriter(clip, size=(face.shape[1], face.shape[0]), fps=Fraction(25), force=True) as writer:
        for _ in range(4):
            writer.write(face)
    shutil.copy(EXAMPLE / "talk.wav", clip.with_suffix(".wav"))
    settings = read_settings(recipe.AudioAdapterSettings, recipe.__file__, words(data, "measured=8"))
    net = load(SpeechToCurves, WEIGHTS)
    model = recipe.PersonalSpeech(recipe.PersonalConfig(speech=net.config, rank=2, alpha=2.0), net)
    known = recipe.Speaker([recipe._padded(features, net.context)], [torch.zeros(20, 21, 2)])
    clips = [one for one in read_index(data) if one.id == "a"]
    told = model(known.piece(0, 0, 8, net.context)["features"])[0].detach()
    for number in (1, 0):
        found = recipe.measure(model, known, clips, mesh, settings, number)
        assert found["points"].shape == (8, 21, 2) and np.isfinite(found["points"]).all()
        assert np.allclose(found["curves"], told) == (number == 1)
    known.points[0][0] = torch.nan
    with pytest.raises(UserError, match="no clip of the split train begins with a face with open eyes"):
        recipe.measure(model, known, clips, mesh, settings, 1)


@pytest.mark.slow
def test_three_steps_and_the_file_that_they_leave(data: Path) -> None:
    losses = recipe.main(words(data))
    assert losses == pytest.approx(LOSSES, rel=2e-3)
    assert (data / "run" / FILE).stat().st_size < 4e6
    logged = [json.loads(row) for row in (data / "run/log.jsonl").read_text().splitlines()]
    assert [row["loss"] for row in logged] == pytest.approx(losses, abs=1e-5)
    assert all(0 < row["validation"] < 0.1 for row in logged)


@pytest.mark.slow
def test_a_wide_mouth_is_learnt(data: Path, features: torch.Tensor) -> None:
    out = data / "long"
    (out / "signals").parent.mkdir()
    (out / "signals").symlink_to(data / "run/signals")
    losses = recipe.main(words(data, f"out={out}", "steps=60", "learning_rate=5e-3"))
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:3])
    logged = [json.loads(row).get("validation") for row in (out / "log.jsonl").read_text().splitlines()]
    assert logged[-1] < 0.7 * logged[0]
    adapted = load(SpeechToCurves, WEIGHTS)
    add_adapters([(out, 1.0)], {"speech": adapted}, WEIGHTS.parent)
    plain = load(SpeechToCurves, WEIGHTS)
    means = [net.curves(features)[:, INDEX["jawOpen"]].mean() for net in (plain, adapted)]
    assert means[1] > 1.2 * means[0]


@pytest.mark.slow
def test_later_rounds_go_on_with_smaller_steps(data: Path) -> None:
    out = data / "two"
    out.mkdir()
    (out / "signals").symlink_to(data / "run/signals")
    losses = recipe.main(words(data, f"out={out}", "rounds=2", "steps=8"))
    first, second = (
        [json.loads(row)["loss"] for row in (folder / "log.jsonl").read_text().splitlines()]
        for folder in (out / "round-0", out)
    )
    assert len(first) == 8 and second == pytest.approx(losses, abs=1e-5) and len(losses) == 8 // 2
    assert np.mean(second[:3]) < 0.9 * np.mean(first[:3])  # the same pieces
    settings = read_settings(recipe.AudioAdapterSettings, recipe.__file__, words(data, "rounds=2"))
    rates = [recipe.settings_of(settings, number).learning_rate for number in range(2)]
    assert rates == [settings.learning_rate, settings.learning_rate / 4]


def test_pieces_belong_to_the_step(data: Path, mesh: ReferenceMesh) -> None:
    settings = read_settings(recipe.AudioAdapterSettings, recipe.__file__, words(data))
    known = recipe.Speaker([torch.randn(160, 1, 384), torch.randn(260, 1, 384)], [torch.randn(50, 21, 2)] * 2)
    load_piece = recipe.pieces(known, settings, 10, [1, 1])
    assert {name: tuple(value.shape) for name, value in load_piece(3).items()} == {
        "features": (4, 61, 1, 384),
        "points": (4, 20, 21, 2),
    }
    assert torch.equal(load_piece(3)["points"], load_piece(3)["points"])
    two = recipe.Speaker([torch.zeros(160, 1, 384), torch.ones(260, 1, 384)], [torch.randn(50, 21, 2)] * 2)
    assert recipe.pieces(two, settings, 10, [0, 1])(3)["features"].eq(1).all()
    assert not any(
        torch.equal(one["points"], two["points"]) for one, two in pairwise(map(load_piece, range(5)))
    )


def test_folders_that_are_not_prepared_are_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no index"):
        read_index(tmp_path)
    (tmp_path / "index.json").write_text('[{"id": "a"}]')
    with pytest.raises(UserError, match="not an index of clips"):
        read_index(tmp_path)
    (tmp_path / "index.json").write_text('[{"id": "a", "split": "train"}]')
    with pytest.raises(UserError, match=r"a\.mp4: the index names it"):
        read_index(tmp_path)
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips/a.mp4").touch()
    assert read_index(tmp_path)[0].sound is None
    with pytest.raises(UserError, match="no clip of the split train"):
        recipe.main([f"data={tmp_path}", f"out={tmp_path}/run"])
