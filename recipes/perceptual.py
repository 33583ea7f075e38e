"""Perceptual distance of pictures (LPIPS, Zhang et al. 2018): how far apart the features of VGG-16 are,
weighed by what people see.

The weights are not part of the package, and none are fetched. Two kinds of files are known by their tensors:
VGG-16 as torchvision writes it together with the weights of LPIPS, and the shift-tolerant LPIPS (Ghildyal and
Liu 2022) of the package `stlpips-pytorch`, whose VGG-16 blurs before it leaves pixels out.
Shape legend: N pictures, C channels, H height, W width; pixels lie in [-1, 1].
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from avatar.errors import UserError

PACKAGE, IN_PACKAGE = "stlpips_pytorch", "weights/vST0.0/vgg_shift_tolerant.pth"
STAGES = (2, 2, 3, 3, 3)  # convolutions of VGG-16 at each scale
# What the features were trained on, of pixels in [-1, 1].
MEAN, SPREAD = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
EPS = 1e-10
VGG = re.compile(r"(?:net\.slice\d\.|features\.)(\d+)\.(weight|bias)")
HEAD = re.compile(r"lin(\d)\.model\.1\.weight")


def read_weights(names: Sequence[str]) -> dict[str, Tensor]:
    """Tensors of all files together.

    Args:
        names: files, or `stlpips` for that of the installed package.

    Raises:
        UserError: a file is not there or can not be read, or the package is not installed.
    """
    tensors: dict[str, Tensor] = {}
    for name in names:
        path = Path(name)
        if name == "stlpips":
            spec = find_spec(PACKAGE)
            if spec is None or spec.origin is None:
                raise UserError("perceptual=stlpips: pip install --no-deps stlpips-pytorch")
            path = Path(spec.origin).parent / IN_PACKAGE
        try:
            if path.suffix == ".safetensors":
                tensors |= load_file(path)
            else:
                tensors |= torch.load(path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, ValueError) as error:
            raise UserError(f"perceptual={name}: no weights that can be read ({error})") from error
    return tensors


class Perceptual(nn.Module):
    """The distance; its weights do not train.

    Raises:
        UserError: tensors that are not those of VGG-16 and its weights.
    """

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        layers: dict[int, dict[str, Tensor]] = {}
        heads: dict[int, Tensor] = {}
        for name, value in tensors.items():
            if match := VGG.fullmatch(name):
                layers.setdefault(int(match[1]), {})[match[2]] = value
            elif match := HEAD.fullmatch(name):
                heads[int(match[1])] = value
        if len(layers) != sum(STAGES) or sorted(heads) != list(range(len(STAGES))):
            raise UserError(
                f"perceptual: {len(layers)} convolutions and {len(heads)} heads, not the {sum(STAGES)} of "
                f"VGG-16 and the {len(STAGES)} of LPIPS"
            )
        self.blurs = any(name.endswith(".filt") for name in tensors)
        self.convs = nn.ModuleList(_conv(**layers[i]) for i in sorted(layers))
        for i in sorted(heads):
            self.register_buffer(f"head{i}", heads[i].float())
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None])
        self.register_buffer("spread", torch.tensor(SPREAD)[:, None, None])
        self.eval().requires_grad_(False)

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        """Distances (N,) of pictures (N, 3, H, W)."""
        total = one.new_zeros(len(one))
        for i, (a, b) in enumerate(zip(self._features(one), self._features(other), strict=True)):
            difference = (_unit(a) - _unit(b)).square()
            total = total + F.conv2d(difference, self.get_buffer(f"head{i}")).mean((1, 2, 3))
        return total

    def _features(self, x: Tensor) -> Iterator[Tensor]:
        x, convs = (x - self.get_buffer("mean")) / self.get_buffer("spread"), iter(self.convs)
        for stage, count in enumerate(STAGES):
            if stage:
                x = _blurred(F.max_pool2d(x, 2, 1)) if self.blurs else F.max_pool2d(x, 2)
            for _ in range(count):
                x = F.relu(next(convs)(x))
            yield x


def _conv(weight: Tensor, bias: Tensor) -> nn.Conv2d:
    conv = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1)
    conv.load_state_dict({"weight": weight, "bias": bias})
    return conv


def _blurred(x: Tensor) -> Tensor:
    """Half the size, by a kernel of 1 2 1 on both axes."""
    line = x.new_tensor([0.25, 0.5, 0.25])
    kernel = (line[:, None] * line).expand(x.shape[1], 1, 3, 3)
    return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), kernel, stride=2, groups=x.shape[1])


def _unit(x: Tensor) -> Tensor:
    """Features of length 1 at every place."""
    return x / (x.square().sum(1, keepdim=True).add(EPS).sqrt() + EPS)
