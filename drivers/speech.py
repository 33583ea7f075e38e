"""Speech to mouth curves: a small temporal net on Whisper features, and its output in video frames."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from avatar.backbone.checkpoint import load
from avatar.drivers.bridge import BridgedWhisper
from avatar.drivers.curves import CURVES, INDEX, MOUTH, curve_indices
from avatar.drivers.whisper import BUNDLED, FEATURE_RATE, WhisperFeatures
from avatar.errors import UserError

# What the mouth does; every name but the last is an ARKit curve, left and right alike.
CONTROLS: tuple[str, ...] = (
    "jawOpen",
    "mouthFunnel",
    "mouthPucker",
    "mouthStretch",
    "mouthSmile",
    "mouthLowerDown",
    "mouthUpperUp",
    "mouthRollLower",
    "mouthShrugUpper",
    "jawForward",
    "tongueOut",
    "closure",
)
CLOSURE = CONTROLS.index("closure")
PRESS, ROLL = 0.2, 0.08  # of closed lips: they touch and overlap by 0.6 mm on an Anny head
_KEPT_WHEN_CLOSED = {"jawOpen": 1.0, "mouthPucker": 0.6, "mouthStretch": 0.7, "mouthSmile": 0.7}  # others: 0

EARLY = 4  # features, 80 ms: how long before a sound the mouth may open and after it close
GATE_SMOOTH = 2  # features on each side over which the gate is averaged
SUBSAMPLES = 8  # moments at which the time of one video frame is looked at
WEIGHTS = Path(str(files("avatar").joinpath("weights/mini/speech.safetensors")))


def mouth_curves(controls: Tensor) -> Tensor:
    """ARKit curves of mouth controls, (..., 12) -> (..., 52), differentiable.

    The closure c closes the lips whatever the jaw does: `mouthClose` = c * `jawOpen` (in ARKit the one undoes
    the lips' part of the other), what parts the lips is multiplied by 1 - c, and the lips press a little.
    """
    closed = controls[..., CLOSURE]
    curves = controls.new_zeros(*controls.shape[:-1], len(CURVES))
    for column, name in enumerate(CONTROLS[:CLOSURE]):
        kept = 1 - (1 - _KEPT_WHEN_CLOSED.get(name, 0.0)) * closed
        for index in curve_indices(name):
            curves[..., index] = controls[..., column] * kept
    curves[..., INDEX["mouthClose"]] = closed * controls[..., 0]
    for index in curve_indices("mouthPress"):
        curves[..., index] = PRESS * closed
    for index in curve_indices("mouthRollLower", "mouthRollUpper"):
        curves[..., index] = curves[..., index] + ROLL * closed
    return curves


@dataclass(frozen=True, kw_only=True)
class SpeechConfig:
    """Sizes of `SpeechToCurves`.

    Attributes:
        layers: hidden states of Whisper's encoder that it reads, see `WhisperFeatures`.
        feature_dim: length of one hidden state.
        dilations: of the residual convolutions, in features of 20 ms.
    """

    layers: tuple[int, ...] = (3,)
    feature_dim: int = 384
    width: int = 192
    kernel: int = 5
    dilations: tuple[int, ...] = (1, 1, 2, 2, 4)

    @property
    def reach(self) -> int:
        """Features on each side that the convolutions see."""
        return (self.kernel // 2) * sum(self.dilations)


class Block(nn.Module):
    """Residual convolution in time without padding: the output is shorter by its reach on each side."""

    def __init__(self, width: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mix = nn.Conv1d(width, width, kernel, dilation=dilation)
        self.out = nn.Linear(width, width)
        self.reach = (kernel // 2) * dilation

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, width) -> (B, T - 2 reach, width)."""
        mixed = self.mix(self.norm(x).transpose(1, 2)).transpose(1, 2)
        return x[:, self.reach : -self.reach] + self.out(F.gelu(mixed))


class Style(nn.Module):
    """How a person's mouth differs from the mean speaker's: what each mouth curve adds to each other.

    What closes or rests stays so: curves that are 0 add nothing, and `jawOpen` changes with `mouthClose`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(len(MOUTH), len(MOUTH)))

    def forward(self, curves: Tensor) -> Tensor:
        """(..., 52) -> (..., 52)."""
        mouth = curves[..., list(MOUTH)]
        changed = curves.clone()
        changed[..., list(MOUTH)] = mouth + mouth @ self.weight
        return changed


class SpeechToCurves(nn.Module):
    """Mouth controls and voice activity from Whisper features, both at 50 Hz.

    It always computes in float32: it is small, and lips that should meet show the rounding of anything less.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, config: SpeechConfig) -> None:
        super().__init__()
        self.config = config
        inputs = len(config.layers) * config.feature_dim
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("deviation", torch.ones(inputs))
        self.enter = nn.Linear(inputs, config.width)
        self.blocks = nn.ModuleList(Block(config.width, config.kernel, d) for d in config.dilations)
        self.norm = nn.LayerNorm(config.width)
        self.leave = nn.Linear(config.width, len(CONTROLS) + 1)
        nn.init.constant_(self.leave.bias, -2.0)  # a mouth at rest
        self.style: Style | None = None  # of a person, where an adapter brings it

    @property
    def context(self) -> int:
        """Features on each side of a moment that its curves depend on."""
        return self.config.reach + EARLY + GATE_SMOOTH

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Logits without padding.

        Args:
            features: (B, T, layers, feature_dim) at 50 Hz.

        Returns:
            Logits of the controls (B, T - 2 reach, 12) and of voice activity (B, T - 2 reach).
        """
        with torch.autocast(features.device.type, enabled=False):
            x = self.enter((features.float().flatten(2) - self.mean) / self.deviation)
            for block in self.blocks:
                x = block(x)
            out = self.leave(self.norm(x))
        return out[..., :-1], out[..., -1]

    @torch.no_grad()
    def curves(self, features: Tensor) -> Tensor:
        """Mouth curves of a whole recording.

        Args:
            features: (n, layers, feature_dim) of `WhisperFeatures`.

        Returns:
            (n, 52) in [0, 1] at 50 Hz; curves that speech does not move are 0.
        """
        return torch.cat(list(self.stream([features])))

    @torch.no_grad()
    def stream(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Mouth curves of features that come in pieces; concatenated they are those of the whole."""
        buffer: Tensor | None = None
        for chunk in chunks:
            before = chunk[:1].expand(self.context, -1, -1) if buffer is None else buffer
            buffer = torch.cat([before, chunk])
            if len(buffer) > 2 * self.context:
                yield self.gated(buffer[None])[0]
                buffer = buffer[len(buffer) - 2 * self.context :]
        if buffer is not None:  # what precedes the first and follows the last feature is more of the same
            yield self.gated(torch.cat([buffer, buffer[-1:].expand(self.context, -1, -1)])[None])[0]

    def gated(self, features: Tensor) -> Tensor:
        """Curves (B, n - 2 context, 52) of features (B, n, layers, dim); a pause closes the mouth."""
        controls, activity = self(features)
        margin = EARLY + GATE_SMOOTH
        speaking = F.max_pool1d(activity.sigmoid(), 2 * EARLY + 1, 1)
        gate = F.avg_pool1d(speaking, 2 * GATE_SMOOTH + 1, 1)
        gate = ((gate - 0.25) / 0.5).clamp(0, 1)
        curves = mouth_curves(controls[:, margin:-margin].sigmoid() * gate[..., None])
        return curves if self.style is None else self.style(curves)


