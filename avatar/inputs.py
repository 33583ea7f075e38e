"""What a user gives to drive a video, made the list of signals that a session takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from avatar.drivers.audio_signal import Recording, read_sound
from avatar.drivers.expression import read_expression
from avatar.drivers.pose import read_pose
from avatar.drivers.prompt import Prompt, read_prompt
from avatar.drivers.signal import Signal
from avatar.errors import UserError

Driver = Signal | Recording | Prompt
Given = Driver | str | Path
READERS: dict[str, Callable[..., Driver]] = {
    "audio": read_sound,
    "pose": read_pose,
    "expression": read_expression,
    "prompt": read_prompt,
}


def read_drivers(given: Mapping[str, Given | Iterable[Given] | None]) -> list[Driver]:
    """Signals of the values of keywords such as `audio`: each a signal, a file or a word, or several of them.

    Raises:
        UserError: a file that can not be read, or a signal of another kind than its keyword.
    """
    return [read_driver(kind, value) for kind, values in given.items() for value in _several(values)]


def read_driver(kind: str, given: Given, **how: Any) -> Driver:
    """One signal; `how` it is read, as the kind's reader in READERS takes it.

    Raises:
        UserError: a file that can not be read, or a signal of another kind.
    """
    if not isinstance(given, Driver):
        return READERS[kind](given, **how)
    if kind != given.KIND:
        raise UserError(f"{kind}: holds a signal of kind {given.KIND}, {kind} is needed")
    return given


def check_drivers(signals: Iterable[object]) -> list[Driver]:
    """The list `signals` that a user wrote.

    Raises:
        UserError: something in it is no signal that can drive a face.
    """
    found = []
    for signal in signals:
        if not isinstance(signal, Driver) or signal.KIND not in READERS:
            what = f"a signal of kind {signal.KIND}" if isinstance(signal, Signal) else repr(signal)
            raise UserError(f"signals: {what} drives no face; give signals of {', '.join(READERS)}")
        found.append(signal)
    return found


def _several(values: Given | Iterable[Given] | None) -> list[Given]:
    if values is None:
        return []
    return [values] if isinstance(values, Given) else list(values)
