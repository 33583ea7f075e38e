"""Adapter files of `mini`: what footage of a person teaches the shipped nets, some megabytes at most.

The tensors of a file are named NET.MODULE.lora_A.weight and NET.MODULE.lora_B.weight for the two factors of a
change of MODULE's weight, and NET.NAME.change for a parameter that is added as it is. The header says which
weights the file changes: it is refused beside others, where it would change something else.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from avatar.adapters.lora import Layer, Lora, merge
from avatar.backbone.diffusers_keys import Place
from avatar.drivers.speech import SpeechToCurves, Style
from avatar.errors import UserError
from avatar.version import __version__

FORMAT = "avatar-adapter 1"
FILE = "adapter.safetensors"  # in the folder of a run
DOWN, UP, CHANGE = ".lora_A.weight", ".lora_B.weight", ".change"


@dataclass(frozen=True)
class Adapter:
    """An adapter file.

    Attributes:
        kind: what it adapts: "audio", "pose", "expression", several with "+" between them, or "text".
        base: the digest of the weights file of each net that it changes.
        scale: alpha / rank, of all products of factors.
        tensors: see the module's description.
        version: of the toolkit that wrote it.
    """

    kind: str
    base: Mapping[str, str]
    scale: float
    tensors: Mapping[str, Tensor]
    version: str = __version__

    def save(self, path: Path) -> None:
        """Write the file, in half precision, whole or not at all."""
        facts = {"format": FORMAT, "kind": self.kind, "version": self.version}
        header = {**facts, "base": json.dumps(dict(self.base)), "scale": repr(self.scale)}
        half = {name: value.detach().half().cpu().contiguous() for name, value in self.tensors.items()}
        part = path.with_name(path.name + ".partial")
        save_file(half, part, header)
        os.replace(part, path)

    @classmethod
    def load(cls, path: Path) -> Adapter:
        """Read an adapter file, or that in the folder of a run.

        Raises:
            UserError: there is none, or it is something else.
        """
        file = path / FILE if path.is_dir() else path
        if not file.exists():
            raise UserError(f"--adapter {path}: no such file; `avatar finetune` leaves {FILE} in its folder")
        try:
            with safe_open(file, "pt") as opened:
                facts = opened.metadata() or {}
                tensors = {name: opened.get_tensor(name).float() for name in opened.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise UserError(f"--adapter {path}: not a safetensors file, or a damaged one") from error
        if facts.get("format") != FORMAT:
            raise UserError(f"--adapter {path}: no adapter of this toolkit; `avatar finetune` makes them")
        return cls(facts["kind"], json.loads(facts["base"]), float(facts["scale"]), tensors, facts["version"])

    def of(self, net: str) -> dict[str, Tensor]:
        """The tensors for a net, without its name."""
        return {name.partition(".")[2]: t for name, t in self.tensors.items() if name.startswith(f"{net}.")}

    def add(
        self,
        nets: Mapping[str, nn.Module],
        folder: Path,
        strength: float = 1.0,
        elsewhere: Container[str] = (),
    ) -> None:
        """Change nets in place.

        Args:
            nets: by the names of their weights files in `folder`; more than needed may be given.
            elsewhere: nets that are loaded at another place; only their weights are looked at.

        Raises:
            ValueError: a net is not there, was loaded from other weights, or has other layers.
        """
        for name, expected in self.base.items():
            if name not in nets and name not in elsewhere:
                raise ValueError(f"changes the net {name}, which is not there")
            if digest(folder / f"{name}.safetensors") != expected:
                raise ValueError(f"was made for other weights of {name}; fine-tune it again")
            if name not in nets:
                continue
            net = nets[name]
            if isinstance(net, SpeechToCurves) and net.style is None:
                net.style = Style().to(net.mean.device)
            change(net, self.of(name), self.scale, strength)


@torch.no_grad()
def change(net: nn.Module, tensors: Mapping[str, Tensor], scale: float, strength: float) -> None:
    """Add strength times the tensors of an adapter to a net's own, in place.

    Raises:
        ValueError: layers that the net does not have, or of another shape.
    """
    modules = [name.removesuffix(DOWN) for name in tensors if name.endswith(DOWN)]
    layers = []
    for module in modules:
        down, up = tensors[module + DOWN], tensors[module + UP]
        layers.append(Layer(Place(module, 0, 1), down, up, scale * len(down)))
    own = merge(net.state_dict(), [(Lora("avatar", tuple(layers)), strength)])
    for name, value in tensors.items():
        if name.endswith(CHANGE):
            place = name.removesuffix(CHANGE)
            if place not in own or own[place].shape != value.shape:
                raise ValueError(f"{place}: the net has no such parameter of shape {tuple(value.shape)}")
            own[place] = own[place] + strength * value.to(own[place])
    net.load_state_dict(own)


def digest(path: Path) -> str:
    """What a weights file is known by."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def add_adapters(
    given: Iterable[tuple[str | Path, float]],
    nets: Mapping[str, nn.Module],
    folder: Path,
    elsewhere: Container[str] = (),
) -> None:
    """Add adapters, each times its strength, to nets in place.

    Args:
        nets, elsewhere: by the names of their weights files in `folder`, see `Adapter.add`.

    Raises:
        UserError: a file that is none, or does not fit.
    """
    for path, strength in given:
        adapter = Adapter.load(Path(path))
        try:
            adapter.add(nets, folder, strength, elsewhere)
        except ValueError as error:
            raise UserError(f"--adapter {path}: {error}") from error
