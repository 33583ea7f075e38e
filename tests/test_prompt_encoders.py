"""The text encoders on tiny random weights: against diffusers and transformers, and what they refuse."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from avatar.drivers.prompt_encoders import (
    IMAGE,
    IMAGE_CONCAT,
    SPEAKER,
    VIDEO,
    Encoded,
    Folders,
    PromptEncoder,
    Template,
    clip_pixels,
    load_tokenizer,
)
from avatar.errors import UserError
from avatar.recipes import tiny_hunyuan
from avatar.releases import RELEASES

PROMPT = "A man in a yellow coat reads a newspaper in the rain."
ERROR = 1e-5  # relative, in float32
CPU = torch.device("cpu")
Checkpoints = Callable[[str], Path]


def folders(root: Path, preset: str) -> Folders:
    names = RELEASES[preset].files
    language, clip = root / names.language, root / names.clip
    return Folders(language=language, language_tokenizer=language, clip=clip, clip_tokenizer=clip)


def encoder(checkpoints: Checkpoints, preset: str, template: Template | None = None) -> PromptEncoder:
    template = template or RELEASES[preset].template
    return PromptEncoder(folders(checkpoints(preset), preset), template, CPU, torch.float32)


def error(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return ((found - expected).norm() / expected.norm()).item()


def picture() -> Any:
    return tiny.picture(400)[:300]


@pytest.mark.parametrize(("template", "count"), [(VIDEO, 95), (IMAGE, 103), (SPEAKER, 95)])
def test_templates_have_the_length_of_the_releases(template: Template, count: int) -> None:
    """Section 4 of the reference; cut by Llama 3's rules, with a vocabulary that has these words."""
    assert len(tiny_hunyuan.language_tokenizer()(template.before)["input_ids"]) == template.crop == count


def test_text_is_what_diffusers_encodes(checkpoints: Checkpoints) -> None:
    ours = encoder(checkpoints, "hunyuan")
    found = ours.encode(PROMPT)
    assert found.states.shape == (1, 256, tiny_hunyuan.TEXT) and found.pooled.shape == (1, 24)
    theirs: Any = object.__new__(diffusers.HunyuanVideoPipeline)
    theirs.__dict__ |= {
        "tokenizer": ours.tokenizer,
        "text_encoder": ours.language,
        "tokenizer_2": ours.clip_tokenizer,
        "text_encoder_2": ours.clip,
    }
    template = {"template": VIDEO.before + "{}" + VIDEO.after, "crop_start": 95}
    states, mask = theirs._get_llama_prompt_embeds(PROMPT, template, device=CPU)
    assert torch.equal(found.mask, mask.bool())
    assert 0 < found.mask.sum() < 256
    assert error(found.states[found.mask], states[found.mask]) <= ERROR
    assert error(found.pooled, theirs._get_clip_prompt_embeds(PROMPT, device=CPU)) <= ERROR


def test_template_is_that_of_diffusers() -> None:
    from diffusers.pipelines.hunyuan_video import pipeline_hunyuan_video as text
    from diffusers.pipelines.hunyuan_video import pipeline_hunyuan_video_image2video as image

    for ours, theirs in ((VIDEO, text.DEFAULT_PROMPT_TEMPLATE), (IMAGE, image.DEFAULT_PROMPT_TEMPLATE)):
        assert theirs["template"] == ours.before + "{}" + ours.after
        assert theirs["crop_start"] == ours.crop


@pytest.mark.parametrize(("template", "tokens"), [(IMAGE, 144), (IMAGE_CONCAT, 288)])
@pytest.mark.parametrize("prompt", [PROMPT, "word " * 400])
def test_text_with_a_picture_is_what_diffusers_encodes(
    checkpoints: Checkpoints, template: Template, tokens: int, prompt: str
) -> None:
    ours = encoder(checkpoints, "hunyuan-i2v", template)
    found = ours.encode(prompt, picture())
    theirs: Any = object.__new__(diffusers.HunyuanVideoImageToVideoPipeline)

    def processor(image: Any, return_tensors: str) -> Any:
        pixels = clip_pixels(image, 336, squash=False)
        return type("Batch", (), {"pixel_values": pixels})

    theirs.__dict__ |= {
        "tokenizer": ours.tokenizer,
        "image_processor": processor,
        "text_encoder": Llava(ours.llava),
    }
    states, mask = theirs._get_llama_prompt_embeds(
        picture(),
        prompt,
        {"template": template.before + "{}" + template.after, "crop_start": 103},
        device=CPU,
        dtype=torch.float32,
        image_embed_interleave=template.stride,
    )
    assert torch.equal(found.mask, mask.bool())
    assert found.states.shape[1] == tokens + 256 - 4  # without the call of the assistant
    assert found.mask[:, :tokens].all()
    assert error(found.states[found.mask], states[found.mask]) <= ERROR


