"""ONNX files of nets of a few nodes, written by hand: what the tests of DWPose need and no more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from numpy.typing import NDArray

TYPES = {"float32": 1, "int64": 7}  # onnx.TensorProto.DataType
Node = tuple[str, tuple[str, ...], str]  # operator, inputs, output


def write_net(
    path: Path,
    shape: tuple[int, ...],
    constants: Mapping[str, NDArray],
    nodes: Sequence[Node],
    outputs: Mapping[str, tuple[int, ...]],
) -> None:
    """A net that takes `picture` of this shape; outputs are named with their shapes."""
    graph = _text(2, "net") + _bytes(11, _value("picture", shape))
    for operator, inputs, output in nodes:
        node = b"".join(_text(1, name) for name in inputs) + _text(2, output) + _text(4, operator)
        if operator == "Concat":  # along the last axis
            node += _bytes(5, _text(1, "axis") + _number(3, 2) + _number(20, 2))
        graph += _bytes(1, node)
    for name, value in constants.items():
        tensor = b"".join(_number(1, size) for size in value.shape) + _number(2, TYPES[value.dtype.name])
        graph += _bytes(5, tensor + _text(8, name) + _bytes(9, value.tobytes()))
    for name, sizes in outputs.items():
        graph += _bytes(12, _value(name, sizes))
    path.write_bytes(_number(1, 8) + _bytes(7, graph) + _bytes(8, _text(1, "") + _number(2, 13)))


def write_constants(path: Path, shape: tuple[int, ...], values: Mapping[str, NDArray]) -> None:
    """A net that gives the same float32 arrays whatever it sees."""
    held = {f"{name}_held": value for name, value in values.items()}
    nodes = [("Identity", (f"{name}_held",), name) for name in values]
    write_net(path, shape, held, nodes, {name: value.shape for name, value in values.items()})


def _value(name: str, shape: tuple[int, ...]) -> bytes:
    sizes = b"".join(_bytes(1, _number(1, size)) for size in shape)
    return _text(1, name) + _bytes(2, _bytes(1, _number(1, TYPES["float32"]) + _bytes(2, sizes)))


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
