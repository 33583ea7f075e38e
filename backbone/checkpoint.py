"""Weights as safetensors, with the config that rebuilds the module as JSON in the file's metadata."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


def save(module: nn.Module, path: Path | str, dtype: torch.dtype | None = torch.float16) -> None:
    """Write a module that has a dataclass `config`; the file appears whole or not at all.

    Args:
        dtype: of the stored floating-point tensors; None leaves each as it is.
    """
    path = Path(path)
    tensors = {
        name: (value.to(dtype) if dtype and value.is_floating_point() else value).detach().cpu().contiguous()
        for name, value in module.state_dict().items()
    }
    metadata = {"class": type(module).__name__, "config": json.dumps(asdict(module.config))}  # type: ignore[call-overload]
    partial = path.with_name(path.name + ".partial")
    save_file(tensors, partial, metadata)
    os.replace(partial, path)


def load(
    cls: type[Module], path: Path | str, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> Module:
    """Rebuild a module written by `save`, in evaluation mode.

    Args:
        cls: class of the module; its constructor takes a dataclass called `config`.
        dtype: of the module's floating-point tensors.

    Raises:
        ValueError: the file holds another class, its config has unknown or missing fields, or tensors are
            missing, unexpected or of another shape; the message names them.
    """
    with safe_open(path, framework="pt", device=device) as file:
        metadata = file.metadata() or {}
        if metadata.get("class") != cls.__name__:
            raise ValueError(f"{path} holds {metadata.get('class', 'no class name')}, not {cls.__name__}")
        config = from_json(get_type_hints(cls.__init__)["config"], json.loads(metadata["config"]), str(path))
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    cast = {n: v.to(dtype) if v.is_floating_point() else v for n, v in tensors.items()}
    return fill(cls, config, cast, str(path))


def fill(cls: type[Module], config: Any, tensors: Mapping[str, Tensor], source: str) -> Module:
    """A module around tensors that already exist, in evaluation mode; they are not copied.

    Raises:
        ValueError: as `load`, the message begins with `source`.
    """
    with torch.device("meta"):
        module = cls(config)
    found = differences(module.state_dict(), tensors)
    if found:
        raise ValueError(f"{source} does not fit {cls.__name__}: {found}")
    module.load_state_dict(dict(tensors), assign=True)
    return module.eval()


def differences(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    """Names of tensors that are missing, unexpected or of another shape; empty where all fit."""
    problems = {
        "missing": sorted(expected.keys() - found.keys()),
        "unexpected": sorted(found.keys() - expected.keys()),
        "wrong shape": [n for n, v in expected.items() if n in found and found[n].shape != v.shape],
    }
    return "; ".join(f"{what}: {', '.join(names)}" for what, names in problems.items() if names)


def from_json(config_class: Any, values: dict[str, Any], source: str) -> Any:
    """Build a dataclass from parsed JSON: lists become tuples, nested dataclasses are rebuilt.

    Raises:
        ValueError: a field is unknown or missing.
    """
    hints = get_type_hints(config_class)
    names = {field.name for field in fields(config_class)}
    unknown = values.keys() - names
    if unknown:
        raise ValueError(f"{source}: unknown fields of {config_class.__name__}: {', '.join(sorted(unknown))}")
    built = {
        name: from_json(_dataclass(hints[name]), value, source) if isinstance(value, dict) else _tuples(value)
        for name, value in values.items()
    }
    try:
        return config_class(**built)
    except TypeError as error:
        raise ValueError(f"{source}: {error}") from error


def _dataclass(hint: Any) -> Any:
    """The dataclass a hint names, alone or as `Config | None`."""
    return hint if is_dataclass(hint) else next(part for part in get_args(hint) if is_dataclass(part))


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
