"""The soundtrack of the full preset: frames seen by CLIP, prompts read by T5, of tiny random nets."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from soundtrack_nets import TINY

from avatar import Soundtrack
from avatar.backbone.checkpoint import save
from avatar.backbone.hifigan import HiFiGAN
from avatar.backbone.mel_vae import MelVAE
from avatar.backbone.v2a import V2A
from avatar.drivers.clip_sight import CLIPEyes
from avatar.drivers.prompt_encoders import clip_pixels
from avatar.drivers.sight import MOTION, look
from avatar.drivers.text import T5Reader
from avatar.errors import UserError
from avatar.recipes.tiny_hunyuan import language_tokenizer
from avatar.soundtrack_presets import PRESETS
from avatar.writer import VideoWriter

CPU = torch.device("cpu")
WIDTH = 16  # of both encoders


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a full preset that is tiny."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection, T5Config, T5EncoderModel

    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("full")
    sizes = {"num_attention_heads": 2, "image_size": 32, "patch_size": 16, "projection_dim": WIDTH}
    layers = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    CLIPVisionModelWithProjection(CLIPVisionConfig(**sizes, **layers)).save_pretrained(root / "clip")
    tokenizer = language_tokenizer()
    tokenizer.save_pretrained(root / "t5")
    sizes = {"d_model": WIDTH, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2}
    T5EncoderModel(T5Config(vocab_size=len(tokenizer), **sizes)).save_pretrained(root / "t5")
    nets = {
        "v2a": V2A(replace(TINY.v2a, visual_dim=WIDTH + 4 * MOTION, text_dim=WIDTH)),
        "vae": MelVAE(TINY.vae),
        "vocoder": HiFiGAN(TINY.vocoder),
    }
    for name, net in nets.items():
        for parameter in net.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        save(net, root / f"soundtrack_{name}.safetensors")
    return root


def test_clip_looks_at_the_last_of_every_four_frames(folder: Path) -> None:
    eyes = CLIPEyes(folder / "clip", CPU)
    frames = np.random.default_rng(0).integers(0, 255, (9, 256, 256, 3), np.uint8)
    whole = look(eyes, iter([frames]))
    parts = look(eyes, iter([frames[:2], frames[2:3], frames[3:]]))
    assert whole.looks.shape == (3, WIDTH) and whole.motion.shape == (9, MOTION)
    torch.testing.assert_close(parts.looks, whole.looks)
    torch.testing.assert_close(parts.motion, whole.motion)
    with torch.no_grad():
        second = eyes.net(pixel_values=clip_pixels(frames[4], 32, squash=True)).image_embeds[0]
    torch.testing.assert_close(whole.looks[1], second)


def test_t5_reads_words_and_not_the_padding(folder: Path) -> None:
    read = T5Reader(folder / "t5", CPU)
    both, alone = read(["rain", "rain on a roof"]), read(["rain"])
    assert both.tokens.shape[2] == WIDTH and both.mask.sum(1).tolist() == sorted(both.mask.sum(1).tolist())
    count = int(both.mask[0].sum())
    torch.testing.assert_close(both.tokens[0, :count], alone.tokens[0])
    assert both.tokens[0, count:].abs().max() == 0
    with pytest.raises(UserError, match="128 can be read"):
        read(["rain " * 200])


def test_a_video_gets_sound(folder: Path, tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    with VideoWriter(clip, size=(64, 48), fps=Fraction(25)) as writer:
        for i in range(15):
            writer.write(np.full((48, 64, 3), 10 * i, np.uint8))
    net = Soundtrack.from_pretrained("full", folder=folder, device="cpu")
    rain, roof = (net.score(clip, prompt=text, steps=1).samples for text in ("rain", "a roof"))
    assert len(rain) == round(0.6 * 22_050)
    assert np.abs(rain - roof).max() > 0


def test_what_is_missing_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--preset full: its weights are not shipped"):
        Soundtrack.from_pretrained("full")
    for name in ("v2a", "vae", "vocoder"):
        (tmp_path / f"soundtrack_{name}.safetensors").symlink_to(folder / f"soundtrack_{name}.safetensors")
    with pytest.raises(UserError, match=f"{tmp_path}/clip: no config.json that can be read"):
        Soundtrack.from_pretrained("full", folder=tmp_path)


def test_the_full_net_fits_its_encoders() -> None:
    """CLIP ViT-L/14 projects to 768 numbers; the encoder of t5-v1_1-large has 1024 channels."""
    config = PRESETS["full"].v2a
    assert config.visual_dim == 768 + 4 * MOTION and config.text_dim == 1024
    with torch.device("meta"):
        net = V2A(config)
    assert len(net.triple_blocks) == 18 and len(net.single_blocks) == 36
