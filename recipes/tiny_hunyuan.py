"""A complete folder of public weights at a reduced width, full of noise: what a machine can try in minutes.

Names of files and tensors, templates and tokenizer rules are those of the real releases; the widths and the
number of blocks are not, and nothing in it was ever trained, so a video made with it shows noise. It runs the
whole path of `avatar generate` and of `avatar drive --preset hunyuan-avatar`.

    python -m avatar.recipes.tiny_hunyuan --preset hunyuan --out ckpts
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import nn

from avatar.adapters.audio_dit import AudioDiT, AudioDiTConfig
from avatar.backbone import diffusers_config
from avatar.backbone.dit import DiT, DiTConfig
from avatar.backbone.vae import CausalVAE
from avatar.drivers.prompt_encoders import PICTURE_TOKEN, import_transformers
from avatar.errors import UserError
from avatar.releases import RELEASES, Release

TEXT, POOLED, SPEECH = 32, 24, 64  # channels of the language model, CLIP and Whisper
HEAD = 32  # channels, rotated by (4, 14, 14) as the real 128 are by (16, 56, 56)
# How Llama 3 cuts text before it looks words up, and the tokens that it keeps whole.
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BEGIN, END, PAD = "<|begin_of_text|>", "<|end_of_text|>", "<pad>"
MARKS = (BEGIN, END, "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", PICTURE_TOKEN, PAD)


def dit_config(release: Release) -> DiTConfig:
    """A release's DiT with two heads and two blocks of each kind."""
    small: dict[str, Any] = {
        "hidden": 2 * HEAD,
        "heads": 2,
        "double_blocks": 2,
        "single_blocks": 2,
        "rope_channels": (HEAD // 8, 7 * HEAD // 16, 7 * HEAD // 16),
        "text_dim": TEXT,
        "pooled_dim": POOLED,
    }
    if isinstance(release.dit, AudioDiTConfig):
        positions, states, _ = release.dit.speech
        small |= {
            "speech": (positions, states, SPEECH),
            "speech_width": 32,
            "speech_attention": 32,
            "speech_blocks": (1,),
        }
    return replace(release.dit, **small)


def write(out: Path, preset: str, seed: int = 0) -> None:
    """Write the folder.

    Args:
        out: must not exist.
        preset: of `avatar.releases`.

    Raises:
        UserError: it exists, there is no such preset, or transformers is not installed.
    """
    if preset not in RELEASES:
        raise UserError(f"--preset {preset}: must be one of {', '.join(RELEASES)}")
    if out.exists():
        raise UserError(f"{out}: exists already, name another folder")
    import_transformers()
    torch.manual_seed(seed)
    release = RELEASES[preset]
    for name, write_part in (
        (release.files.dit, _write_dit),
        (release.files.vae, _write_vae),
        (release.files.language, _write_language),
        (release.files.clip, _write_clip),
        (release.files.whisper, _write_whisper),
    ):
        if name is not None:
            folder = out / name
            folder.mkdir(parents=True)
            write_part(folder, release)


def _write_dit(folder: Path, release: Release) -> None:
    config = dit_config(release)
    net = (AudioDiT if isinstance(config, AudioDiTConfig) else DiT)(config)  # type: ignore[arg-type]
    torch.save({"module": _noise(net)}, folder / "mp_rank_00_model_states.pt")


def _write_vae(folder: Path, release: Release) -> None:
    config = replace(release.vae, widths=(32, 32, 32, 32), layers_per_block=1)
    torch.save({"state_dict": CausalVAE(config).state_dict()}, folder / "pytorch_model.pt")
    fields = diffusers_config.write_vae(config) | {"_class_name": diffusers_config.ORIGINAL_VAE_CLASS}
    (folder / "config.json").write_text(json.dumps(fields, indent=2), encoding="utf-8")


def _noise(net: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters none of which is zero, so that everything is heard in what the net says."""
    return {name: 0.1 * torch.randn_like(value) for name, value in net.state_dict().items()}


def _write_language(folder: Path, release: Release) -> None:
    """Llama, alone or as the reader of LLaVA, whose picture has the real 576 patches."""
    from transformers import LlamaConfig, LlamaForCausalLM, LlavaConfig, LlavaForConditionalGeneration

    tokenizer = language_tokenizer()
    sizes = {
        "vocab_size": len(tokenizer),
        "hidden_size": TEXT,
        "intermediate_size": 48,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    if release.template.picture == "none":
        model: Any = LlamaForCausalLM(LlamaConfig(**sizes))
    else:
        eyes = {
            "model_type": "clip_vision_model",
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "image_size": 336,
            "patch_size": 14,
        }
        model = LlavaForConditionalGeneration(
            LlavaConfig(
                text_config={"model_type": "llama", **sizes},
                vision_config=eyes,
                image_token_index=tokenizer.convert_tokens_to_ids(PICTURE_TOKEN),
            )
        )
        model.config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def language_tokenizer() -> Any:
    """Llama 3's rules with a vocabulary of the templates' words, so that these have their real lengths."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made.decoder = decoders.ByteLevel()
    texts = [release.template.before + release.template.after for release in RELEASES.values()]
    made.train_from_iterator(
        [part for text in texts for part in re.split("|".join(map(re.escape, MARKS)), text)],
        trainers.BpeTrainer(
            vocab_size=2000,
            min_frequency=1,
            special_tokens=list(MARKS),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    made.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A", special_tokens=[(BEGIN, made.token_to_id(BEGIN))]
    )
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token=BEGIN, eos_token=END, pad_token=PAD)


def _write_clip(folder: Path, release: Release) -> None:
    from transformers import CLIPConfig, CLIPModel
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = list(bytes_to_unicode().values())
    marks = ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = [*letters, *(f"{letter}</w>" for letter in letters), *marks]
    numbers = {word: i for i, word in enumerate(vocabulary)}
    text = {
        "vocab_size": len(vocabulary),
        "hidden_size": POOLED,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "bos_token_id": numbers[marks[0]],
        "eos_token_id": numbers[marks[1]],
        "pad_token_id": numbers[marks[1]],
    }
    eyes = {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
    }
    CLIPModel(CLIPConfig(text_config=text, vision_config=eyes, projection_dim=8)).save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps(numbers), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "CLIPTokenizer"}', encoding="utf-8")


def _write_whisper(folder: Path, release: Release) -> None:
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperModel

    assert isinstance(release.dit, AudioDiTConfig)
    config = WhisperConfig(
        d_model=SPEECH,
        encoder_layers=release.dit.speech[1] - 1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        vocab_size=8,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )
    WhisperModel(config).save_pretrained(folder)
    WhisperFeatureExtractor().save_pretrained(folder)


def main(
    out: Annotated[Path, typer.Option(help="folder to write")],
    preset: Annotated[str, typer.Option(help="which release: " + ", ".join(RELEASES))] = "hunyuan",
    seed: Annotated[int, typer.Option(help="of the noise")] = 0,
) -> None:
    """Write a folder of public weights at a reduced width, full of noise."""
    write(out, preset, seed)


if __name__ == "__main__":
    try:
        typer.run(main)
    except UserError as error:
        sys.exit(f"avatar: {error}")
