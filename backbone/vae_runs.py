"""The decoder of the public VAE, a few frames at a time: the same function in less memory and fewer products.

Group norm needs the statistics of a whole clip, so a layer can not be streamed through; but once they are
known, norm, activation and convolution of a run of frames need only the run and two frames before it. A
residual block therefore holds two clips and a run, never the normed, the activated and the padded clip.

Three identities save products; all are exact but for rounding:
- two frames of a three-frame kernel are four products, not six (Winograd's F(2, 3) along time);
- the first frame stands before itself, so its kernel is one product with the sum of the three;
- enlarging by repetition, then 3x3x3, is for each of the four new positions a 2x2 kernel of sums of the old
  one, and for each pair of new frames three products in time.

Shape legend: T frames of a clip, F of a run, C channels, H height, W width. Clips are (T, C, H, W) with the
channels innermost in memory. Parameters are those of `avatar.backbone.vae_nets.Decoder`.
"""

from collections.abc import Callable, Sequence
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avatar.backbone.causal import CausalConv3d, FrameCausalAttention, ResnetBlock, Upsample
from avatar.backbone.vae_nets import Decoder, VAEConfig

RUN = 2**22  # numbers in a run: two frames of the largest tiles, many of the small ones
WINOGRAD = 96  # channels from which fewer products outweigh more additions
LEAST = 64  # latents of a frame; norms over fewer enlarge rounding, and there is little to save
LAST = torch.channels_last


def suits(config: VAEConfig, z: Tensor) -> bool:
    """Whether a decoder is of the kind that this file computes, and latents (B, 16, t, h, w) large enough."""
    kernels = {kernel for pair in config.kernels for kernel in pair} | {config.edge_kernel}
    named = (config.norm, config.resample, config.padding) == ("group", "nearest", "replicate")
    return named and kernels == {(3, 3, 3)} and prod(z.shape[-2:]) >= LEAST


@torch.no_grad()
def decode_runs(decoder: Decoder, z: Tensor) -> Tensor:
    """`decoder(z)` of unscaled latents (B, 16, t, h, w): (B, 3, T, H, W)."""
    return torch.cat([_decode(decoder, sample) for sample in z])


def _decode(decoder: Decoder, z: Tensor) -> Tensor:
    """(16, t, h, w) to (1, 3, T, H, W)."""
    x = _convolved(_Clip(z.transpose(0, 1).contiguous(memory_format=LAST)), decoder.conv_in, None)
    middle, attentions = decoder.mid_block.resnets, decoder.mid_block.attentions
    for module in (middle[0], *attentions, middle[1], *decoder.up_blocks.modules()):
        if isinstance(module, ResnetBlock):
            x = _resnet(x, module)
        elif isinstance(module, FrameCausalAttention):
            seen = module(x.data.transpose(0, 1)[None])[0].transpose(0, 1)
            x = _Clip(seen.contiguous(memory_format=LAST))
            x.count(x.data)
        elif isinstance(module, Upsample):
            x = _enlarged(x.data, module)
    return _convolved(x, decoder.conv_out, decoder.conv_norm_out).data.transpose(0, 1)[None]


class _Clip:
    """A clip and, by channel, the means of its numbers and of their squares, counted as frames come."""

    def __init__(self, data: Tensor) -> None:
        self.data = data
        self.pivot: Tensor | None = None  # numbers are taken from the first frame's mean, or rounding shows
        self.sums: list[Tensor] = []

    def count(self, frames: Tensor) -> None:
        """Take note of finished frames."""
        for frame in frames:
            flat = _wide(frame.permute(1, 2, 0).flatten(0, 1))
            self.pivot = flat.mean(0) if self.pivot is None else self.pivot
            flat = flat - self.pivot
            self.sums.append(torch.stack([flat.mean(0), flat.square_().mean(0)]).double())

    def affine(self, norm: nn.GroupNorm) -> tuple[Tensor, Tensor]:
        """Scale and shift (C, 1, 1) that do what the group norm does to this clip."""
        mean, square = torch.stack(self.sums).mean(0)
        each = norm.num_channels // norm.num_groups
        own = (mean + self.pivot).unflatten(0, (-1, each))
        middle = own.mean(1, keepdim=True)
        spread = (square - mean.square()).unflatten(0, (-1, each)) + (own - middle).square()
        scale = spread.mean(1).add(norm.eps).rsqrt().repeat_interleave(each) * norm.weight
        shift = norm.bias - middle[:, 0].repeat_interleave(each) * scale
        return scale.to(norm.weight).view(-1, 1, 1), shift.to(norm.weight).view(-1, 1, 1)


