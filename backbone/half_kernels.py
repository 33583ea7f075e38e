"""Softmax and GELU of bfloat16 on a CPU in one pass over memory, compiled by numba.

PyTorch's go over a row several times in float32, and its GELU takes half as long as the matrix product before
it. Here a number is widened, computed with and rounded in registers. Powers of two come from a polynomial of
degree 3, whose error of 1e-4 is a fortieth of a rounding to bfloat16. NaN stays NaN.

Tensors are given as the 16 bits of each number (`bits`). Shape legend: R rows, M keys, N numbers.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray
from torch import Tensor, uint16

Bits = NDArray[np.uint16]

f32, u32, u16, i16 = np.float32, np.uint32, np.uint16, np.int16
# Sums in any order, so that they run in lanes; but numbers may be infinite or NaN.
compiled = njit(cache=True, fastmath={"reassoc", "contract", "nsz", "arcp"}, nogil=True, error_model="numpy")
LOG2_E = f32(1.44269504)
SMALLEST, LARGEST = f32(-126), f32(127)  # exponents of normal numbers
# GELU in its tanh form is x / (1 + exp(-2 u)) with u = sqrt(2 / pi) (x + 0.044715 x^3).
SLOPE = f32(2 * (2 / np.pi) ** 0.5)
CUBE = f32(0.044715)


def bits(x: Tensor) -> Bits:
    """The memory of a contiguous tensor of bfloat16."""
    return x.view(uint16).numpy()


@compiled
def _wide(x: np.uint16) -> np.float32:
    """A bfloat16 is the upper half of a float32."""
    return u32(u32(x) << u32(16)).view(f32)


@compiled
def _narrow(x: np.float32) -> np.uint16:
    """The nearest bfloat16; halves away from zero."""
    return u16(u32(f32(x).view(u32) + u32(0x8000)) >> u32(16))


@compiled
def _exp2(x: np.float32) -> np.float32:
    """2^x for x < 128: Chebyshev interpolation for the fraction, the whole part is added to the exponent."""
    x = SMALLEST if x < SMALLEST else x
    whole = np.floor(x)
    part = x - whole
    power = ((f32(0.07896726) * part + f32(0.22469316)) * part + f32(0.69632477)) * part + f32(0.99990029)
    return u32(f32(power).view(u32) + (u32(np.int32(whole)) << u32(23))).view(f32)


@compiled
def _ordered(x: np.int16) -> np.int16:
    """Bits as an integer in the order of the numbers, and back: negative ones are mirrored."""
    return i16(x ^ ((x >> i16(15)) & i16(0x7FFF)))


@compiled
def softmax_parts(scores: Bits, scale: float, sums: NDArray[np.float32]) -> None:
    """Rows (R, M) become exp(scale (score - largest of its row)), `sums` (R,) their sums; scale > 0."""
    factor = f32(scale) * LOG2_E
    for r in range(scores.shape[0]):
        row = scores[r]
        top = i16(-0x8000)
        for j in range(row.shape[0]):
            top = max(top, _ordered(i16(row[j])))
        largest = factor * _wide(u16(_ordered(top)))
        total = f32(0)
        for j in range(row.shape[0]):
            x = _exp2(_wide(row[j]) * factor - largest)
            total += x
            row[j] = _narrow(x)
        sums[r] = total


@compiled
def _share(x: np.float32) -> np.float32:
    """The share 1 / (1 + exp(-2 u)) of x that GELU passes on."""
    power = -LOG2_E * SLOPE * (x + CUBE * x * x * x)
    power = LARGEST if power > LARGEST else power
    return f32(1) / (f32(1) + _exp2(power))


@compiled
def gelu(x: Bits, out: Bits) -> None:
    """GELU, tanh form, of (N,)."""
    for j in range(x.shape[0]):
        a = _wide(x[j])
        out[j] = _narrow(a * _share(a))


@compiled
def gelu_gradient(x: Bits, grad: Bits, out: Bits) -> None:
    """`grad` (N,) times the GELU's slope at x: s + x s (1 - s) 2u', s = 1 / (1 + exp(-2 u))."""
    for j in range(x.shape[0]):
        a = _wide(x[j])
        s = _share(a)
        slope = s + a * s * (f32(1) - s) * SLOPE * (f32(1) + f32(3) * CUBE * a * a)
        out[j] = _narrow(_wide(grad[j]) * slope)


def compile_all() -> None:
    """Compile the kernels, or read what the cache has of them, before they are needed."""
    one = np.zeros(1, np.uint16)
    softmax_parts(one[None], 1.0, np.zeros(1, np.float32))
    gelu(one, one)
    gelu_gradient(one, one, one)
