"""The recipes: settings, the training loop, and three steps of each on made-up clips."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import cv2
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from safetensors.torch import save_file
from small_run import RUN_FILES, equal, line, line_settings, noisy_fit, points, state
from tiny import TINY, landmarks, motion, picture
from torch import nn

from avatar.backbone.checkpoint import load
from avatar.backbone.decode import ReferenceDecoder, enlarge, warp
from avatar.backbone.precision import fast_dtype
from avatar.backbone.vae import CausalVAE
from avatar.drivers.mouth import SEATS
from avatar.drivers.whisper import WhisperFeatures
from avatar.errors import UserError
from avatar.model import Generator, hole_cells
from avatar.presets import PRESETS
from avatar.recipes import (
    decoder,
    driven,
    face_basis,
    factory,
    generator,
    latents,
    meshes,
    mouth,
    speech_corpus,
    surfaces,
    vae,
)
from avatar.recipes.settings import RecipeSettings, Settings, read_settings
from avatar.recipes.shards import seeds, write
from avatar.recipes.speech_corpus import Utterance, load_utterance, save_utterance
from avatar.recipes.training import Batch, begin, rate, step_generator, train
from avatar.render import pixels

SIDE, FRAMES = 256, 17
CLIPS = 4

# Losses of the runs below in float32. Processors differ in the last digits and in the signs of the principal
# components that the VAE starts from; those that multiply bfloat16 train in it.
VAE_LOSSES = [0.0224673, 0.0578542, 0.0369362, 0.0602063]
GENERATOR_LOSSES = [0.452207, 0.450879, 0.462483, 0.447020]
DECODER_LOSSES = [8.489105, 10.871262, 7.777791, 10.241719]
CLOSE = 3e-3 if fast_dtype() == torch.float32 else 3e-2


# ---- settings ----------------------------------------------------------------------------------


def test_settings_are_those_of_the_yaml_changed_by_words() -> None:
    found = read_settings(vae.VAESettings, "vae", ["batch=3", "learning_rate=1e-3", "out=runs/other"])
    assert (found.batch, found.learning_rate, found.out) == (3, 1e-3, Path("runs/other"))
    assert (found.preset, found.seed) == ("mini", 0)


@pytest.mark.parametrize(
    ("kind", "recipe"),
    [
        (vae.VAESettings, "vae"),
        (generator.GeneratorSettings, "generator"),
        (decoder.DecoderSettings, "decoder"),
    ],
)
def test_the_yaml_of_a_recipe_is_complete(kind: type[Settings], recipe: str) -> None:
    assert read_settings(kind, recipe, []).preset == "mini"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("kind", "recipe"),
    [
        (driven.DrivenSettings, "driven"),
        (face_basis.FaceBasisSettings, "face_basis"),
        (factory.FactorySettings, "factory"),
        (latents.ClipLatentsSettings, "latents"),
        (meshes.MeshesSettings, "meshes"),
        (mouth.MouthSettings, "mouth"),
        (speech_corpus.CorpusSettings, "speech_corpus"),
    ],
)
def test_recipes_of_data_have_all_their_settings_in_their_yaml(
    kind: type[RecipeSettings], recipe: str
) -> None:
    assert read_settings(kind, recipe, ["out=elsewhere"]).out == Path("elsewhere")  # type: ignore[attr-defined]


def test_the_factory_makes_what_is_missing(tmp_path: Path) -> None:
    words = [f"out={tmp_path}", "size=64", "first=5"]
    factory.main([*words, "clips=1"])
    (first,) = tmp_path.iterdir()
    before = first.stat().st_mtime_ns
    factory.main([*words, "clips=2", "lone=true"])
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["clip-5.safetensors", "clip-6.safetensors"]
    assert first.stat().st_mtime_ns == before
    with pytest.raises(UserError, match="lone and speech exclude each other"):
        factory.main([*words, "lone=true", f"speech={tmp_path}"])


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("batchh=2", "batchh: recipe vae has no such setting; did you mean batch?"),
        ("learningrate=1", "learningrate: recipe vae has no such setting; did you mean learning_rate?"),
        ("batch", "batch: a setting is written key=value"),
        ("--batch", "--batch: a setting is written key=value"),
        ("batch=two", "batch: recipe vae: input should be a valid integer"),
        ("learning_rate=fast", "learning_rate: recipe vae: input should be a valid number"),
        ("crop=12.5", "crop: recipe vae: input should be a valid integer"),
        ("out=", "out: recipe vae: input is not a valid path"),
        ("batch=0", "batch: recipe vae: input should be greater than 0"),
        ("held_out=0", "held_out: recipe vae: input should be greater than 0"),
        ("data=[1", "data=[1: the value is not valid YAML"),
    ],
)
def test_a_wrong_word_is_refused_by_name(word: str, message: str) -> None:
    with pytest.raises(UserError) as refused:
        read_settings(vae.VAESettings, "vae", [word])
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("recipe", [vae, generator, decoder])
def test_too_few_clips_are_refused(recipe: object, tmp_path: Path) -> None:
    words = [f"data={tmp_path}", f"out={tmp_path}/run", "held_out=1"]
    with pytest.raises(UserError, match="0 clips, more than 1 are needed"):
        recipe.main(words)  # type: ignore[attr-defined]


# ---- shards ------------------------------------------------------------------------------------


def test_shards_are_found_by_number_and_written_whole(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    for seed in (10, 9, 100):
        write({"x": np.full(3, seed)}, folder / f"clip-{seed}.safetensors", {"facts": "none"})
    write({"x": np.zeros(1)}, folder / "driven-5.safetensors")
    (folder / "clip-7.4242.part").touch()  # left by one that was stopped
    assert seeds(folder, "clip") == [9, 10, 100]
    assert load_file(folder / "clip-9.safetensors")["x"].tolist() == [9, 9, 9]
    assert len(list(folder.glob("*.part"))) == 1


def test_arrays_of_any_memory_layout_are_read_as_they_were(tmp_path: Path) -> None:
    table = np.arange(24.0).reshape(2, 3, 4)
    sample = {"turned": table.transpose(2, 0, 1), "strided": table[:, ::2], "number": np.array(7)}
    write(sample, tmp_path / "clip-0.safetensors")
    found = load_file(tmp_path / "clip-0.safetensors")
    for name, value in sample.items():
        np.testing.assert_array_equal(found[name], value)
        assert found[name].shape == value.shape


# ---- the loop ----------------------------------------------------------------------------------


def test_the_rate_warms_up_stays_and_falls_to_zero(tmp_path: Path) -> None:
    settings = line_settings(tmp_path, steps=40, warmup=4, learning_rate=1.0, decay=0.25)
    rates = [rate(step, settings) for step in range(40)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4:31] == [1.0] * 27
    assert rates[31:] == pytest.approx([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
    assert rate(40, settings) == 0


def test_random_numbers_belong_to_seed_and_step() -> None:
    drawn = [torch.randn(3, generator=step_generator(*key)) for key in ((0, 1), (0, 1), (0, 2), (1, 1))]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2]) and not torch.equal(drawn[0], drawn[3])


def test_a_run_starts_from_given_weights(tmp_path: Path) -> None:
    first = train(line(), points, noisy_fit, line_settings(tmp_path / "a", steps=40))
    weights = tmp_path / "a/model.safetensors"
    losses = train(line(), points, noisy_fit, line_settings(tmp_path / "b", steps=8, start=weights))
    assert losses[0] < 0.5 * first[0]
    log = (tmp_path / "b/log.jsonl").read_text().splitlines()
    assert json.loads(log[0]) == {"start": str(weights), "new": []}


def test_weights_to_start_from_must_fit_but_may_be_few(tmp_path: Path) -> None:
    net = line()
    own = {name: value.clone() for name, value in net.state_dict().items()}
    save_file({"linear.weight": torch.full_like(own["linear.weight"], 3)}, tmp_path / "few.safetensors")
    assert begin(net, tmp_path / "few.safetensors") == sorted(own.keys() - {"linear.weight"})
    assert net.linear.weight.eq(3).all() and torch.equal(net.linear.bias, own["linear.bias"])
    save_file({"other": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=r"other\.safetensors: its other does not fit"):
        begin(net, tmp_path / "other.safetensors")


def test_new_inputs_of_a_layer_are_not_heard_yet(tmp_path: Path) -> None:
    net = line()
    out, inputs = net.linear.weight.shape
    save_file({"linear.weight": torch.full((out, inputs - 1), 3.0)}, tmp_path / "narrow.safetensors")
    assert "linear.weight" in begin(net, tmp_path / "narrow.safetensors")
    assert net.linear.weight[:, :-1].eq(3).all() and net.linear.weight[:, -1].eq(0).all()
    save_file({"linear.weight": torch.zeros(out + 1, inputs)}, tmp_path / "tall.safetensors")
    with pytest.raises(UserError, match=r"its linear\.weight does not fit"):
        begin(net, tmp_path / "tall.safetensors")


def test_training_learns_logs_and_averages(tmp_path: Path) -> None:
    def probe(net: nn.Module) -> dict[str, float]:
        assert not net.training and not torch.is_grad_enabled()
        return {"slope": round(net.linear.weight[0, 0].item(), 6)}  # type: ignore[union-attr, operator]

    net = line()
    losses = train(net, points, noisy_fit, line_settings(tmp_path, steps=40, probe_every=8), probe)
    assert len(losses) == 40 and np.mean(losses[-4:]) < 0.2 * losses[0]
    log = [json.loads(row) for row in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in log] == list(range(4, 41, 4))
    assert [row["loss"] for row in log] == pytest.approx(losses[3::4], abs=1e-5)
    assert [row["step"] for row in log if "slope" in row] == [8, 16, 24, 32, 40]
    found = state(tmp_path)
    assert found["seen"] == found["ema seen"] == 160
    assert log[-1]["slope"] == pytest.approx(found["ema linear.weight"][0, 0].item(), abs=1e-5)
    assert net.training and torch.equal(net.linear.weight, found["linear.weight"])
    assert not torch.equal(found["linear.weight"], found["ema linear.weight"])
    weights = load_file(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(weights["linear.weight"], found["ema linear.weight"].half().numpy())
    assert sorted(path.name for path in tmp_path.iterdir()) == RUN_FILES


def test_a_run_stopped_by_the_clock_goes_on_as_if_it_had_not(tmp_path: Path) -> None:
    whole = train(line(), points, noisy_fit, line_settings(tmp_path / "whole"))
    parts = []
    for _ in range(2):  # a clock that has run out stops after one step
        parts += train(line(), points, noisy_fit, line_settings(tmp_path / "parts", minutes=1e-9))
    assert len(parts) == 2
    parts += train(line(), points, noisy_fit, line_settings(tmp_path / "parts"))
    assert parts == whole
    assert equal(state(tmp_path / "parts"), state(tmp_path / "whole"))
    averaged = [load_file(tmp_path / run / "model.safetensors") for run in ("parts", "whole")]
    assert all(np.array_equal(averaged[0][name], averaged[1][name]) for name in averaged[1])


def test_a_run_that_broke_goes_on_from_its_last_state(tmp_path: Path) -> None:
    def broken(step: int) -> Batch:
        if step == 7:
            raise OSError("the disk is gone")
        return points(step)

    whole = train(line(), points, noisy_fit, line_settings(tmp_path / "whole"))
    with pytest.raises(OSError, match="the disk is gone"):
        train(line(), broken, noisy_fit, line_settings(tmp_path / "broken", save_minutes=0))
    assert state(tmp_path / "broken")["step"] == 7
    rest = train(line(), points, noisy_fit, line_settings(tmp_path / "broken"))
    assert rest == whole[7:]
    assert equal(state(tmp_path / "broken"), state(tmp_path / "whole"))


def test_a_finished_run_is_not_trained_on(tmp_path: Path) -> None:
    train(line(), points, noisy_fit, line_settings(tmp_path))
    before = state(tmp_path)
    assert train(line(), points, noisy_fit, line_settings(tmp_path)) == []
    assert equal(state(tmp_path), before)


def test_a_loss_that_is_no_number_stops_the_run_and_is_not_saved(tmp_path: Path) -> None:
    def poisoned(step: int) -> Batch:
        return {"x": points(step)["x"] * (float("nan") if step == 5 else 1)}

    settings = line_settings(tmp_path, save_minutes=0)
    with pytest.raises(FloatingPointError, match="loss is nan at step 6"):
        train(line(), poisoned, noisy_fit, settings)
    assert state(tmp_path)["step"] == 5
    assert all(value.isfinite().all() for value in state(tmp_path).values())


def test_frozen_weights_stay(tmp_path: Path) -> None:
    net = line()
    net.linear.bias.requires_grad_(False)
    before = net.linear.bias.clone()
    train(net, points, noisy_fit, line_settings(tmp_path))
    assert torch.equal(net.linear.bias, before)
    assert torch.equal(state(tmp_path)["ema linear.bias"], before)


# ---- a few steps of each recipe ----------------------------------------------------------------


class Run(NamedTuple):
    """A finished run of a recipe."""

    losses: list[float]
    out: Path
    words: list[str]

    @property
    def weights(self) -> Path:
        return self.out / "model.safetensors"


def made_up_clip(seed: int) -> dict[str, np.ndarray]:
    """A record as the clip factory writes them: frame k shows the reference k + 1 px further left and up."""
    whole = picture(SIDE + FRAMES, seed)
    curves, head = motion(FRAMES, seed)
    steps = np.arange(1, FRAMES + 1)
    return {
        "frames": np.stack([whole[k : k + SIDE, k : k + SIDE] for k in steps]),
        "reference": whole[:SIDE, :SIDE].copy(),
        "reference_landmarks": landmarks(SIDE),
        "curves": curves.astype(np.float16),
        "reference_curves": np.zeros(52, np.float16),
        "head": head,
        "flow": np.tile(steps[:, None, None, None], (1, 2, 64, 64)).astype(np.float16),
        "visible": np.ones((FRAMES, 64, 64), np.uint8),
        "parts": np.full((FRAMES, 128, 128), surfaces.MOUTH_PART, np.uint8),
        "seats": np.array(SEATS, np.float32),
        "utterance": np.array([-1]),
        "start": np.array([-1]),
    }


def finish(recipe: ModuleType, out: Path, *words: str) -> Run:
    """Four steps, two of them in the warm-up, with every step and the probe in the log."""
    usual = ["preset=tiny", "steps=4", "warmup=2", "decay=0.5", "batch=2", "held_out=1", "threads=1"]
    words_of_run = [*usual, "log_every=1", "probe_every=2", *words]
    return Run(recipe.main([*words_of_run, f"out={out}"]), out, words_of_run)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Clips and their driven references, and a preset of tiny nets."""
    folder = tmp_path_factory.mktemp("data")
    for seed in range(CLIPS):
        clip = made_up_clip(seed)
        write(clip, folder / f"clips/clip-{seed}.safetensors")
        points = np.tile(clip["reference_landmarks"], (FRAMES, 1, 1))
        points[5 * seed :, 0, 0] = np.nan if seed == 3 else points[0, 0, 0]
        write({"points": points}, folder / f"meshes/mesh-{seed}.safetensors")
    driven.main([f"clips={folder}/clips", f"out={folder}/driven"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "tiny", TINY)
        yield folder


@pytest.fixture(scope="module")
def vae_run(data: Path) -> Run:
    return finish(vae, data / "vae", f"data={data}/clips", "crop=64")


def encoding(data: Path, vae_run: Run) -> list[str]:
    """Settings of latents for the clips of `data`."""
    folders = [f"{name}={data}/{name}" for name in ("clips", "driven", "meshes")]
    return [*folders, f"vae={vae_run.weights}", f"out={data}/latents", "preset=tiny"]


@pytest.fixture(scope="module")
def encoded(data: Path, vae_run: Run) -> Path:
    latents.main(encoding(data, vae_run))
    return data / "latents"


@pytest.fixture(scope="module")
def generator_run(data: Path, encoded: Path, vae_run: Run) -> Run:
    nets = (f"vae={vae_run.weights}", "probe_people=0")
    return finish(generator, data / "generator", f"data={encoded}", *nets)


@pytest.fixture(scope="module")
def decoder_run(data: Path, encoded: Path, vae_run: Run, generator_run: Run) -> Run:
    files = [f"data={encoded}", f"clips={data}/clips", f"driven={data}/driven"]
    nets = [f"vae={vae_run.weights}", f"generator={generator_run.weights}"]
    return finish(decoder, data / "decoder", *files, *nets, "frames=3", "probe_people=0")


def log_of(run: Run) -> list[dict[str, float]]:
    return [json.loads(row) for row in (run.out / "log.jsonl").read_text().splitlines()]


def resumed(recipe: ModuleType, run: Run) -> bool:
    """Whether the same run, stopped twice by a clock that has run out, ends with the same numbers."""
    other = run.out.with_name(f"{run.out.name}-resumed")
    words = [*run.words, f"out={other}"]
    losses = recipe.main([*words, "minutes=1e-9"]) + recipe.main([*words, "minutes=1e-9"])
    assert len(losses) == 2
    losses += recipe.main(words)
    return losses == run.losses and equal(state(other), state(run.out))


def test_driven_references_fit_their_clips(data: Path) -> None:
    assert seeds(data / "driven", "driven") == list(range(CLIPS))
    found = load_file(data / "driven/driven-1.safetensors")
    shapes = {key: (value.shape, value.dtype.name) for key, value in found.items()}
    assert shapes == {
        "picture": ((FRAMES, SIDE, SIDE, 3), "uint8"),
        "flow": ((FRAMES, 2, 64, 64), "float16"),
        "hole": ((FRAMES, SIDE, SIDE), "uint8"),
        "lids": ((FRAMES, SIDE, SIDE), "uint8"),
        "relief": ((FRAMES, 9, 64, 64), "float16"),
        "gain": ((FRAMES, 64, 64), "float16"),
        "face": ((32, 32), "float32"),
        "motion": ((2,), "float32"),
    }
    clip = load_file(data / "clips/clip-1.safetensors")
    moved = cv2.remap(
        clip["reference"],
        np.mgrid[:SIDE, :SIDE][::-1].transpose(1, 2, 0).astype(np.float32)
        + cv2.resize(found["flow"][8].transpose(1, 2, 0).astype(np.float32), (SIDE, SIDE)),
        None,
        cv2.INTER_LINEAR,
    )
    shown = found["hole"][8] == 0
    assert np.abs(moved.astype(int) - found["picture"][8])[shown].mean() < 1
    assert found["hole"].max() == 255
    assert (found["motion"] > 0.3).all()


def test_a_speaking_clip_is_heard_from_where_it_starts(data: Path) -> None:
    rng = np.random.default_rng(0)
    sound = rng.normal(0, 0.1, 3 * 16_000).astype(np.float32)
    save_utterance(Utterance(sound, (), np.zeros((300, 52), np.float32), "000007", ""), data)
    listen = latents.Listener(WhisperFeatures.from_pretrained(), data)
    features = listen.whisper(load_utterance(data / "000007").audio)[:, -1]
    heard = listen({"utterance": np.array([7]), "start": np.array([16_000])}, 5)
    assert heard["audio"].shape == (5, 4, 10, 384)
    # Frame 16, the last, is shown from 1.64 s to 1.68 s; its ten features are centred on 1.66 s.
    expected = features[78:88].half().numpy()
    np.testing.assert_array_equal(heard["audio"][4, 3], expected)
    assert heard["heard"] == [1]
    silent = listen({"utterance": np.array([-1]), "start": np.array([-1])}, 5)
    assert silent["heard"] == [0]
    assert silent["audio"].shape == heard["audio"].shape


def test_existing_records_are_kept(data: Path, encoded: Path, vae_run: Run) -> None:
    files = [*(data / "driven").iterdir(), *encoded.iterdir()]
    before = {path: path.stat().st_mtime_ns for path in files}
    driven.main([f"clips={data}/clips", f"out={data}/driven"])
    latents.main(encoding(data, vae_run))
    assert {path: path.stat().st_mtime_ns for path in files} == before


def test_the_vae_trains_and_resumes_exactly(vae_run: Run) -> None:
    assert vae_run.losses == pytest.approx(VAE_LOSSES, rel=CLOSE)
    log = log_of(vae_run)
    assert [row["loss"] for row in log] == pytest.approx(vae_run.losses, abs=1e-5)
    assert log[-1]["held_out_psnr"] > 20
    assert resumed(vae, vae_run)


def test_squares_of_clips_belong_to_the_step(data: Path) -> None:
    words = [f"data={data}/clips", "crop=64", "batch=2", "held_out=1", "images=0.5"]
    read = vae.ClipReader(read_settings(vae.VAESettings, "vae", words))
    assert [film.id for film in (*read.held_out, *read.films)] == [f"clip-{seed}" for seed in range(4)]
    shapes = {tuple(read(step)["x"].shape) for step in range(40)}
    assert shapes == {(8, 3, 1, 64, 64), (2, 3, 17, 64, 64), (4, 3, 9, 64, 64), (8, 3, 5, 64, 64)}
    assert torch.equal(read(7)["x"], read(7)["x"])
    assert not torch.equal(read(7)["x"], read(8)["x"])
    x = read(7)["x"]
    assert -1 <= x.min() < -0.5 and 0.5 < x.max() <= 1


def test_latents_fit_their_clips(encoded: Path, data: Path, vae_run: Run) -> None:
    found = load_file(encoded / "latent-2.safetensors")
    shapes = {key: value.shape for key, value in found.items()}
    assert shapes == {
        "place": (2,),
        "clean": (16, 5, 8, 8),
        "driven": (16, 5, 8, 8),
        "reference": (16, 1, 8, 8),
        "hole": (4, 5, 8, 8),
        "face": (8, 8),
        "motion": (2,),
        "audio": (5, 4, 10, 384),
        "heard": (1,),
        "pose": (16, 5, 8, 8),
        "codes": (5, 4, 48),
        "seen": (1,),
    }
    clip = load_file(data / "clips/clip-2.safetensors")
    with torch.no_grad():
        coded = load(CausalVAE, vae_run.weights).decode(torch.from_numpy(found["clean"])[None].float())
    row, column = 8 * found["place"]
    window = (..., slice(row, row + 64), slice(column, column + 64))
    assert (coded - pixels(clip["frames"])[window]).abs().mean() < 0.1
    hole = torch.from_numpy(load_file(data / "driven/driven-2.safetensors")["hole"]).float() / 255
    np.testing.assert_array_equal(found["hole"], hole_cells(hole[window], 8).half())
    # The face's dots are white, the rest of the skeleton picture is black.
    with torch.no_grad():
        skeleton = load(CausalVAE, vae_run.weights).decode(torch.from_numpy(found["pose"])[None].float())
    nose = clip["reference_landmarks"][1, :2] - [column, row]
    assert skeleton[0, :, 0].mean() < -0.5
    assert skeleton[0, :, 0, int(nose[1]), int(nose[0])].mean() > skeleton[0, :, 0].mean() + 0.5
    last = load_file(encoded / "latent-3.safetensors")
    assert found["seen"] == [1] and last["seen"] == [0]
    np.testing.assert_allclose(found["codes"][0, 0], found["codes"][4, 3], atol=2e-3)  # one mesh all along
    assert found["codes"].std(-1) == pytest.approx(1, abs=0.02)


def test_the_generator_trains_and_resumes_exactly(generator_run: Run) -> None:
    assert generator_run.losses == pytest.approx(GENERATOR_LOSSES, rel=CLOSE)
    log = log_of(generator_run)
    assert log[0]["zero"] in (0, pytest.approx(1))  # the untrained net is the driven reference
    assert log[-1]["held_out"] == pytest.approx(1, abs=0.1)
    assert log[-1]["held_out_hole"] == pytest.approx(1, abs=0.2)
    assert resumed(generator, generator_run)


def test_windows_of_latents_lie_around_the_face() -> None:
    face = torch.zeros(32, 32)
    face[9:25, 6:20] = 1
    picks = {latents.pick_window(face, 8, np.random.default_rng(seed)) for seed in range(80)}
    assert picks == {(row, column, 8) for row in (12, 13, 14) for column in (8, 9, 10)}
    assert latents.pick_window(face, None, np.random.default_rng(0)) == (0, 0, 32)


def test_the_decoder_trains_and_resumes_exactly(decoder_run: Run) -> None:
    assert decoder_run.losses == pytest.approx(DECODER_LOSSES, rel=CLOSE)
    log = log_of(decoder_run)
    # The untrained net shows the driven reference.
    assert log[0]["psnr"] == pytest.approx(log[0]["psnr_driven"], abs=0.5)
    assert 0.9 < log[0]["mask"] < 1
    assert {"held_out_psnr", "held_out_flow", "held_out_mouth"} <= log[-1].keys()
    assert resumed(decoder, decoder_run)


def test_all_that_the_decoder_sees_lies_in_one_window(data: Path, encoded: Path, decoder_run: Run) -> None:
    settings = read_settings(decoder.DecoderSettings, "decoder", [*decoder_run.words, "out=none"])
    sample = decoder.FrameReader(settings).sample(2, np.random.default_rng(4))
    assert sample["chosen"].shape == (3,) and (sample["chosen"].diff() > 0).all()
    truth, picture_, flow = sample["truth"], sample["picture"], sample["true_flow"]
    assert truth.shape == (3, 3, 64, 64) and flow.shape == (3, 2, 16, 16)
    assert torch.equal(flow[:, 0, 0, 0], sample["chosen"] + 1.0)
    moved = warp(picture_.expand(3, -1, -1, -1), enlarge(flow, (64, 64)))
    assert (moved - truth)[..., :40, :40].abs().max() < 1e-4  # beyond lies what the window does not show
    bent = warp(picture_.expand(3, -1, -1, -1), enlarge(sample["prior"], (64, 64)))
    error = ((bent - sample["shown"]) * (1 - sample["mouth"][:, None]))[..., 20:44, 20:44]
    assert error.abs().mean() < 0.02


@pytest.mark.parametrize(
    ("run", "kind"),
    [("vae_run", CausalVAE), ("generator_run", Generator), ("decoder_run", ReferenceDecoder)],
)
def test_runs_leave_weights_that_load_and_nothing_half_written(
    run: str, kind: type[nn.Module], request: pytest.FixtureRequest
) -> None:
    out = request.getfixturevalue(run).out
    assert set(RUN_FILES) <= {path.name for path in out.iterdir()} <= {*RUN_FILES, "sheet.png"}
    net = load(kind, out / "model.safetensors")
    averaged = torch.load(out / "states/state-4.pt", weights_only=True)["ema"]
    assert all(torch.equal(value, averaged[name].half().float()) for name, value in net.state_dict().items())


def test_a_preset_without_the_decode_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="preset hunyuan has no reference-aware decode"):
        decoder.main(["preset=hunyuan", f"out={tmp_path}"])
