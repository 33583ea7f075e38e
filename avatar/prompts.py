"""Prompts encoded once: from the user's cache, or by encoders that are loaded for it and then let go."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from platformdirs import user_cache_dir
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from avatar.drivers.prompt_encoders import Encoded, Folders, PromptEncoder, Template

logger = logging.getLogger(__name__)

VERSION = 1  # of what is kept
SAMPLE = 1 << 20  # bytes at each end of a large file that stand for its content


class Wanted(NamedTuple):
    """A prompt to encode, with the picture that the template shows beside it, RGB (H, W, 3)."""

    prompt: str
    picture: NDArray[np.uint8] | None = None


class Prompts:
    """Encodes prompts; what was encoded before, by the same files, is not encoded again.

    Args:
        encoder: loads the encoders.
        identity: of the encoders, see `identify`.
    """

    def __init__(self, encoder: Callable[[], PromptEncoder], identity: str) -> None:
        self._encoder, self._identity = encoder, identity

    def __call__(self, wanted: Sequence[Wanted]) -> list[Encoded]:
        """Encode all of them; the encoders are in memory only meanwhile, and only if one is needed.

        A cache that can not be read or written is said in a warning and done without.
        """
        paths = [self._path(one) for one in wanted]
        found = [_read(path) for path in paths]
        if any(one is None for one in found):
            encoder = self._encoder()
            for i, (one, path) in enumerate(zip(wanted, paths, strict=True)):
                if found[i] is None:
                    found[i] = encoded = encoder.encode(*one)
                    _keep(encoded, path)
            del encoder
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        return [one for one in found if one is not None]

    def _path(self, wanted: Wanted) -> Path:
        digest = hashlib.sha256(json.dumps([VERSION, self._identity, wanted.prompt]).encode())
        if wanted.picture is not None:
            digest.update(str(wanted.picture.shape).encode() + np.ascontiguousarray(wanted.picture).tobytes())
        return Path(user_cache_dir("avatar-toolkit")) / "prompts" / f"{digest.hexdigest()}.safetensors"


def identify(folders: Folders, template: Template, dtype: torch.dtype) -> str:
    """A digest of the encoders: of their small files, and of the size and both ends of the large ones."""
    digest = hashlib.sha256(repr((template, dtype)).encode())
    for folder in (folders.language, folders.language_tokenizer, folders.clip, folders.clip_tokenizer):
        for path in sorted(folder.iterdir()):
            if path.suffix not in (".json", ".txt", ".model", ".safetensors"):
                continue
            size = path.stat().st_size
            digest.update(f"{path.name} {size}".encode())
            with path.open("rb") as file:
                digest.update(file.read(SAMPLE))
                file.seek(max(0, size - SAMPLE))
                digest.update(file.read(SAMPLE))
    return digest.hexdigest()


def _read(path: Path) -> Encoded | None:
    if not path.exists():
        return None
    try:
        return Encoded(**load_file(path))
    except (SafetensorError, OSError, TypeError) as error:
        logger.warning("%s can not be read (%s); the prompt is encoded anew", path, error)
        return None


def _keep(encoded: Encoded, path: Path) -> None:
    part = path.with_name(f".{secrets.token_hex(6)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            save_file({name: value.contiguous() for name, value in encoded._asdict().items()}, part)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except (OSError, SafetensorError) as error:
        logger.warning("the encoded prompt is not kept: %s", error)
