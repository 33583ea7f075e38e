"""Files of public weights: which files a path stands for, and their tensors, unread until they are used.

Nothing is unpickled: `.pt` files are opened with `weights_only`.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from avatar.backbone.fp8 import FP8, dequantise
from avatar.errors import UserError

WRAPPERS = ("module", "ema", "state_dict")  # keys under which a .pt may keep its tensors, the first wins
MAP = "_map"  # ends the name of the file with the scales of an fp8 checkpoint


@dataclass(frozen=True)
class Files:
    """What a path stands for.

    Attributes:
        path: as it was given.
        parts: the files that hold its tensors.
        config: content of the folder's `config.json`; None where there is none.
    """

    path: Path
    parts: tuple[Path, ...]
    config: dict[str, Any] | None


def locate(path: Path) -> Files:
    """Find the files behind a path. Nothing but JSON is read.

    Raises:
        UserError: nothing there, files of a folder are missing (all are named), or it is not clear which is
            meant.
    """
    if path.is_file():
        return Files(path, (path,), _beside(path))
    if not path.is_dir():
        raise UserError(f"{path}: no such file or folder")
    if (path / "model_index.json").exists():
        parts = sorted(p.name for p in path.iterdir() if (p / "config.json").exists())
        raise UserError(f"{path} is a whole pipeline: name one of its folders, {', '.join(parts)}")
    config = _json(path / "config.json") if (path / "config.json").exists() else None
    indices = sorted(path.glob("*.safetensors.index.json"))
    if len(indices) > 1:
        raise UserError(f"{path} has several indices, {_names(indices)}: name a folder with one")
    if indices:
        return Files(path, _shards(indices[0]), config)
    whole = [
        file
        for file in sorted(path.iterdir())
        if file.suffix in (".safetensors", ".pt") and not file.stem.endswith(MAP)
    ]
    if len(whole) > 1:
        raise UserError(f"{path} holds several weights: name one of {_names(whole)}")
    if not whole:
        raise UserError(
            f"{path} is incomplete: missing a .safetensors file, a .safetensors.index.json or a .pt file; "
            f"it holds {_names(sorted(path.iterdir())) or 'nothing'}"
        )
    return Files(path, tuple(whole), config)


def read(files: Files, key: str | None = None) -> dict[str, Tensor]:
    """Tensors by name. They are mapped from the files, so that looking at shapes reads next to nothing.

    Args:
        key: which of `WRAPPERS` of a `.pt` file is wanted.

    Raises:
        UserError: a file is damaged or has no such key, or an fp8 checkpoint lacks its scales.
    """
    if key is not None and files.parts[0].suffix != ".pt":
        raise UserError(f"--key {key}: only .pt files have keys, {files.path} is none")
    tensors: dict[str, Tensor] = {}
    for part in files.parts:
        tensors |= _safetensors(part) if part.suffix == ".safetensors" else _pickled(part, key)
    return _exact(files, tensors)


def metadata(files: Files) -> dict[str, str]:
    """Strings in the header of a single safetensors file; empty for all else."""
    if len(files.parts) != 1 or files.parts[0].suffix != ".safetensors":
        return {}
    with _opened(files.parts[0]) as file:
        return file.metadata() or {}


def _exact(files: Files, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without 8-bit floats."""
    part = files.parts[0]
    if part.suffix == ".safetensors" or not any(value.dtype == FP8 for value in tensors.values()):
        return tensors
    scales = part.with_name(f"{part.stem}{MAP}{part.suffix}")
    if not scales.exists():
        raise UserError(f"{part} has 8-bit weights: their scales are missing, {scales.name} beside it")
    try:
        return dequantise(tensors, _pickled(scales, None))
    except ValueError as error:
        raise UserError(f"{scales}: {error}") from error


def _beside(path: Path) -> dict[str, Any] | None:
    """The config of a file that has one in its folder: of diffusers or of a VAE."""
    config = path.with_name("config.json")
    return _json(config) if config.exists() else None


def _shards(index: Path) -> tuple[Path, ...]:
    names = _json(index).get("weight_map")
    if not isinstance(names, dict):
        raise UserError(f"{index}: not an index of shards, it has no weight_map")
    parts = [index.with_name(name) for name in sorted(set(names.values()))]
    missing = [part for part in parts if not part.exists()]
    if missing:
        raise UserError(f"{index.parent} is incomplete: missing {_names(missing)}")
    held: set[str] = set()
    for part in parts:
        with _opened(part) as file:
            held |= set(file.keys())
    if held != names.keys():
        raise UserError(f"{index} and its files disagree: {', '.join(sorted(held ^ names.keys()))}")
    return tuple(parts)


def _opened(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a whole safetensors file ({_first_line(error)})") from error


def _safetensors(path: Path) -> dict[str, Tensor]:
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)


def _pickled(path: Path, key: str | None) -> dict[str, Tensor]:
    try:
        # Only the newer, zipped form of .pt can be mapped.
        loaded = torch.load(path, "cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise UserError(f"{path}: not a .pt file of tensors alone ({_first_line(error)})") from error
    wrapped = [name for name in WRAPPERS if isinstance(loaded, dict) and isinstance(loaded.get(name), dict)]
    if key is not None and key not in wrapped:
        raise UserError(f"{path}: no key {key}; it has {', '.join(wrapped) or 'tensors only'}")
    tensors = loaded[key or wrapped[0]] if wrapped else loaded
    if not isinstance(tensors, Mapping) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise UserError(f"{path}: not a file of named tensors")
    return dict(tensors)


def _json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not JSON ({_first_line(error)})") from error
    if not isinstance(values, dict):
        raise UserError(f"{path}: not a JSON object")
    return values


def _names(paths: list[Path]) -> str:
    return ", ".join(path.name for path in paths)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]
