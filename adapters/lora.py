"""LoRA files of others: kohya's, diffusers' and that of the public image-to-video training.

A layer adds strength * alpha / rank * up down to a weight. All three are read into `Lora`, by our names of
modules; it is then merged into tensors or kept beside a net (section 10.1 of the reference).
"""

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from avatar.backbone.diffusers_keys import MODULES, SWAPPED, Place, our_place, swap_halves, their_modules

FLAT_PREFIXES = {"lora_unet_": "kohya", "Hunyuan_video_I2V_lora_": "image-to-video training"}
DOTTED_PREFIXES = ("transformer.", "diffusion_model.")
_FACTORS = {
    "lora_down.weight": "down",
    "lora_up.weight": "up",
    "lora_A.weight": "down",
    "lora_B.weight": "up",
    "alpha": "alpha",
}
_FLAT = [(re.compile(name.replace(".", "_").replace("#", r"(\d+)")), name) for name in MODULES]


class Layer(NamedTuple):
    """What is added to one weight.

    Attributes:
        place: our module, and which of its parts, where others cut in parts what we have in one.
        down: (rank, in channels); of a convolution, with its extents behind.
        up: (out channels, rank), the same.
        alpha: the sum is multiplied by alpha / rank.
    """

    place: Place
    down: Tensor
    up: Tensor
    alpha: float

    @property
    def rank(self) -> int:
        """Of the two factors."""
        return self.down.shape[0]

    @property
    def scale(self) -> float:
        """Of the product of the factors, at strength 1."""
        return self.alpha / self.rank

    def rows(self, weight: Tensor) -> slice:
        """Rows of our weight that are changed.

        Raises:
            ValueError: the layer does not fit the weight.
        """
        part, parts, out = self.place.part, self.place.parts, len(weight)
        hidden = weight.shape[1]  # every fused matrix reads the hidden channels; its last part may be wider
        start, stop = part * hidden, out if part == parts - 1 else (part + 1) * hidden
        if self.up.shape[0] != stop - start or self.down.shape[1:] != weight.shape[1:]:
            raise ValueError(
                f"{self.place.module}: factors {tuple(self.up.shape)} and {tuple(self.down.shape)} do not "
                f"fit {stop - start} rows of a weight {tuple(weight.shape)}"
            )
        return slice(start, stop)


class Lora(NamedTuple):
    """A LoRA file, its layers in the order of their names."""

    format: str
    layers: tuple[Layer, ...]


def is_lora(tensors: Mapping[str, Tensor]) -> bool:
    """Whether these are the tensors of a LoRA file, of whatever format."""
    return any(".lora_" in name for name in tensors)


