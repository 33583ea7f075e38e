"""The recipes of the soundtrack: a few steps of each, with recorded losses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from soundtrack_nets import TINY, soundtrack
from tiny import vae as tiny_vae

from avatar.backbone.checkpoint import load, save
from avatar.backbone.hifigan import HiFiGAN
from avatar.backbone.mel_vae import MelVAE
from avatar.backbone.precision import fast_dtype
from avatar.backbone.v2a import V2A
from avatar.errors import UserError
from avatar.recipes import (
    soundtrack_classifier,
    soundtrack_data,
    soundtrack_eval,
    soundtrack_latents,
    soundtrack_page,
    soundtrack_v2a,
    soundtrack_vae,
    soundtrack_vocoder,
)
from avatar.recipes.settings import read_settings
from avatar.recipes.sounding import FRAMES, SAMPLES
from avatar.soundtrack_presets import LATENT_SECONDS, PRESETS

SCENES = 3

# Losses of the runs below in float32; processors that multiply bfloat16 train in it.
VAE_LOSSES = [0.285141, 0.371123, 0.389480]
VOCODER_LOSSES = [124.912987, 47.830284, 79.266800]
CLASSIFIER_LOSSES = [0.749751, 0.655160, 0.612394]
V2A_LOSSES = [2.595016, 2.656044, 2.373050]
CLOSE = 3e-3 if fast_dtype() == torch.float32 else 3e-2


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Scenes, and a preset of tiny nets."""
    folder = tmp_path_factory.mktemp("data")
    save(tiny_vae(random=False), folder / "eyes.safetensors")
    words = [f"out={folder}/scenes", f"count={SCENES}", f"eyes={folder}/eyes.safetensors"]
    soundtrack_data.main(words)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "tiny", TINY)
        yield folder


@pytest.fixture(scope="module")
def latents(data: Path) -> Path:
    """The scenes encoded by an untrained VAE, their captions as the sentence encoder would give them."""
    torch.manual_seed(0)
    save(MelVAE(TINY.vae), data / "vae.safetensors")
    words = [f"data={data}/scenes", f"out={data}/latents", f"vae={data}/vae.safetensors"]
    soundtrack_latents.main(words)
    return data / "latents"


def finish(recipe: ModuleType, out: Path, *words: str) -> list[float]:
    """Three steps with every step and the probe in the log."""
    usual = ["preset=tiny", "steps=3", "warmup=1", "batch=2", "held_out=1", "threads=1"]
    return recipe.main([*usual, "log_every=1", "probe_every=3", f"out={out}", *words])  # type: ignore[no-any-return]


