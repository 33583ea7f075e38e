"""A folder of public weights: what must be in it, what is not, and its nets, each made when it is needed.

Two layouts are known: that of the original repositories, whose folder is called `ckpts`, and that of
diffusers, with a `model_index.json`. All that is missing or does not fit is said at once, before anything
heavy is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Generic, NoReturn, TypeVar, cast

import torch
from torch import nn

from avatar import weights
from avatar.adapters.audio_dit import AudioDiTConfig
from avatar.backbone.dit import DiT, DiTConfig
from avatar.backbone.offload import Offload
from avatar.backbone.quantise import Weights, quantise
from avatar.backbone.vae import CausalVAE
from avatar.drivers.prompt_encoders import Folders, import_transformers, read_config
from avatar.errors import UserError
from avatar.releases import RELEASES, FileNames, Release
from avatar.weight_files import MAP, locate

Net = TypeVar("Net", bound=nn.Module)

ROOTS = ("", "ckpts", "weights/ckpts")  # where the folders of a release may stand below the one that is given
MISSING = "missing "
ORIGINAL = "mp_rank_00_model_states.pt"
FP8 = "_fp8"  # ends the names of 8-bit weights
TOKENIZERS = (("tokenizer.json",), ("tokenizer.model",), ("vocab.json", "merges.txt"))
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
_DIFFUSERS = FileNames(dit="transformer", vae="vae", language="text_encoder")


@dataclass(frozen=True, kw_only=True)
class ReleaseFiles:
    """Paths of a release whose files are there.

    Attributes:
        preset: name of the release.
        dit: file or folder of the DiT.
        vae: folder of the VAE.
        encoders: of text.
        whisper: folder; None for releases that do not hear.
    """

    preset: str
    dit: Path
    vae: Path
    encoders: Folders
    whisper: Path | None

    @property
    def release(self) -> Release:
        """The release."""
        return RELEASES[self.preset]


def find(root: Path, preset: str, *, dit_weight: Path | None = None, fp8: bool = False) -> ReleaseFiles:
    """Look for all files of a release, and whether the nets' tensors are those that are expected.

    Args:
        root: folder of the weights, in one of the layouts.
        dit_weight: another file or folder of the DiT.
        fp8: take the DiT's 8-bit file.

    Raises:
        UserError: no such preset or folder, or files or tensors are missing, unexpected or of another size;
            one message has them all.
    """
    if preset not in RELEASES:
        raise UserError(f"--preset {preset}: must be one of {', '.join(RELEASES)}")
    if not root.is_dir():
        raise UserError(f"--weights {root}: no such folder")
    release = RELEASES[preset]
    whole = (root / "model_index.json").is_file()
    if whole and release.files.whisper is not None:
        raise UserError(f"--weights {root}: diffusers has no layout for {preset}, give the original folder")
    names = _DIFFUSERS if whole else release.files
    base = root if whole else _base(root, names)
    language, clip = base / names.language, base / names.clip
    files = ReleaseFiles(
        preset=preset,
        dit=dit_weight or base / names.dit,
        vae=base / names.vae,
        encoders=Folders(
            language=language,
            language_tokenizer=base / "tokenizer" if whole else language,
            clip=clip,
            clip_tokenizer=base / "tokenizer_2" if whole else clip,
        ),
        whisper=None if names.whisper is None else base / names.whisper,
    )
    problems: list[str] = []
    stem = "diffusion_pytorch_model.safetensors"
    dit = _asked(problems, lambda: _dit_file(files.dit, fp8, stem if whole else ORIGINAL))
    _asked(problems, lambda: _weights_of(files.vae, stem if whole else "pytorch_model.pt"))
    models = [files.encoders.language, files.encoders.clip, *([files.whisper] if files.whisper else [])]
    for folder in models:
        _asked(problems, partial(_weights_of, folder, "model.safetensors"))
        problems += _lacking(folder, [("config.json",)])
    for folder in (files.encoders.language_tokenizer, files.encoders.clip_tokenizer):
        problems += _lacking(folder, TOKENIZERS)
    if files.whisper is not None:
        problems += _lacking(files.whisper, [("preprocessor_config.json",)])
    if problems:
        missing = [p.removeprefix(MISSING) for p in problems if p.startswith(MISSING)]
        told = [MISSING + ", ".join(missing)] if missing else []
        told += [problem for problem in problems if not problem.startswith(MISSING)]
        raise UserError(f"{root} is not complete for the preset {preset}: {'; '.join(told)}")
    assert dit is not None
    files = replace(files, dit=dit)
    problems = _misfits(files)
    if problems:
        raise UserError(f"{root} does not fit the preset {preset}: {'; '.join(problems)}")
    return files


def load_dit(
    files: ReleaseFiles,
    dtype: torch.dtype,
    loras: Sequence[tuple[Path, float]] = (),
    small: Weights | None = None,
) -> DiT:
    """The DiT on the CPU, LoRAs merged, then its blocks in 8 bits where asked for.

    Raises:
        UserError: a LoRA does not fit, or torchao is not installed.
    """
    found = weights.load(files.dit, _preset_of(files))
    if loras:
        found = weights.merge_loras(found, loras)
    net = cast(DiT, found.module().to(dtype)).requires_grad_(False)
    if small is not None:
        quantise(net, small)
    return net


def check_mapped(files: ReleaseFiles, dtype: torch.dtype) -> None:
    """Refuse weights that would have to be copied to be used, since copies do not stay in the file.

    Raises:
        UserError: they are of another layout or number type.
    """
    found = weights.load(files.dit, _preset_of(files))
    if found.layout == "diffusers":
        raise UserError(
            f"--block-offload: {files.dit} is in the layout of diffusers, whose matrices are joined in "
            "memory; write it anew by `avatar weights convert`"
        )
    held = next(value.dtype for value in found.tensors.values())
    if held != dtype:
        names = {kind: name for name, kind in DTYPES.items()}
        raise UserError(
            f"--dtype {names[dtype]}: with --block-offload numbers are used as they are in {files.dit}, "
            f"which holds {names.get(held, held)}"
        )


def load_vae(files: ReleaseFiles, dtype: torch.dtype) -> CausalVAE:
    """The VAE on the CPU."""
    return cast(CausalVAE, weights.load(files.vae).module().to(dtype)).requires_grad_(False)


class Placed(Generic[Net]):
    """A net that is made when it is first used, and that need not stay on the device after that."""

    def __init__(self, make: Callable[[], Net], device: torch.device, offload: bool) -> None:
        self._make, self._device, self._offload = make, device, offload
        self._net: Net | None = None

    @contextmanager
    def __call__(self) -> Iterator[Net]:
        """The net on the device, for as long as the block lasts."""
        if self._net is None:
            self._net = self._make()
        try:
            yield self._net.to(self._device)
        finally:
            if self._offload and self._device.type != "cpu":
                self._net.to("cpu")
                torch.cuda.empty_cache()


class ByBlocks:
    """A DiT whose blocks are read from their file as they run."""

    def __init__(self, make: Callable[[], DiT], device: torch.device) -> None:
        self._make, self._device = make, device
        self._net: DiT | None = None

    @contextmanager
    def __call__(self) -> Iterator[DiT]:
        """The net; all but its blocks is on the device."""
        if self._net is None:
            self._net = self._make()
            Offload(self._net, self._device)
        yield self._net


def pick_dtype(name: str) -> torch.dtype:
    """A number type by the name that the command line has for it.

    Raises:
        UserError: unknown.
    """
    if name not in DTYPES:
        raise UserError(f"--dtype {name}: must be one of {', '.join(DTYPES)}")
    return DTYPES[name]


def small_dtype(device: torch.device, dtype: torch.dtype) -> torch.dtype:
    """What the VAE and the text encoders compute in: 16-bit floats on CUDA, as released; else single ones.

    Args:
        dtype: of the DiT; float32 there means float32 everywhere.
    """
    return torch.float16 if device.type == "cuda" and dtype != torch.float32 else torch.float32


def _preset_of(files: ReleaseFiles) -> str | None:
    """The preset, for weights that do not say themselves what they are."""
    located = locate(files.dit)
    told = weights.metadata(located).get("class") is not None or "_class_name" in (located.config or {})
    return None if told else files.preset


def _base(root: Path, names: FileNames) -> Path:
    """The folder that has most of the release's folders."""
    parts = [part for part in (names.dit, names.vae, names.language, names.clip, names.whisper) if part]
    return max((root / below for below in ROOTS), key=lambda base: sum((base / p).is_dir() for p in parts))


