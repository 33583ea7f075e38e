"""Time the pieces against their floor: `avatar bench`.

The floor of a piece is its counted operations / the rate of matrix products on this machine, measured in the
same run: the time it would take if all of it were one large matrix product. Ratios to it compare between
machines; the seconds beside them do not.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import wraps
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from avatar import media
from avatar.backbone.decode import ReferenceDecoder
from avatar.backbone.dit import DiT
from avatar.backbone.vae import CausalVAE
from avatar.drivers.whisper import WhisperFeatures

if TYPE_CHECKING:
    from rich.table import Table

    from avatar.report import Cost

MATRIX_SIDES = (256, 512, 1024, 2048)
LONG_ENOUGH = 0.05  # seconds of one product; where larger ones would take longer, they are left out
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
LENGTHS = (2, 10, 60)  # seconds of the whole drives
# Every call of these while a video is made is one call of the piece.
PIECES: tuple[tuple[str, type, str], ...] = (
    ("Whisper", WhisperFeatures, "_encode"),
    ("VAE encode", CausalVAE, "_posterior"),
    ("DiT step", DiT, "forward"),
    ("VAE decode", CausalVAE, "_decode"),
    ("reference decode", ReferenceDecoder, "forward"),
)


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One piece of the work. Times in seconds."""

    name: str
    seconds: float  # of one call, median of the runs
    calls: int  # in the whole video
    frames: int  # of the whole video
    operations: int  # of one call, floating-point, a multiplication and an addition counting as two
    floors: dict[str, float]  # of one call, by number type

    @property
    def ratio(self) -> float:
        """Time / floor of the number type that is fastest here."""
        return self.seconds / max(min(self.floors.values()), 1e-12)

    @property
    def per_frame(self) -> float:
        """Seconds for every frame of the video."""
        return self.seconds * self.calls / self.frames


# ---- counting and timing ----


def _attention_operations(query: Any, key: Any, value: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    return int(sdpa_flop_count(query, key, value))


def _attention_gradient_operations(
    gradient: Any, query: Any, key: Any, value: Any, *_: Any, out_shape: Any = None, **__: Any
) -> int:
    return int(sdpa_backward_flop_count(gradient, query, key, value))


# The kernels that attention runs through on a CPU, which the counter of torch does not know.
UNCOUNTED = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_operations,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_gradient_operations,
}


def operations(call: Callable[[], object]) -> int:
    """Floating-point operations of one call: products of matrices, convolutions, attention."""
    with FlopCounterMode(display=False, custom_mapping=UNCOUNTED) as counter:
        call()
    return int(counter.get_total_flops())


