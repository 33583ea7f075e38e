"""What devices do, as `avatar plan` reckons with them: the only place of its constants.

Rates are those at which the public nets run, not data-sheet peaks: they were set so that the published times
of HunyuanVideo, 720x1280, 129 frames, 50 steps come out (section 10 of the reference; tests/test_plan.py
compares). Devices without a published time are not listed.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Device:
    """One kind of GPU. Rates in operations per second, a multiplication and an addition counting as two.

    Attributes:
        memory: bytes.
        linear: of matrix products in bfloat16.
        attention: of attention in bfloat16, with flash-attn 2.
        convolution: of the VAE's convolutions in float16.
        exchange: seconds that several devices lose to each other, a step and 100 000 tokens.
    """

    memory: float
    linear: float
    attention: float
    convolution: float
    exchange: float


DEVICES = {
    "h100": Device(memory=80e9, linear=590e12, attention=300e12, convolution=150e12, exchange=0.85),
    "h20": Device(memory=96e9, linear=110e12, attention=90e12, convolution=60e12, exchange=0.85),
    "a100": Device(memory=80e9, linear=190e12, attention=187e12, convolution=60e12, exchange=0.85),
    "l20": Device(memory=48e9, linear=75e12, attention=50e12, convolution=50e12, exchange=11.0),
}

ACTIVATIONS = 20  # numbers of one hidden width that live at once for each token of a single-stream block
TEXT_ENCODERS = 8.15e9  # parameters of the language model (8.03 B) and of CLIP's text half, in 16 bit
DECODE_TILE = 3e9  # bytes of one decoded tile of 256 px and 64 frames in float16
WEIGHT_BYTES = {"bf16": 2, "fp8": 1, "int8": 1}
"""Bytes for each number, by how weights are kept."""