class SpeechDriver:
    """From sound to Whisper features and mouth curves, both at 50 Hz."""

    def __init__(self, whisper: WhisperFeatures | BridgedWhisper, net: SpeechToCurves) -> None:
        if whisper.dim != net.config.feature_dim or whisper.layers != net.config.layers:
            raise UserError(
                f"Whisper features of size {whisper.dim}, layers {whisper.layers}: the mouth curves were"
                f" trained on size {net.config.feature_dim}, layers {net.config.layers}; train others with"
                " avatar.recipes.speech"
            )
        self.whisper, self.net = whisper, net

    @classmethod
    def from_pretrained(
        cls, weights: str | Path | None = None, whisper: str | Path = BUNDLED, device: str = "cpu"
    ) -> "SpeechDriver":
        """Load the nets.

        Args:
            weights: file written by `avatar.recipes.speech`; None: the one of the preset `mini`.
            whisper: see `WhisperFeatures.from_pretrained`. Where the nets are those of `mini`, any Whisper
                fits: see `avatar.drivers.bridge`.
        """
        net = load(SpeechToCurves, weights or WEIGHTS, device)
        own = WhisperFeatures.from_pretrained(BUNDLED if weights is None else whisper, net.config.layers)
        if weights is not None or whisper == BUNDLED:
            return cls(own.to(device), net)
        other = WhisperFeatures.from_pretrained(whisper, None)
        return cls(BridgedWhisper(other, own).to(device), net)

    def __call__(self, audio: NDArray[np.float32]) -> tuple[Tensor, Tensor]:
        """Features (n, layers, dim) and mouth curves (n, 52), at 50 Hz, of sound (samples,) at 16 kHz."""
        features, curves = zip(*self.stream([audio]), strict=True)
        return torch.cat(features), torch.cat(curves)

    def stream(self, chunks: Iterable[NDArray[np.float32]]) -> Iterator[tuple[Tensor, Tensor]]:
        """The same piece by piece for sound that comes in pieces; memory does not grow with the length."""
        held: list[Tensor] = []

        def listen() -> Iterator[Tensor]:
            for features in self.whisper.stream(chunks):
                held.append(features)
                yield features

        for curves in self.net.stream(listen()):
            features = torch.cat(held)
            held[:] = [features[len(curves) :]]
            yield features[: len(curves)], curves


