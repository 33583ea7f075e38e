"""Signals kept in the user's cache by the content of what they were taken from and how that was done."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from platformdirs import user_cache_dir

from avatar.drivers.signal import Signal
from avatar.drivers.signal_file import VERSION
from avatar.errors import UserError

logger = logging.getLogger(__name__)

S = TypeVar("S", bound=Signal)


def cache_path(kind: type[Signal], source: Path | bytes, settings: Mapping[str, str]) -> Path:
    """The file of a signal: its name is the SHA-256 of the source's bytes, the settings and the version."""
    digest = hashlib.sha256(json.dumps([kind.KIND, VERSION, dict(sorted(settings.items()))]).encode())
    if isinstance(source, bytes):
        digest.update(source)
    else:
        with source.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return Path(user_cache_dir("avatar-toolkit")) / "signals" / f"{digest.hexdigest()}.safetensors"


def cached(kind: type[S], source: Path | bytes, settings: Mapping[str, str], make: Callable[[], S]) -> S:
    """The signal of a source, a file or what it would hold, from the cache or made and put there.

    A cache that can not be read or written is said in a warning and done without.
    """
    path = cache_path(kind, source, settings)
    if path.exists():
        try:
            return kind.load(path)
        except UserError as error:
            logger.warning("%s; it is made anew", error)
    signal = make()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        signal.save(path)
    except (OSError, UserError) as error:
        logger.warning("the signal is not kept: %s", error)
    return signal
