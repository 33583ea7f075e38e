"""The decoder of the public VAE, a few frames at a time: the same function in less memory and fewer products.

Group norm needs the statistics of a whole clip, so a layer can not be streamed through; but once they are
known, norm, activation and convolution of a run of frames need only the run and two frames before it. A
residual block therefore holds two clips and a run, never the normed, the activated and the padded clip.

Three identities save products; all are exact but for rounding:
- two frames of a three-frame kernel are four products, not six (Winograd's F(2, 3) along time);
- the first frame stands before itself, so its kernel is one product with the sum of the three;
- enlarging by repetition, then 3x3x3, is for each of the four new positions a 2x2 kernel of sums of the old
  one, and for each pair of new frames three products in time.

Shape legend: F frames of a run, C channels, H height, W width. A clip is a list of frames (1, C, H, W),
channels innermost in memory. Parameters are those of `avatar.backbone.vae_nets.Decoder`.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avatar.backbone.causal import CausalConv3d, FrameCausalAttention, ResnetBlock, Upsample
from avatar.backbone.vae_nets import Decoder, VAEConfig

RUN = 2**22  # numbers in a run: two frames of the largest tiles, many of the small ones
WINOGRAD = 96  # channels from which fewer products outweigh more additions
LAST = torch.channels_last

Clip = list[Tensor]


def suits(config: VAEConfig) -> bool:
    """Whether a decoder is of the kind that this file computes."""
    kernels = {kernel for pair in config.kernels for kernel in pair} | {config.edge_kernel}
    named = (config.norm, config.resample, config.padding) == ("group", "nearest", "replicate")
    return named and kernels == {(3, 3, 3)}


@torch.no_grad()
def decode_runs(decoder: Decoder, z: Tensor) -> Tensor:
    """`decoder(z)` of unscaled latents (B, 16, t, h, w): (B, 3, T, H, W)."""
    return torch.cat([_decode(decoder, sample[None]) for sample in z])


def _decode(decoder: Decoder, z: Tensor) -> Tensor:
    x = _Moments()(_frames(z))
    x = _convolved(x, decoder.conv_in, None)
    x = _resnet(x, decoder.mid_block.resnets[0])
    for attention in decoder.mid_block.attentions:
        x = _attended(x, attention)
    x = _resnet(x, decoder.mid_block.resnets[1])
    for level in decoder.up_blocks:
        for resnet in level.resnets:
            x = _resnet(x, resnet)
        for sampler in level.upsamplers or ():
            x = _enlarged(x, sampler)
    out = _convolved(x, decoder.conv_out, decoder.conv_norm_out)
    return torch.stack(out.frames, dim=2)


class _Moments:
    """A clip and, by channel, the means of its numbers and of their squares, gathered as frames come."""

    def __init__(self) -> None:
        self.frames: Clip = []
        self.pivot = torch.zeros(())  # numbers are counted from the first frame's mean, or rounding shows
        self.sums: list[Tensor] = []

    def __call__(self, frames: Sequence[Tensor]) -> "_Moments":
        for frame in frames:
            flat = frame.permute(0, 2, 3, 1).flatten(0, 2).float()
            if not self.frames:
                self.pivot = flat.mean(0)
            flat = flat - self.pivot
            self.sums.append(torch.stack([flat.mean(0), flat.square_().mean(0)]).double())
            self.frames.append(frame)
        return self

    def affine(self, norm: nn.GroupNorm) -> tuple[Tensor, Tensor]:
        """Scale and shift (1, C, 1, 1) that do what the group norm does to this clip."""
        mean, square = torch.stack(self.sums).mean(0)
        each = norm.num_channels // norm.num_groups
        own = (mean + self.pivot).unflatten(0, (-1, each))
        middle = own.mean(1, keepdim=True)
        spread = (square - mean.square()).unflatten(0, (-1, each)) + (own - middle).square()
        scale = spread.mean(1).add(norm.eps).rsqrt().repeat_interleave(each) * norm.weight
        shift = norm.bias - middle[:, 0].repeat_interleave(each) * scale
        return scale.to(norm.weight).view(1, -1, 1, 1), shift.to(norm.weight).view(1, -1, 1, 1)


# ---- blocks ----


def _resnet(x: _Moments, block: ResnetBlock) -> _Moments:
    hidden = _convolved(x, block.conv1, block.norm1, keep=True)
    if block.conv_shortcut is not None:
        conv = block.conv_shortcut.conv
        for i, frame in enumerate(x.frames):
            x.frames[i] = F.conv2d(frame, conv.weight[:, :, 0], conv.bias)
    return _convolved(hidden, block.conv2, block.norm2, add=x.frames)


def _attended(x: _Moments, attention: FrameCausalAttention) -> _Moments:
    return _Moments()(_frames(attention(torch.stack(x.frames, dim=2))))


def _convolved(
    x: _Moments, layer: CausalConv3d, norm: nn.Module | None, keep: bool = False, add: Clip | None = None
) -> _Moments:
    """Norm, SiLU (both unless `norm` is None) and 3x3x3 convolution of a clip, plus another clip.

    The frames of `x` (unless `keep`) and of `add` are dropped as soon as they are used.
    """
    affine = x.affine(norm) if isinstance(norm, nn.GroupNorm) else None
    apply, out = _kernel(layer.conv), _Moments()

    def padded(i: int) -> Tensor:
        frame = x.frames[i]
        if not keep:
            x.frames[i] = frame.new_empty(0)
        if affine is not None:
            frame = F.silu(torch.addcmul(affine[1], frame, affine[0]), inplace=True)
        return F.pad(frame, (1, 1, 1, 1), mode="replicate").contiguous(memory_format=LAST)

    def finish(ys: Tensor, run: range) -> None:
        for i, y in zip(run, ys.split(1), strict=True):
            if add is not None:
                y = y + add[i]
                add[i] = y.new_empty(0)
            out([y])

    size, first = max(2, RUN // x.frames[0].numel() // 2 * 2), padded(0)
    past = first.expand(2, -1, -1, -1)
    finish(apply(first), range(1))
    for start in range(1, len(x.frames), size):
        run = range(start, min(start + size, len(x.frames)))
        held = torch.cat([past, *(padded(i) for i in run)])
        past = held[-2:].clone(memory_format=LAST)
        finish(apply(held), run)
    return out


def _kernel(conv: nn.Conv3d) -> Callable[[Tensor], Tensor]:
    """3x3x3 convolution of (F + 2, C, H + 2, W + 2) to (F, C', H, W), or of a first frame alone."""
    weight, bias = conv.weight, conv.bias
    total = _sum(weight, (0, 1, 2)).contiguous(memory_format=LAST)
    if min(weight.shape[:2]) < WINOGRAD or weight.dtype != torch.float32:
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


def _empty(like: Tensor, *shape: int) -> Tensor:
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=LAST)


