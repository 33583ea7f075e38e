"""The file of a signal: safetensors that say what they are, and whose content is what was written."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avatar.errors import UserError

VERSION = "3"  # of the format


def write(path: Path, kind: str, tensors: Mapping[str, NDArray[Any]], facts: Mapping[str, str]) -> None:
    """Write tensors and what is said about them; the file appears under its name only when it is whole.

    Raises:
        UserError: the folder can not be written to.
    """
    from safetensors.numpy import save

    whole = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    meta = {"format": "avatar-signal", "version": VERSION, "kind": kind, **facts}
    part = path.with_name(f".avatar-{secrets.token_hex(6)}.part")
    try:
        part.write_bytes(save(whole, meta | {"sha256": _digest(whole, meta)}))
        os.replace(part, path)
    except OSError as error:
        raise UserError(f"{path}: can not be written ({error.strerror})") from error
    finally:
        part.unlink(missing_ok=True)


def read(path: Path, kind: str) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Tensors and facts of a file that `write` wrote.

    Raises:
        UserError: missing, damaged, of another version or kind, or changed since it was written.
    """
    tensors, meta = _open(path)
    if meta.get("format") != "avatar-signal":
        raise UserError(f"{path}: is not a signals file, make one with `avatar signals`")
    if meta.get("version") != VERSION:
        raise UserError(
            f"{path}: is of format {meta.get('version')}, {VERSION} is read here; make the file again"
        )
    if meta.get("kind") != kind:
        raise UserError(f"{path}: holds a signal of kind {meta.get('kind')}, {kind} is needed")
    if meta.pop("sha256", None) != _digest(tensors, meta):
        raise UserError(f"{path}: was changed or damaged after it was written, make the file again")
    return tensors, meta


def _open(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise UserError(f"{path}: no such signals file")
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: is not a signals file, or is damaged") from error


def _digest(tensors: Mapping[str, NDArray[Any]], meta: Mapping[str, str]) -> str:
    """SHA-256 of the tensors and of what is said about them."""
    digest = hashlib.sha256(json.dumps(dict(sorted(meta.items()))).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype.str} {tensor.shape}".encode())
        digest.update(np.ascontiguousarray(tensor).tobytes())
    return digest.hexdigest()