def parse(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> Lora:
    """Read the tensors of a LoRA file.

    Args:
        metadata: strings of the file's header; diffusers keeps its alpha there.

    Raises:
        ValueError: names that no net here has, factors without their partner, or a kind of LoRA that is not
            supported; the message gives them all.
    """
    if not is_lora(tensors):
        raise ValueError("not a LoRA: no name has lora_down or lora_A in it")
    default = _peft_alpha(metadata or {})
    found: dict[Place, dict[str, Tensor]] = defaultdict(dict)
    formats, unknown = set(), []
    for name, tensor in sorted(tensors.items()):
        module, factor = _factor(name)
        named = _place(module)
        if factor is None or named is None:
            unknown.append(name)
            continue
        place, format_ = named
        formats.add(format_)
        if place.module == SWAPPED and format_ == "diffusers" and factor == "up":
            tensor = swap_halves(tensor)
        found[place][factor] = tensor
    if unknown:
        raise ValueError(f"unknown layers: {', '.join(unknown)}")
    torn = sorted(place.module for place, parts in found.items() if not {"down", "up"} <= parts.keys())
    if torn:
        raise ValueError(f"factors without their partner: {', '.join(torn)}")
    layers = tuple(Layer(place, f["down"], f["up"], _alpha(f, default)) for place, f in found.items())
    return Lora(", ".join(sorted(formats)), layers)


def merge(tensors: Mapping[str, Tensor], loras: Sequence[tuple[Lora, float]]) -> dict[str, Tensor]:
    """Weights with LoRAs added, each times its strength; summed in float32 and rounded once.

    Args:
        tensors: of a DiT, by our names; left as they are.

    Raises:
        ValueError: layers of modules that the net has not, or of another shape.
    """
    layers = [(layer, strength) for lora, strength in loras for layer in lora.layers]
    _refuse_strangers({layer.place.module for layer, _ in layers}, tensors)
    sums: dict[str, Tensor] = {}
    for layer, strength in layers:
        name = f"{layer.place.module}.weight"
        rows = layer.rows(tensors[name])
        total = sums.setdefault(name, tensors[name].float().clone())
        product = layer.up.float().flatten(1) @ layer.down.float().flatten(1)
        total[rows] += strength * layer.scale * product.view_as(total[rows])
    return {**tensors, **{name: total.to(tensors[name].dtype) for name, total in sums.items()}}


class LiveLora:
    """A LoRA beside a net whose weights stay as they are; its strength may change between evaluations."""

    def __init__(self, net: nn.Module, lora: Lora, strength: float = 1.0) -> None:
        """Attach.

        Raises:
            ValueError: as `merge`, or a layer of something that is not linear.
        """
        self.strength = strength
        modules = dict(net.named_modules())
        _refuse_strangers({layer.place.module for layer in lora.layers}, net.state_dict())
        others = [y.place.module for y in lora.layers if not isinstance(modules[y.place.module], nn.Linear)]
        if others:
            raise ValueError(f"can only be merged, not live: {', '.join(others)}")
        self._handles = [
            modules[layer.place.module].register_forward_hook(self._hook(layer, modules[layer.place.module]))
            for layer in lora.layers
        ]

    def remove(self) -> None:
        """Detach."""
        for handle in self._handles:
            handle.remove()

    def _hook(self, layer: Layer, module: nn.Module) -> Any:
        weight = module.get_parameter("weight")
        rows, down, up = layer.rows(weight), layer.down.to(weight), layer.up.to(weight)

        def add(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            change = self.strength * layer.scale * F.linear(F.linear(inputs[0], down), up)
            return output + F.pad(change, (rows.start, output.shape[-1] - rows.stop))

        return add


def _factor(name: str) -> tuple[str, str | None]:
    """Name of a module, and which of its three numbers a tensor is."""
    for ending, factor in _FACTORS.items():
        if name.endswith(f".{ending}"):
            return name.removesuffix(f".{ending}"), factor
    return name, None


def _alpha(factors: Mapping[str, Tensor], default: float | None) -> float:
    """A layer's own, or that of the whole file, or the rank: a file without any means a scale of 1."""
    if "alpha" in factors:
        return float(factors["alpha"])
    return float(len(factors["down"])) if default is None else default


def _place(module: str) -> tuple[Place, str] | None:
    """Where a module of a LoRA goes, and the format that its name is of."""
    for prefix, format_ in FLAT_PREFIXES.items():
        if module.startswith(prefix):
            flat = module.removeprefix(prefix)
            for pattern, name in _FLAT:
                if match := pattern.fullmatch(flat):
                    return Place(name.replace("#", "".join(match.groups())), 0, 1), format_
            return None
    for prefix in DOTTED_PREFIXES:
        module = module.removeprefix(prefix)
    if their_modules(module) is not None:
        return Place(module, 0, 1), "original names"
    place = our_place(module)
    return None if place is None else (place, "diffusers")


def _peft_alpha(metadata: Mapping[str, str]) -> float | None:
    """Alpha of all layers by the config that diffusers writes into the header; None without one."""
    values = json.loads(metadata.get("lora_adapter_metadata", "{}"))
    config = {name.rpartition(".")[2]: value for name, value in values.items()}
    odd = [name for name in ("alpha_pattern", "use_rslora", "use_dora", "lora_bias") if config.get(name)]
    if odd:
        raise ValueError(f"not supported: {', '.join(odd)}")
    return config.get("lora_alpha")


def _refuse_strangers(modules: set[str], tensors: Mapping[str, Tensor]) -> None:
    strangers = sorted(module for module in modules if f"{module}.weight" not in tensors)
    if strangers:
        raise ValueError(f"layers of another net: {', '.join(strangers)}")