# ---- blocks ----


def _resnet(x: _Clip, block: ResnetBlock) -> _Clip:
    """The result stands where the input stood."""
    hidden = _convolved(x, block.conv1, block.norm1)
    if block.conv_shortcut is None:
        return _convolved(hidden, block.conv2, block.norm2, onto=x.data)
    conv = block.conv_shortcut.conv
    frames, _, height, width = x.data.shape
    numbers = x.data.permute(0, 2, 3, 1).flatten()  # narrower frames fit in front of those not yet read
    narrow = numbers[: frames * height * width * conv.out_channels].view(frames, height, width, -1)
    narrow = narrow.permute(0, 3, 1, 2)
    for i in range(frames):
        narrow[i] = F.conv2d(x.data[i : i + 1], conv.weight[:, :, 0], conv.bias)[0]
    return _convolved(hidden, block.conv2, block.norm2, onto=narrow)


def _convolved(x: _Clip, layer: CausalConv3d, norm: nn.Module | None, onto: Tensor | None = None) -> _Clip:
    """Norm, SiLU (both unless `norm` is None) and 3x3x3 convolution of a clip, added to `onto` in place."""
    (frames, channels, height, width), conv = x.data.shape, layer.conv
    affine = x.affine(norm) if isinstance(norm, nn.GroupNorm) else None
    apply = _kernel(conv)
    out = _Clip(_empty(x.data, frames, conv.out_channels, height, width) if onto is None else onto)
    size = min(max(2, RUN // x.data[0].numel() // 2 * 2), frames)
    held = _empty(x.data, size + 2, channels, height + 2, width + 2)

    def read(run: slice) -> None:
        inside = held[2 : 2 + run.stop - run.start, :, 1:-1, 1:-1]
        if affine is None:
            inside.copy_(x.data[run])
        else:
            F.silu(torch.addcmul(affine[1], x.data[run], affine[0], out=inside), inplace=True)
        held[:, :, 0], held[:, :, -1] = held[:, :, 1], held[:, :, -2]
        held[..., 0], held[..., -1] = held[..., 1], held[..., -2]

    def write(run: slice, y: Tensor) -> None:
        if onto is None:
            out.data[run] = y
        else:
            out.data[run] += y
        out.count(out.data[run])

    read(slice(0, 1))
    write(slice(0, 1), apply(held[2:3]))
    held[0] = held[1] = held[2]
    for start in range(1, frames, size):
        run = slice(start, min(start + size, frames))
        read(run)
        end = 2 + run.stop - start
        write(run, apply(held[:end]))
        held[:2] = held[end - 2 : end].clone()
    return out


def _kernel(conv: nn.Conv3d) -> Callable[[Tensor], Tensor]:
    """3x3x3 convolution of (F + 2, C, H + 2, W + 2) to (F, C', H, W), or of a first frame alone."""
    weight, bias = conv.weight, conv.bias
    total = _sum(weight, (0, 1, 2)).contiguous(memory_format=LAST)
    if min(weight.shape[:2]) < WINOGRAD or _wide(weight) is not weight:
        whole = weight.contiguous(memory_format=torch.channels_last_3d)

        def plain(x: Tensor) -> Tensor:
            if len(x) == 1:
                return F.conv2d(x, total, bias)
            return F.conv3d(x.transpose(0, 1)[None], whole, bias)[0].transpose(0, 1)

        return plain
    first, middle, last = (weight[:, :, i] for i in range(3))
    kernels = [first, total / 2, (first - middle + last) / 2, last]
    g0, g1, g2, g3 = (kernel.contiguous(memory_format=LAST) for kernel in kernels)

    def winograd(x: Tensor) -> Tensor:
        if len(x) == 1:
            return F.conv2d(x, total, bias)
        count = len(x) - 2
        even, odd = x[0::2], x[1::2]  # frames t - 2, t, ... and t - 1, t + 1, ...
        pairs = (count + 1) // 2
        both = F.conv2d(odd[:pairs] + even[1 : pairs + 1], g1, bias)
        apart = F.conv2d(even[1 : pairs + 1] - odd[:pairs], g2)
        left = F.conv2d(even[:pairs] - even[1 : pairs + 1], g0).add_(both).add_(apart)
        full = count // 2
        right = both[:full].sub_(apart[:full])
        if full:
            right.sub_(F.conv2d(odd[:full] - odd[1 : full + 1], g3))
        return _interleave(left, right)

    return winograd


def _interleave(even: Tensor, odd: Tensor) -> Tensor:
    """Frames of both in turn; `even` may have one more."""
    out = _empty(even, len(even) + len(odd), *even.shape[1:])
    out[0::2], out[1::2] = even, odd
    return out


def _wide(x: Tensor) -> Tensor:
    """In a type that can be summed up: float32 at least."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _empty(like: Tensor, *shape: int) -> Tensor:
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=LAST)


# ---- enlarging ----


def _enlarged(x: Tensor, sampler: Upsample) -> _Clip:
    """Twice the height and width, and twice the frames but the first where the sampler does that."""
    (frames, _, height, width), conv = x.shape, sampler.conv.conv
    weight, bias = conv.weight, conv.bias
    count = sampler.time * (frames - 1) + 1
    out = _Clip(_empty(x, count, conv.out_channels, 2 * height, 2 * width))
    total = _phases(_sum(weight, (0, 1, 2)))
    first, middle, last = (_phases(weight[:, :, i]) for i in range(3))
    later = _phases(_sum(weight, (1, 2)))
    far = before = _edged(x[:1])
    _place(before, total, bias, out.data[:1])
    for i in range(1, frames):
        now = _edged(x[i : i + 1])
        if sampler.time == 1:
            here = out.data[i : i + 1]
            _place(now, last, bias, here)
            _place(before, middle, None, here, add=True)
            _place(far, first, None, here, add=True)
        else:
            # Frames 2 i - 1 and 2 i see (x', x', x) and (x', x, x), x' before x. With sums S of all taps, B
            # of the last, D of the last two, they are S x' + B (x - x') and S x' + D (x - x').
            change, here, next_ = now - before, out.data[2 * i - 1 : 2 * i], out.data[2 * i : 2 * i + 1]
            _place(before, total, bias, here)
            next_.copy_(here)
            _place(change, last, None, here, add=True)
            _place(change, later, None, next_, add=True)
        far, before = before, now
    out.count(out.data)
    return out


def _edged(frame: Tensor) -> Tensor:
    return F.pad(frame, (1, 1, 1, 1), mode="replicate").contiguous(memory_format=LAST)


def _sum(weight: Tensor, taps: Sequence[int]) -> Tensor:
    """Sum of taps in time of (C', C, 3, 3, 3), (C', C, 3, 3), rounded once."""
    return _wide(weight[:, :, list(taps)]).sum(2).to(weight.dtype)


def _phases(kernel: Tensor) -> list[Tensor]:
    """3x3 kernels over repeated pixels as 2x2 kernels over the pixels, for new positions (0, 0) to (1, 1)."""
    k = _wide(kernel)
    high = (
        torch.stack([k[:, :, 0], k[:, :, 1] + k[:, :, 2]], 2),
        torch.stack([k[:, :, 0] + k[:, :, 1], k[:, :, 2]], 2),
    )
    both = [
        torch.stack(pair, 3)
        for rows in high
        for pair in ((rows[..., 0], rows[..., 1] + rows[..., 2]), (rows[..., 0] + rows[..., 1], rows[..., 2]))
    ]
    return [part.to(kernel.dtype).contiguous(memory_format=LAST) for part in both]


def _place(x: Tensor, phases: list[Tensor], bias: Tensor | None, out: Tensor, add: bool = False) -> None:
    """The four kernels of a frame (1, C, H + 2, W + 2), side by side into or onto (1, C', 2 H, 2 W)."""
    height, width = x.shape[2] - 2, x.shape[3] - 2
    for i, kernel in enumerate(phases):
        row, column = divmod(i, 2)
        seen = x[:, :, row : row + height + 1, column : column + width + 1]
        place, made = out[:, :, row::2, column::2], F.conv2d(seen, kernel, bias)
        if add:
            place += made
        else:
            place.copy_(made)