def _asked(problems: list[str], ask: Callable[[], Path]) -> Path | None:
    """What `ask` gives, or None and its error among the problems."""
    try:
        return ask()
    except UserError as error:
        problems.append(str(error))
        return None


def _dit_file(path: Path, fp8: bool, usual: str) -> Path:
    """The DiT's one file, or its folder of shards."""
    if path.is_file():
        return path
    missing = path if path.suffix else path / usual
    whole = [p for p in sorted(path.glob("*.pt")) if not p.stem.endswith(MAP)]
    chosen = [p for p in whole if p.stem.endswith(FP8) == fp8]
    if fp8 and not chosen:
        _absent(missing.with_stem(missing.stem + FP8))
    if len(chosen) == 1:
        return chosen[0]
    return _weights_of(path, missing.name) if path.is_dir() else _absent(missing)


def _weights_of(folder: Path, usual: str) -> Path:
    """The folder, if weights are in it and whole."""
    if not any(folder.glob("*.safetensors*")) and not any(folder.glob("*.pt")):
        return _absent(folder / usual)
    locate(folder)
    return folder


def _absent(path: Path) -> NoReturn:
    raise UserError(f"{MISSING}{path}")


def _lacking(folder: Path, choices: Sequence[tuple[str, ...]]) -> list[str]:
    """What is missing, where the files of one of the choices must be there."""
    if any(all((folder / name).is_file() for name in names) for names in choices):
        return []
    return [f"{MISSING}{', '.join(str(folder / name) for name in choices[0])}"]


