"""The bench counts right and leaves the nets as they were; times are never asserted."""

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from avatar import bench, media

RATES = {"fp32": 1e10, "bf16": 2e10}


class Tiny(nn.Module):
    """A layer and an attention, whose operations are known."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(32, 32)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.scaled_dot_product_attention(x, x, x)

    def project(self, x: Tensor) -> Tensor:
        return self.layer(x)


PIECES = (("attention", Tiny, "forward"), ("layer", Tiny, "project"))


def make_video() -> int:
    net = Tiny()
    for _ in range(3):
        net(torch.randn(1, 4, 64, 32))
    net.project(torch.randn(5, 32))
    return 6


def test_operations_of_layers_and_attention() -> None:
    net, x = Tiny().eval(), torch.randn(1, 4, 64, 32)
    with torch.inference_mode():
        assert bench.operations(lambda: net(x)) == 2 * 2 * 4 * 64 * 64 * 32
        assert bench.operations(lambda: net.project(x)) == 2 * 4 * 64 * 32 * 32


def test_operations_of_a_gradient() -> None:
    """A gradient by both inputs of a product is two products; that of attention makes its scores anew."""
    net, x = Tiny(), torch.randn(1, 4, 64, 32, requires_grad=True)
    layer, attention = 2 * 4 * 64 * 32 * 32, 2 * 2 * 4 * 64 * 64 * 32
    assert bench.operations(lambda: net.project(x).sum().backward()) == 3 * layer
    assert bench.operations(lambda: net(x).sum().backward()) == attention + 2.5 * attention


def test_every_piece_of_a_video_is_repeated_and_counted() -> None:
    before = Tiny.forward
    found = bench.bench(make_video, PIECES, runs=2, rates=RATES)
    assert Tiny.forward is before
    assert [(p.name, p.calls, p.frames) for p in found] == [("attention", 3, 6), ("layer", 1, 6)]
    assert found[1].operations == 2 * 5 * 32 * 32
    for p in found:
        assert p.seconds > 0 and math.isclose(p.per_frame, p.seconds * p.calls / 6)
        assert p.floors == {kind: p.operations / rate for kind, rate in RATES.items()}
        assert math.isclose(p.ratio, p.seconds / p.floors["bf16"])
    assert len(bench.piece_table(found).rows) == 3


def test_a_piece_that_is_not_used_is_left_out() -> None:
    found = bench.bench(lambda: 1 if Tiny().project(torch.randn(1, 32)) is not None else 0, PIECES, 1, RATES)
    assert [p.name for p in found] == ["layer"]


def test_an_error_leaves_the_nets_as_they_were() -> None:
    before = Tiny.forward
    try:
        with bench.recording(PIECES[:1]):
            Tiny()(torch.randn(3))
    except (RuntimeError, IndexError):
        pass
    assert Tiny.forward is before


def test_the_pieces_exist() -> None:
    for name, cls, method in bench.PIECES:
        assert callable(getattr(cls, method)), name


def test_matrix_rates_are_positive() -> None:
    assert bench.matrix_rate(torch.float32) > 1e6


def test_recordings_of_any_length(tmp_path: Path) -> None:
    import wave

    short, out = tmp_path / "short.wav", tmp_path / "long.wav"
    with wave.open(str(short), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(media.RATE)
        file.writeframes(np.arange(8000, dtype="<i2").tobytes())
    for seconds in (0.2, 1.3):
        bench.of_length(short, seconds, out)
        assert float(media.audio_seconds(out)) == seconds