class Llava:
    """What diffusers asks of LLaVA, from the loaded model."""

    def __init__(self, model: Any) -> None:
        self.model, self.dtype = model, torch.float32
        self.config = type(
            "Config",
            (),
            {"image_token_index": model.config.image_token_id, "pad_token_id": model.config.pad_token_id},
        )

    def __call__(self, **given: Any) -> Any:
        return self.model(**given, use_cache=False)


def test_picture_of_a_speaker_stands_behind_the_words(checkpoints: Checkpoints) -> None:
    """All the tokens of words and picture are those that LLaVA gives; as many count as there are."""
    ours = encoder(checkpoints, "hunyuan-avatar")
    found = ours.encode(PROMPT, picture())
    assert found.states.shape == (1, 256 + 575, tiny_hunyuan.TEXT)
    text = VIDEO.before + PROMPT + SPEAKER.after
    ids = ours.tokenizer(text.replace("<image>", "<image>" * 576), return_tensors="pt")["input_ids"]
    pixels = clip_pixels(picture(), 336, squash=True)
    states = ours.llava(input_ids=ids, pixel_values=pixels, output_hidden_states=True).hidden_states[-3]
    count = ids.shape[1] - 95
    assert error(found.states[:, :count], states[:, 95:]) <= ERROR
    assert found.mask.sum() == count
    # The mask is the released code's: the words and one more, then 575 at the end.
    assert found.mask[0].nonzero().flatten().tolist() == [*range(count - 575), *range(256, 831)]


def test_a_picture_is_seen(checkpoints: Checkpoints) -> None:
    for preset in ("hunyuan-i2v", "hunyuan-avatar"):
        ours = encoder(checkpoints, preset)
        one, other = (ours.encode(PROMPT, side) for side in (picture(), 255 - picture()))
        assert error(one.states, other.states) > 1e-3
        assert torch.equal(one.pooled, other.pooled)


def test_pixels_are_those_of_clips_own_processor() -> None:
    from transformers import CLIPImageProcessor

    processor = CLIPImageProcessor(size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336})
    expected = torch.from_numpy(
        np.asarray(processor(Image.fromarray(picture()), return_tensors="np")["pixel_values"])
    )
    assert (clip_pixels(picture(), 336, squash=False) - expected).abs().max() < 0.02  # a level is 0.015


def test_what_is_cut_off_is_said(checkpoints: Checkpoints, caplog: pytest.LogCaptureFixture) -> None:
    ours = encoder(checkpoints, "hunyuan")
    with caplog.at_level(logging.WARNING, "avatar"):
        ours.encode(PROMPT)
        assert not caplog.records
        ours.encode("word " * 400)
    assert "longer than 256 tokens" in caplog.text
    speaker = encoder(checkpoints, "hunyuan-avatar")
    with pytest.raises(UserError, match="--prompt: too long"):
        speaker.encode("word " * 400, picture())
    with pytest.raises(UserError, match="--prompt: must not contain <image>"):
        speaker.encode("an <image> of a man", picture())


def test_folders_that_do_not_fit_are_named(checkpoints: Checkpoints, tmp_path: Path) -> None:
    good = folders(checkpoints("hunyuan"), "hunyuan")
    with pytest.raises(UserError, match=rf"{tmp_path}: no tokenizer"):
        load_tokenizer(tmp_path)
    broken = tmp_path / "clip"
    broken.mkdir()
    for file in good.clip.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    tensors = load_file(broken / "model.safetensors")
    del tensors["text_model.final_layer_norm.weight"]
    save_file(tensors, broken / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        UserError, match=r"clip does not fit CLIPTextModel: missing: .*final_layer_norm\.weight"
    ):
        PromptEncoder(replace(good, clip=broken), VIDEO, CPU, torch.float32)
    with pytest.raises(UserError, match="text_encoder_2: holds clip, not llama"):
        PromptEncoder(replace(good, language=good.clip), VIDEO, CPU, torch.float32)


def test_encoded_is_on_the_cpu_in_the_wanted_type(checkpoints: Checkpoints) -> None:
    found = PromptEncoder(folders(checkpoints("hunyuan"), "hunyuan"), VIDEO, CPU, torch.bfloat16).encode(
        "a cat"
    )
    assert isinstance(found, Encoded)
    assert (found.states.dtype, found.mask.dtype, found.pooled.dtype) == (
        torch.bfloat16,
        torch.bool,
        torch.bfloat16,
    )