def logged(out: Path) -> list[dict[str, float]]:
    return [json.loads(row) for row in (out / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("kind", "recipe"),
    [
        (soundtrack_vae.SoundtrackVAESettings, "soundtrack_vae"),
        (soundtrack_vocoder.VocoderSettings, "soundtrack_vocoder"),
        (soundtrack_v2a.V2ASettings, "soundtrack_v2a"),
    ],
)
def test_the_yaml_of_a_recipe_is_complete(kind: type, recipe: str) -> None:
    assert read_settings(kind, recipe, []).preset == "mini"


@pytest.mark.parametrize("recipe", [soundtrack_vae, soundtrack_vocoder, soundtrack_v2a])
def test_too_few_scenes_are_refused(recipe: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="0 clips, more than 1 are needed"):
        finish(recipe, tmp_path / "run", f"data={tmp_path}", "preset=mini")


def test_scenes_are_written_with_what_is_known_of_them(data: Path) -> None:
    path = data / "scenes/scene-1.safetensors"
    scene, facts = load_file(path), soundtrack_data.read_facts(path)
    assert scene["samples"].shape == (SAMPLES,) and scene["samples"].dtype == torch.int16
    assert scene["motion"].shape == (FRAMES, 256) and scene["looks"].shape == ((FRAMES - 1) // 4 + 1, 1024)
    assert len(facts["captions"]) == 3 and facts["classes"] and set(facts["seen"]) <= set(facts["classes"])


def test_scenes_that_are_there_are_not_made_again(data: Path) -> None:
    before = (data / "scenes/scene-0.safetensors").stat().st_mtime_ns
    soundtrack_data.main([f"out={data}/scenes", f"count={SCENES}", f"eyes={data}/eyes.safetensors"])
    assert (data / "scenes/scene-0.safetensors").stat().st_mtime_ns == before
    with pytest.raises(UserError, match="no such file, the VAE of the preset is needed"):
        soundtrack_data.main([f"out={data}/scenes", f"eyes={data}/none.safetensors"])


def test_latents_have_captions_and_what_is_seen(latents: Path, tmp_path: Path) -> None:
    sample = load_file(latents / "sounding-2.safetensors")
    assert sample["latents"].shape == (128, TINY.vae.channels)
    assert sample["blows"].shape == (128,) and 0 <= sample["blows"].min() <= sample["blows"].max() <= 1
    assert sample["text"].shape == (3, 32, 384) and sample["mask"].any(1).all()
    assert soundtrack_data.read_facts(latents / "sounding-2.safetensors")["captions"]
    with pytest.raises(UserError, match="has no scenes"):
        soundtrack_latents.main([f"data={tmp_path}", f"out={tmp_path}"])


def test_blows_as_a_track_of_latents() -> None:
    """Latent n lasts from n to n + 1: 2.25 is 1/4 from the middle of the third, 3/4 from the second's."""
    track = soundtrack_latents.nearness([2.25 * LATENT_SECONDS], 4)
    assert track.tolist() == pytest.approx([0, 0.25, 0.75, 0], abs=1e-3)
    assert not soundtrack_latents.nearness([], 4).any()


def test_mel_vae(data: Path, tmp_path: Path) -> None:
    losses = finish(soundtrack_vae, tmp_path, f"data={data}/scenes", "frames=64")
    assert losses == pytest.approx(VAE_LOSSES, rel=CLOSE)
    assert load(MelVAE, tmp_path / "model.safetensors").config == TINY.vae
    assert 0 < logged(tmp_path)[-1]["held_out_l1"] < 2


def test_vocoder_before_and_with_its_judges(data: Path, tmp_path: Path) -> None:
    words = [f"data={data}/scenes", "frames=16", "adversarial_from=2"]
    losses = finish(soundtrack_vocoder, tmp_path, *words)
    assert losses == pytest.approx(VOCODER_LOSSES, rel=CLOSE)
    assert "judges" not in logged(tmp_path)[1] and logged(tmp_path)[2]["judges"] > 0
    assert load(HiFiGAN, tmp_path / "generator.safetensors").config == TINY.vocoder


def test_judges_learn_from_their_own_loss_only(data: Path) -> None:
    """The generator's terms give the judges no gradient, and theirs give it none."""
    torch.manual_seed(0)
    config = soundtrack_vocoder.VocoderGANConfig(
        generator=TINY.vocoder, discriminators=soundtrack_vocoder.JUDGES
    )
    net = soundtrack_vocoder.VocoderGAN(config)
    true = 0.1 * torch.randn(1, 4096)
    mine, theirs = soundtrack_vocoder.adversarial_terms(net, net(torch.randn(1, 80, 16)), true, 2.0)
    mine.backward(retain_graph=True)
    assert all(p.grad is None for p in net.judges.parameters())
    assert all(p.grad is not None for p in net.generator.parameters())
    net.zero_grad()
    theirs.backward()
    assert all(p.grad is None for p in net.generator.parameters())
    assert all(p.grad is not None for p in net.judges.parameters())


def test_classifier(data: Path, tmp_path: Path) -> None:
    words = ["steps=3", "warmup=1", "batch=2", "held_out=1", "threads=1", "log_every=1", "probe_every=3"]
    losses = soundtrack_classifier.main([*words, f"data={data}/scenes", f"out={tmp_path}", "width=8"])
    assert losses == pytest.approx(CLASSIFIER_LOSSES, rel=CLOSE)
    net = load(soundtrack_classifier.SoundClassifier, tmp_path / "model.safetensors")
    mel = torch.randn(2, 80, 100)
    torch.testing.assert_close(net(mel - 3), net(mel))  # louder is no other kind


def test_video_to_audio(latents: Path, tmp_path: Path) -> None:
    losses = finish(soundtrack_v2a, tmp_path, f"data={latents}", "window=40")
    assert losses == pytest.approx(V2A_LOSSES, rel=CLOSE)
    assert load(V2A, tmp_path / "model.safetensors").config == TINY.v2a
    assert logged(tmp_path)[-1].keys() >= {"held_out", "held_out_blind", "held_out_blows"}
    with pytest.raises(UserError, match="window=129: the scenes have 128 latents"):
        finish(soundtrack_v2a, tmp_path / "long", f"data={latents}", "window=129")


def test_a_run_that_stops_goes_on_as_if_it_had_not(latents: Path, tmp_path: Path) -> None:
    words = [f"data={latents}", "window=40"]
    whole = finish(soundtrack_v2a, tmp_path / "whole", *words)
    parts = finish(soundtrack_v2a, tmp_path / "parts", *words, "minutes=1e-9")
    parts += finish(soundtrack_v2a, tmp_path / "parts", *words)
    assert len(parts) == 3 and parts == whole
    ends = [load_file(tmp_path / run / "model.safetensors") for run in ("whole", "parts")]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_evaluation_tells_all_figures(data: Path, tmp_path: Path) -> None:
    """Untrained nets: every figure is there, and those of the true sounds do not depend on nets."""
    nets = soundtrack()
    judge = soundtrack_classifier.SoundClassifier(soundtrack_classifier.ClassifierConfig(width=8))
    named = {"vae": nets.vae, "vocoder": nets.vocoder, "v2a": nets.net, "classifier": judge}
    for name, net in named.items():
        save(net, tmp_path / f"{name}.safetensors")
    files = [f"{name}={tmp_path}/{name}.safetensors" for name in named]
    words = [f"scenes={data}/scenes", "count=3", "pairs=2", "steps=1", f"out={tmp_path}/figures.json"]
    figures = soundtrack_eval.main([*words, *files])
    assert figures.keys() >= {
        "vae_mel_l1",
        "vocoder_to_griffin_lim",
        "true_hits_found",
        "true_onsets_caused",
        "made_class_right",
        "prompt_chosen",
    }
    assert figures["true_hits_found"] > 0.8
    words = [f"scenes={data}/scenes", "seeds=[1]", "steps=1", f"out={tmp_path}/page.jpg", *files[:3]]
    soundtrack_page.main(words)
    assert Image.open(tmp_path / "page.jpg").size == (1000, 150)
    assert figures["griffin_lim_mel_l1"] < 0.5 < figures["net_alone_mel_l1"]
    assert figures["vocoder_mel_l1"] < 0.5 * figures["net_alone_mel_l1"]
    assert json.loads((tmp_path / "figures.json").read_text()) == figures
