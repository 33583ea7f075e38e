"""Public weights: what a path holds, whether it fits a net, and the same weights in another layout.

The layouts: `original` is that of the first release (names as ours), `diffusers` is a folder with names of
its own, `avatar` is our safetensors file, which carries the config that rebuilds the net.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from avatar.adapters import lora
from avatar.adapters.audio_dit import AudioDiT, AudioDiTConfig
from avatar.backbone import checkpoint, diffusers_config
from avatar.backbone.diffusers_keys import from_diffusers, to_diffusers
from avatar.backbone.dit import DiT, DiTConfig
from avatar.backbone.dit_sizes import sizes_from
from avatar.backbone.vae import CausalVAE
from avatar.backbone.vae_nets import VAEConfig
from avatar.errors import UserError
from avatar.releases import RELEASES
from avatar.weight_files import Files, locate, metadata, read

Layout = Literal["original", "diffusers", "avatar"]
Config = DiTConfig | VAEConfig

SHARD = 10 * 2**30  # bytes, of the files of a diffusers folder
STEM = "diffusion_pytorch_model"
_CLASSES: dict[str, tuple[type[nn.Module], Any]] = {
    "DiT": (DiT, DiTConfig),
    "AudioDiT": (AudioDiT, AudioDiTConfig),
    "CausalVAE": (CausalVAE, VAEConfig),
}


@dataclass(frozen=True)
class Weights:
    """Tensors of a net by our names, and the config they are for.

    Attributes:
        source: path they come from.
        layout: in which they were found.
        config: of the net.
        told_by: what the config was taken from.
        tensors: by our names; they may still lack some, see `differences`.
    """

    source: Path
    layout: Layout
    config: Config
    told_by: str
    tensors: dict[str, Tensor]

    @property
    def net(self) -> type[nn.Module]:
        """Class of the net."""
        return _net(self.config)

    def differences(self) -> str:
        """Names of what is missing, unexpected or of another shape; empty where all fit."""
        return checkpoint.differences(_expected(self.config), self.tensors)

    def module(self) -> nn.Module:
        """The net, in evaluation mode.

        Raises:
            UserError: something is missing, unexpected or of another shape.
        """
        try:
            return checkpoint.fill(self.net, self.config, self.tensors, str(self.source))
        except ValueError as error:
            raise UserError(str(error)) from error


def load(path: str | Path, preset: str | None = None, key: str | None = None) -> Weights:
    """Weights of a DiT or a VAE, whatever their layout.

    Args:
        path: a file or a folder.
        preset: of `avatar.releases`, for files that do not say what they are; None takes the one that fits
            best.
        key: `module`, `ema` or `state_dict`, of a `.pt` file with several.

    Raises:
        UserError: nothing that is known, or damaged, or no such preset; the message names the file.
    """
    if preset is not None and preset not in RELEASES:
        raise UserError(f"--preset {preset}: must be one of {', '.join(RELEASES)}")
    files = locate(Path(path))
    told, tensors = metadata(files), read(files, key)
    try:
        if told.get("class") in _CLASSES:
            if preset is not None:
                raise UserError(f"--preset {preset}: {path} says itself what it is, leave the preset out")
            config = checkpoint.from_json(
                _CLASSES[told["class"]][1], json.loads(told["config"]), "its header"
            )
            return Weights(files.path, "avatar", config, "its own header", tensors)
        if any(name.endswith("encoder.conv_in.conv.weight") for name in tensors):
            return _vae(files, tensors, preset)
        if any(name.startswith("x_embedder.") for name in tensors):
            return _diffusers_dit(files, tensors, preset)
        if any(name.startswith("img_in.") for name in tensors):
            return Weights(files.path, "original", *_by_preset(tensors, preset), tensors)
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error
    some = ", ".join(sorted(tensors)[:3])
    raise UserError(f"{path}: neither a DiT nor a VAE that is known; it has {some}, ...")


def _diffusers_dit(files: Files, tensors: dict[str, Tensor], preset: str | None) -> Weights:
    tensors = from_diffusers(tensors)
    if preset is None and _class(files) == diffusers_config.DIT_CLASS:
        config = diffusers_config.read_dit(files.config or {})
        return Weights(files.path, "diffusers", config, "config.json", tensors)
    return Weights(files.path, "diffusers", *_by_preset(tensors, preset), tensors)


def _by_preset(tensors: Mapping[str, Tensor], preset: str | None) -> tuple[DiTConfig, str]:
    """Config of a preset, and how it was chosen. Equal sizes can not tell text from image by tokens."""
    name = preset or _nearest(tensors)
    told_by, config = f"preset {name}" + ("" if preset else ", which fits best"), RELEASES[name].dit
    sized = _sized(tensors, config)
    return sized, told_by + ("" if sized is config else ", at the width and depth of its tensors")


def _sized(tensors: Mapping[str, Tensor], config: DiTConfig) -> DiTConfig:
    """The config itself, or for tensors of another width, which no file tells, one of their sizes."""
    entry = tensors.get("img_in.proj.weight")
    if entry is None or entry.shape[0] == config.hidden:
        return config
    try:
        config = sizes_from(tensors, config)
    except ValueError:
        return config  # `differences` then names all that is missing
    told = [tensors.get(name) for name in ("audio_proj.proj1.weight", "audio_adapter_blocks.0.to_q.weight")]
    if not isinstance(config, AudioDiTConfig) or told[0] is None or told[1] is None:
        return config
    positions, states, _ = config.speech
    return replace(
        config,
        speech=(positions, states, told[0].shape[1] // (positions * states)),
        speech_width=told[0].shape[0],
        speech_attention=told[1].shape[0],
        speech_blocks=tuple(range(1, config.double_blocks, 2)),
    )


def _vae(files: Files, tensors: dict[str, Tensor], preset: str | None) -> Weights:
    """A VAE, alone or among what it was trained with; names do not differ between the layouts."""
    ours = {n.removeprefix("vae."): v for n, v in tensors.items() if n.startswith("vae.")} or tensors
    name = preset or "hunyuan"
    config, told_by = RELEASES[name].vae, f"preset {name}"
    if preset is None and _class(files) in (diffusers_config.VAE_CLASS, diffusers_config.ORIGINAL_VAE_CLASS):
        config, told_by = diffusers_config.read_vae(files.config or {}), "config.json"
    if len(ours) < len(tensors):
        told_by += f"; left out: {', '.join(sorted(n for n in tensors if not n.startswith('vae.')))}"
    layout: Layout = "diffusers" if _class(files) == diffusers_config.VAE_CLASS else "original"
    return Weights(files.path, layout, config, told_by, ours)


def _class(files: Files) -> object:
    """What the `config.json` beside the tensors says they are of."""
    return (files.config or {}).get("_class_name")


def merge_loras(weights: Weights, loras: Sequence[tuple[Path, float]]) -> Weights:
    """The same weights with LoRA files added to them, each by its strength.

    Raises:
        UserError: a file is no LoRA, or has layers that this net has not.
    """
    read_all = [(load_lora(path), strength) for path, strength in loras]
    try:
        return replace(weights, tensors=lora.merge(weights.tensors, read_all))
    except ValueError as error:
        raise UserError(f"{', '.join(str(path) for path, _ in loras)}: {error}") from error


def load_lora(path: str | Path) -> lora.Lora:
    """A LoRA file of any of the formats.

    Raises:
        UserError: it is none, or has layers that no net here has.
    """
    files = locate(Path(path))
    tensors = read(files)
    try:
        return lora.parse(tensors, metadata(files))
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error


def describe(path: str | Path, preset: str | None = None, key: str | None = None) -> tuple[list[str], str]:
    """Lines about what a path holds, and what does not fit (empty where all does).

    Raises:
        UserError: as `load`.
    """
    files = locate(Path(path))
    header = f"{len(files.parts)} file{'s' if len(files.parts) > 1 else ''}"
    if metadata(files).get("class") not in _CLASSES and lora.is_lora(raw := read(files, key)):
        found = load_lora(path)
        ranks = sorted({layer.rank for layer in found.layers})
        return [
            f"{path}: LoRA, {found.format}, {header}",
            f"layers {len(found.layers)}, rank {', '.join(map(str, ranks))}, {_types(raw)}",
        ], ""
    weights = load(path, preset, key)
    count = sum(value.numel() for value in weights.tensors.values())
    return [
        f"{path}: {weights.net.__name__}, layout {weights.layout}, {header}",
        f"sizes from {weights.told_by}",
        f"tensors {len(weights.tensors)}, parameters {count:,}, {_types(weights.tensors)}",
    ], weights.differences()


def write(weights: Weights, out: Path, to: Literal["avatar", "diffusers"]) -> None:
    """Write weights that fit in a layout; the result appears whole or not at all.

    Args:
        out: a `.safetensors` file for `avatar`, a folder for `diffusers`; it must not exist.

    Raises:
        UserError: the output exists or can not be written, the weights do not fit, or diffusers has no such
            net.
    """
    if out.exists():
        raise UserError(f"{out}: exists already, name another")
    if not out.parent.is_dir():
        raise UserError(f"{out.parent}: no such folder")
    module = weights.module()
    if to == "avatar":
        if out.suffix != ".safetensors":
            raise UserError(f"{out}: must end in .safetensors")
        checkpoint.save(module, out, dtype=None)
        return
    if isinstance(weights.config, AudioDiTConfig):
        raise UserError(f"{weights.source}: diffusers has no net with speech")
    dit = isinstance(weights.config, DiTConfig)
    tensors = to_diffusers(weights.tensors) if dit else weights.tensors
    config = (diffusers_config.write_dit if dit else diffusers_config.write_vae)(weights.config)  # type: ignore[arg-type]
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    (partial / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    _write_shards(tensors, partial)
    os.replace(partial, out)


def _write_shards(tensors: Mapping[str, Tensor], folder: Path) -> None:
    """One file, or several of at most `SHARD` bytes and their index."""
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        if shards[-1] and size + tensor.nbytes > SHARD:
            shards.append({})
            size = 0
        size += tensor.nbytes
        shards[-1][name] = tensor.contiguous()
    meta = {"format": "pt"}
    if len(shards) == 1:
        save_file(shards[0], folder / f"{STEM}.safetensors", meta)
        return
    index: dict[str, str] = {}
    for i, shard in enumerate(shards, 1):
        file = f"{STEM}-{i:05d}-of-{len(shards):05d}.safetensors"
        save_file(shard, folder / file, meta)
        index |= dict.fromkeys(shard, file)
    content = {"metadata": {"total_size": sum(t.nbytes for t in tensors.values())}, "weight_map": index}
    (folder / f"{STEM}.safetensors.index.json").write_text(json.dumps(content, indent=2), encoding="utf-8")


def _nearest(tensors: Mapping[str, Tensor]) -> str:
    """The preset with the fewest differences; the first of several. Sizes decide, not values."""

    def distance(name: str) -> int:
        expected = _expected(_sized(tensors, RELEASES[name].dit))
        same = sum(n in tensors and tensors[n].shape == v.shape for n, v in expected.items())
        return len(expected) + len(tensors) - 2 * same

    return min(RELEASES, key=distance)


def _net(config: Config) -> type[nn.Module]:
    if isinstance(config, VAEConfig):
        return CausalVAE
    return AudioDiT if isinstance(config, AudioDiTConfig) else DiT


def _expected(config: Config) -> dict[str, Tensor]:
    with torch.device("meta"):
        return _net(config)(config).state_dict()


def _types(tensors: Mapping[str, Tensor]) -> str:
    counts = Counter(str(value.dtype).removeprefix("torch.") for value in tensors.values())
    return ", ".join(f"{name} {count}" for name, count in counts.most_common())
