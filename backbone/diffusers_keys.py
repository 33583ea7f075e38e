"""Names and tensors of a DiT as diffusers stores them, and back.

Ours are those of the original checkpoints. Three things differ besides names: diffusers keeps queries, keys
and values apart where the original has one matrix; a single-stream block's first matrix is cut in four; and
the two halves of the last modulation stand in the other order. The VAE's names are the same on both sides.
The mapping is on names of modules, so it serves weights, biases and LoRA factors alike (section 2.5 of the
reference).
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

_CONTEXT = "context_embedder.time_text_embed"
_REFINER = "txt_in.individual_token_refiner.blocks.#", "context_embedder.token_refiner.refiner_blocks.#"
_DOUBLE = "double_blocks.#", "transformer_blocks.#"
_SINGLE = "single_blocks.#", "single_transformer_blocks.#"
_TIME = "time_text_embed"


def _stream(ours: str, query: str, suffix: str, added: str, out: str) -> dict[str, tuple[str, ...]]:
    """Modules of one of the two streams of a dual-stream block."""
    names = {
        "mod.linear": (f"norm1{suffix}.linear",),
        "attn_qkv": tuple(f"attn.{query.format(part)}" for part in "qkv"),
        "attn_q_norm": (f"attn.norm_{added}q",),
        "attn_k_norm": (f"attn.norm_{added}k",),
        "attn_proj": (f"attn.{out}",),
        "mlp.fc1": (f"ff{suffix}.net.0.proj",),
        "mlp.fc2": (f"ff{suffix}.net.2",),
    }
    return _under(_DOUBLE, {f"{ours}_{name}": theirs for name, theirs in names.items()})


def _under(prefixes: tuple[str, str], names: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    ours, theirs = prefixes
    return {f"{ours}.{name}": tuple(f"{theirs}.{part}" for part in parts) for name, parts in names.items()}


MODULES: dict[str, tuple[str, ...]] = {
    "img_in.proj": ("x_embedder.proj",),
    "time_in.mlp.0": (f"{_TIME}.timestep_embedder.linear_1",),
    "time_in.mlp.2": (f"{_TIME}.timestep_embedder.linear_2",),
    "guidance_in.mlp.0": (f"{_TIME}.guidance_embedder.linear_1",),
    "guidance_in.mlp.2": (f"{_TIME}.guidance_embedder.linear_2",),
    "vector_in.in_layer": (f"{_TIME}.text_embedder.linear_1",),
    "vector_in.out_layer": (f"{_TIME}.text_embedder.linear_2",),
    "txt_in.input_embedder": ("context_embedder.proj_in",),
    "txt_in.t_embedder.mlp.0": (f"{_CONTEXT}.timestep_embedder.linear_1",),
    "txt_in.t_embedder.mlp.2": (f"{_CONTEXT}.timestep_embedder.linear_2",),
    "txt_in.c_embedder.linear_1": (f"{_CONTEXT}.text_embedder.linear_1",),
    "txt_in.c_embedder.linear_2": (f"{_CONTEXT}.text_embedder.linear_2",),
    "final_layer.linear": ("proj_out",),
    "final_layer.adaLN_modulation.1": ("norm_out.linear",),
    **_under(
        _REFINER,
        {
            "norm1": ("norm1",),
            "norm2": ("norm2",),
            "self_attn_qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
            "self_attn_proj": ("attn.to_out.0",),
            "mlp.fc1": ("ff.net.0.proj",),
            "mlp.fc2": ("ff.net.2",),
            "adaLN_modulation.1": ("norm_out.linear",),
        },
    ),
    **_stream("img", "to_{}", "", "", "to_out.0"),
    **_stream("txt", "add_{}_proj", "_context", "added_", "to_add_out"),
    **_under(
        _SINGLE,
        {
            "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
            "linear2": ("proj_out",),
            "q_norm": ("attn.norm_q",),
            "k_norm": ("attn.norm_k",),
            "modulation.linear": ("norm.linear",),
        },
    ),
}
"""Our module to theirs; `#` stands for the number of a block. Several are the rows of ours, in this order."""

SWAPPED = "final_layer.adaLN_modulation.1"
"""Shift, then scale with us; scale, then shift with them."""

_INVERSE = {part: (ours, i) for ours, parts in MODULES.items() for i, part in enumerate(parts)}


class Place(NamedTuple):
    """Where a module of theirs goes: our module, which part of its rows, and of how many."""

    module: str
    part: int
    parts: int


def our_place(module: str) -> Place | None:
    """Where their module goes with us; None for a name that is not theirs."""
    pattern, number = _pattern(module)
    if pattern not in _INVERSE:
        return None
    ours, part = _INVERSE[pattern]
    return Place(ours.replace("#", number), part, len(MODULES[ours]))


def their_modules(module: str) -> tuple[str, ...] | None:
    """Their modules whose rows make up ours, in order; None for a name that is not ours."""
    pattern, number = _pattern(module)
    if pattern not in MODULES:
        return None
    return tuple(part.replace("#", number) for part in MODULES[pattern])


def swap_halves(x: Tensor) -> Tensor:
    """The two halves of the rows change places."""
    return torch.cat(x.chunk(2)[::-1])


def split_rows(x: Tensor, parts: int, hidden: int) -> list[Tensor]:
    """Rows of a fused matrix: `hidden` for each part but the last, which has the rest."""
    return list(x.split([*[hidden] * (parts - 1), x.shape[0] - hidden * (parts - 1)]))


def to_diffusers(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a DiT by our names to tensors by theirs.

    Raises:
        ValueError: names that diffusers has no place for; the message gives them all.
    """
    _refuse([name for name in tensors if their_modules(_module(name)) is None], "diffusers has no place for")
    hidden = tensors["img_in.proj.weight"].shape[0]
    out = {}
    for name, tensor in tensors.items():
        module, kind = _module(name), name.rpartition(".")[2]
        theirs = their_modules(module) or ()
        value = swap_halves(tensor) if module == SWAPPED else tensor
        for part, rows in zip(theirs, split_rows(value, len(theirs), hidden), strict=True):
            out[f"{part}.{kind}"] = rows
    return out


def from_diffusers(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a DiT by their names to tensors by ours.

    Raises:
        ValueError: names that are not of this net, or a part of a fused matrix that is missing; the message
            gives them all.
    """
    places = {name: our_place(_module(name)) for name in tensors}
    _refuse([name for name, place in places.items() if place is None], "no part of this net")
    rows: dict[str, dict[int, Tensor]] = defaultdict(dict)
    missing = []
    for name, place in places.items():
        assert place is not None
        rows[f"{place.module}.{name.rpartition('.')[2]}"][place.part] = tensors[name]
    out = {}
    for name, found in rows.items():
        theirs = their_modules(_module(name)) or ()
        missing += [f"{m}.{name.rpartition('.')[2]}" for i, m in enumerate(theirs) if i not in found]
        if len(found) == len(theirs):
            value = torch.cat([found[i] for i in range(len(theirs))]) if len(found) > 1 else found[0]
            out[name] = swap_halves(value) if _module(name) == SWAPPED else value
    _refuse(missing, "missing")
    return out


def _module(name: str) -> str:
    return name.rpartition(".")[0]


def _pattern(module: str) -> tuple[str, str]:
    """The name with `#` for the number of its block, and that number."""
    found = re.match(r"(.*?blocks)\.(\d+)\.(.*)", module)
    return (f"{found[1]}.#.{found[3]}", found[2]) if found else (module, "")


def _refuse(names: list[str], what: str) -> None:
    if names:
        raise ValueError(f"{what}: {', '.join(sorted(names))}")