def _misfits(files: ReleaseFiles) -> list[str]:
    """Tensors that the nets lack or do not know, and encoders of other sizes than the DiT listens to."""
    import_transformers()
    dit, vae = weights.load(files.dit, _preset_of(files)), weights.load(files.vae)
    config = dit.config
    if not isinstance(config, DiTConfig) or isinstance(vae.config, DiTConfig):
        other = files.dit if not isinstance(config, DiTConfig) else files.vae
        return [f"{other} is {'no DiT' if other == files.dit else 'no VAE'}"]
    problems = [f"{w.source}: {found}" for w in (dit, vae) if (found := w.differences())]
    wanted = files.release.dit
    for name in ("condition_channels", "clean_first_frame", "guidance_embed"):
        if getattr(config, name) != getattr(wanted, name):
            problems.append(f"{dit.source}: {name} is {getattr(config, name)}, not {getattr(wanted, name)}")
    language, clip = read_config(files.encoders.language), read_config(files.encoders.clip)
    kind = "llama" if files.release.template.picture == "none" else "llava"
    if language.model_type != kind:
        problems.append(f"{files.encoders.language}: is {language.model_type}, not {kind}")
    sizes = [
        (files.encoders.language, language.get_text_config().hidden_size, config.text_dim),
        (files.encoders.clip, clip.get_text_config().hidden_size, config.pooled_dim),
    ]
    if files.whisper is not None and isinstance(config, AudioDiTConfig):
        whisper = read_config(files.whisper)
        sizes.append((files.whisper, whisper.d_model, config.speech[2]))
        sizes.append((files.whisper, whisper.encoder_layers, config.speech[1] - 1))
    return problems + [f"{p}: size {has}, the DiT wants {wants}" for p, has, wants in sizes if has != wants]