def resample(curves: NDArray[np.float32], fps: Fraction | float, frames: int) -> NDArray[np.float32]:
    """Curves of video frames from curves at 50 Hz.

    Frame k shows the mean over its time, from k / fps to (k + 1) / fps; but where the lips meet within that
    time, it shows the moment of the firmest closure, or a short p would be lost between two frames.

    Args:
        curves: (n, 52) at 50 Hz, row i at i / 50 s.
        fps: frames per second; exact for fractions such as 30000/1001.

    Returns:
        (frames, 52).
    """
    return np.concatenate(list(resample_stream([curves], fps, frames)))


def resample_stream(
    chunks: Iterable[NDArray[np.float32]], fps: Fraction | float, frames: int
) -> Iterator[NDArray[np.float32]]:
    """`resample` for curves that come in pieces; after the last row the face stays as it is."""
    rate = Fraction(fps)
    rows: NDArray[np.float32] | None = None
    first_row = done = 0
    for chunk in chunks:
        rows = chunk if rows is None else np.concatenate([rows, chunk])
        # Frame k needs the rows up to ceil(50 (k + 1) / fps).
        ready = min(frames, math.floor((first_row + len(rows) - 1) * rate / FEATURE_RATE))
        if ready > done:
            yield _frames(rows, first_row, rate, range(done, ready))
            done = ready
            keep = math.floor(done * FEATURE_RATE / rate)
            rows, first_row = rows[keep - first_row :], keep
    if rows is not None and done < frames:
        yield _frames(rows, first_row, rate, range(done, frames))


def _frames(rows: NDArray[np.float32], first_row: int, rate: Fraction, frames: range) -> NDArray[np.float32]:
    """Frames (len(frames), columns) from rows at 50 Hz whose first is row `first_row` of the recording."""
    inside = (np.arange(SUBSAMPLES) + 0.5) / SUBSAMPLES
    seconds = (np.array(frames, np.float64)[:, None] + inside) / float(rate)
    position = (seconds * FEATURE_RATE - first_row).clip(0, len(rows) - 1)
    low = np.floor(position).astype(int)
    high = np.minimum(low + 1, len(rows) - 1)
    part = (position - low).astype(np.float32)[..., None]
    moments = rows[low] * (1 - part) + rows[high] * part  # (frames, SUBSAMPLES, 52)
    frame = moments.mean(1)
    closed = moments[..., INDEX["mouthClose"]] / (moments[..., INDEX["jawOpen"]] + 1e-3)
    weight = ((closed.max(1) - 0.4) / 0.4).clip(0, 1)[:, None]
    firmest = moments[np.arange(len(moments)), closed.argmax(1)][:, MOUTH]
    frame[:, MOUTH] += weight * (firmest - frame[:, MOUTH])
    return frame