def timed(call: Callable[[], object]) -> float:
    """Seconds of one call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def matrix_rate(dtype: torch.dtype) -> float:
    """Best rate of square matrix products, operations per second."""
    best = 0.0
    for side in MATRIX_SIDES:
        a = torch.randn(side, side).to(dtype)
        taken = min(timed(lambda a=a: a @ a) for _ in range(3))  # type: ignore[misc]
        best = max(best, 2 * side**3 / taken)
        if taken > LONG_ENOUGH:
            break
    return best


# ---- pieces of a video ----


class Recorded:
    """The first call of a piece, to be repeated, and how many there were."""

    def __init__(self) -> None:
        self.call: Callable[[], object] | None = None
        self.count = 0


@contextmanager
def recording(pieces: Sequence[tuple[str, type, str]] = PIECES) -> Iterator[dict[str, Recorded]]:
    """Keep the calls of the pieces that are made meanwhile, by name."""
    calls = {name: Recorded() for name, _, _ in pieces}
    originals = [(cls, method, getattr(cls, method)) for _, cls, method in pieces]

    def watch(original: Callable[..., object], record: Recorded) -> Callable[..., object]:
        @wraps(original)
        def watched(*args: Any, **kwargs: Any) -> object:
            record.count += 1
            if record.call is None:
                record.call = lambda: original(*args, **kwargs)
            return original(*args, **kwargs)

        return watched

    for (cls, method, original), record in zip(originals, calls.values(), strict=True):
        setattr(cls, method, watch(original, record))
    try:
        yield calls
    finally:
        for cls, method, original in originals:
            setattr(cls, method, original)


def bench(
    make: Callable[[], int],
    pieces: Sequence[tuple[str, type, str]] = PIECES,
    runs: int = 5,
    rates: Mapping[str, float] | None = None,
) -> list[Piece]:
    """Make a video once, then repeat each of its pieces by itself.

    Args:
        make: makes the video and returns its number of frames.
        pieces: (name, class, method) of what is timed.
        runs: how often each piece is repeated.
        rates: matrix products per second by number type; measured when not given.
    """
    rates = rates or {name: matrix_rate(dtype) for name, dtype in DTYPES.items()}
    with recording(pieces) as calls:
        frames = make()
    found = []
    with torch.inference_mode():
        for name, record in calls.items():
            if record.call is None:
                continue
            counted = operations(record.call)  # also warms it up
            found.append(
                Piece(
                    name=name,
                    seconds=median(timed(record.call) for _ in range(runs)),
                    calls=record.count,
                    frames=frames,
                    operations=counted,
                    floors={kind: counted / rate for kind, rate in rates.items()},
                )
            )
    return found


# ---- the whole drive ----


def of_length(audio: Path, seconds: float, out: Path) -> None:
    """Write a recording of this length: the given one over and over."""
    import wave

    sound = media.read_audio(audio)
    samples = np.resize(sound, round(seconds * media.RATE))  # repeats what is too short
    with wave.open(str(out), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(media.RATE)
        file.writeframes((samples.clip(-1, 1) * 32767).astype("<i2").tobytes())


def drives(reference: Path, audio: Path, lengths: Sequence[float] = LENGTHS) -> dict[float, Cost]:
    """What `avatar drive` takes for recordings of several lengths, in seconds."""
    from avatar.measure import drive_cost, startup

    start = startup(reference, audio)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for seconds in lengths:
            speech = Path(folder, f"speech-{seconds:g}.wav")
            of_length(audio, seconds, speech)
            found[seconds] = drive_cost(reference, speech, Path(folder, "video.mp4"), start)
    return found


# ---- the command ----


def piece_table(found: Sequence[Piece]) -> Table:
    """One row per piece, and their sum."""
    from rich.table import Table

    kinds = list(found[0].floors)
    result = Table("piece", "calls", "ms", "GFLOP", *(f"floor {k}, ms" for k in kinds), "ratio", "ms a frame")
    for p in found:
        floors = [f"{1e3 * p.floors[kind]:.2f}" for kind in kinds]
        operations = f"{p.operations / 1e9:.2f}"
        row = [p.name, str(p.calls), f"{1e3 * p.seconds:.2f}", operations, *floors]
        result.add_row(*row, f"{p.ratio:.1f}", f"{1e3 * p.per_frame:.2f}")
    blank = [""] * (len(kinds) + 4)
    result.add_row("sum", *blank, f"{1e3 * sum(p.per_frame for p in found):.2f}")
    return result


def drive_table(found: Mapping[float, Cost]) -> Table:
    """One row per length."""
    from rich.table import Table

    result = Table("drive, s", "wall, s", "wall / video", "load, s", "first frame, s", "memory, GB", "growth")
    before = None
    for seconds, cost in found.items():
        memory = (cost.memory + cost.encoder_memory) / 1e9
        growth = "" if before is None else f"{100 * (memory / before - 1):+.1f} %"
        times = [f"{cost.wall:.1f}", f"{cost.wall_ratio:.2f}", f"{cost.load:.1f}", f"{cost.first_frame:.1f}"]
        result.add_row(f"{seconds:g}", *times, f"{memory:.2f}", growth)
        before = memory
    return result


def run(
    reference: Path, audio: Path, json_out: Path | None = None, whole: bool = True, runs: int = 5
) -> None:
    """The command `avatar bench`: print what the pieces and the whole drives take, and write it as JSON.

    Args:
        reference: a photo with a face.
        audio: speech of any length; its first 2 seconds are used for the pieces.
        json_out: file to write.
        whole: also run `avatar drive` for 2, 10 and 60 seconds of it.
        runs: repetitions of each piece.
    """
    from rich.console import Console

    from avatar import Animator

    animator = Animator.from_pretrained("mini")
    rates = {name: matrix_rate(dtype) for name, dtype in DTYPES.items()}
    console = Console()
    console.print(
        ", ".join(f"matrix products {kind}: {rate / 1e9:.0f} GFLOP/s" for kind, rate in rates.items())
    )
    with tempfile.TemporaryDirectory() as folder:
        speech = Path(folder, "speech.wav")
        of_length(audio, LENGTHS[0], speech)
        found = bench(
            lambda: sum(1 for _ in animator.stream(ref=reference, audio=speech)), runs=runs, rates=rates
        )
    console.print(piece_table(found))
    costs = drives(reference, audio) if whole else {}
    if costs:
        console.print(drive_table(costs))
    if json_out:
        content = {
            "matrix_rates": rates,
            "pieces": [asdict(p) | {"ratio": p.ratio, "per_frame": p.per_frame} for p in found],
            "drives": {f"{seconds:g}": asdict(cost) for seconds, cost in costs.items()},
        }
        json_out.write_text(json.dumps(content, indent=2), "utf8")