def _frames(x: Tensor) -> Clip:
    """Frames (1, C, H, W) of a clip (1, C, T, H, W)."""
    return [frame.contiguous(memory_format=LAST) for frame in x.unbind(2)]


# ---- enlarging ----


def _enlarged(x: _Moments, sampler: Upsample) -> _Moments:
    """Twice the height and width, and twice the frames but the first where the sampler does that."""
    weight, bias = sampler.conv.conv.weight, sampler.conv.conv.bias
    total, out = _phases(_sum(weight, (0, 1, 2))), _Moments()
    edged = (F.pad(x.frames.pop(0), (1, 1, 1, 1), mode="replicate") for _ in range(len(x.frames)))
    before = far = next(edged)
    out([_place(before, total, bias)])
    if sampler.time == 1:
        taps = [_phases(weight[:, :, i]) for i in range(3)]
        for now in edged:
            y = _place(now, taps[2], bias).add_(_place(before, taps[1], None))
            out([y.add_(_place(far, taps[0], None))])
            before, far = now, before
        return out
    # Frames 2 i - 1 and 2 i see (x', x', x) and (x', x, x), x' before x: sums S of all three, B of the last,
    # D of the last two taps make them S x' + B (x - x') and S x' + D (x - x').
    late, later = _phases(weight[:, :, 2]), _phases(_sum(weight, (1, 2)))
    for now in edged:
        change, base = now - before, _place(before, total, bias)
        out([_place(change, late, None).add_(base), _place(change, later, None).add_(base)])
        before = now
    return out


def _sum(weight: Tensor, taps: Sequence[int]) -> Tensor:
    """Sum of taps in time of (C', C, 3, 3, 3), (C', C, 3, 3), rounded once."""
    return weight[:, :, list(taps)].float().sum(2).to(weight.dtype)


def _phases(kernel: Tensor) -> list[Tensor]:
    """3x3 kernels over repeated pixels as 2x2 kernels over the pixels, for new positions (0, 0) to (1, 1)."""
    k = kernel.float()
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


def _place(x: Tensor, phases: list[Tensor], bias: Tensor | None) -> Tensor:
    """The four kernels of a frame (1, C, H + 2, W + 2), their results side by side: (1, C', 2 H, 2 W)."""
    height, width = x.shape[2] - 2, x.shape[3] - 2
    out = _empty(x, 1, phases[0].shape[0], 2 * height, 2 * width)
    for i, kernel in enumerate(phases):
        row, column = divmod(i, 2)
        seen = x[:, :, row : row + height + 1, column : column + width + 1]
        out[:, :, row::2, column::2] = F.conv2d(seen, kernel, bias)
    return out
