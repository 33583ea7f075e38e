"""ONNX files of nets that give constants, written by hand: what the tests of DWPose need and no more."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
FLOAT = 1  # onnx.TensorProto.FLOAT


def write_net(path: Path, shape: tuple[int, ...], outputs: Mapping[str, Array]) -> None:
    """A net that takes a picture of this shape and gives `outputs`, whatever it sees."""
    graph = _text(2, "constants") + _bytes(11, _value("picture", shape))
    for name, value in outputs.items():
        graph += _bytes(1, _text(1, f"{name}_held") + _text(2, name) + _text(4, "Identity"))
        tensor = b"".join(_number(1, size) for size in value.shape) + _number(2, FLOAT)
        tensor += _text(8, f"{name}_held") + _bytes(9, value.astype("<f4").tobytes())
        graph += _bytes(5, tensor) + _bytes(12, _value(name, value.shape))
    path.write_bytes(_number(1, 8) + _bytes(7, graph) + _bytes(8, _text(1, "") + _number(2, 13)))


def _value(name: str, shape: tuple[int, ...]) -> bytes:
    sizes = b"".join(_bytes(1, _number(1, size)) for size in shape)
    return _text(1, name) + _bytes(2, _bytes(1, _number(1, FLOAT) + _bytes(2, sizes)))


# ---- protobuf's wire format --------------------------------------------------------------------


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out) + bytes([value])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _text(field: int, value: str) -> bytes:
    return _bytes(field, value.encode())
