"""Sizes of a DiT read off the shapes of its tensors, for checkpoints that say nothing of them."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from torch import Tensor

from avatar.backbone.dit import DiTConfig

Config = TypeVar("Config", bound=DiTConfig)


def sizes_from(tensors: Mapping[str, Tensor], like: Config) -> Config:
    """A config like another one, of the width and depth that the tensors have.

    What shapes can not tell is as `like` has it: what the net is told, and how its channels are rotated, in
    shares of a head (the public nets of both sizes have 1/8, 7/16 and 7/16).

    Args:
        tensors: by our names.

    Raises:
        ValueError: a tensor that tells a size is missing.
    """
    try:
        hidden = tensors["img_in.proj.weight"].shape[0]
        head = tensors["single_blocks.0.q_norm.weight"].shape[0]
        mlp = tensors["single_blocks.0.linear2.weight"].shape[1] - hidden
        text = tensors["txt_in.input_embedder.weight"].shape[1]
        pooled = tensors["vector_in.in_layer.weight"].shape[1]
    except KeyError as error:
        raise ValueError(f"its sizes can not be told without {error.args[0]}") from error
    whole = sum(like.rope_channels)
    height = 2 * (like.rope_channels[1] * head // (2 * whole))
    return replace(
        like,
        hidden=hidden,
        heads=hidden // head,
        double_blocks=_count(tensors, "double_blocks"),
        single_blocks=_count(tensors, "single_blocks"),
        rope_channels=(head - 2 * height, height, height),
        mlp_ratio=mlp / hidden,
        text_dim=text,
        pooled_dim=pooled,
        refiner_blocks=_count(tensors, "txt_in.individual_token_refiner.blocks"),
    )


def _count(names: Iterable[str], prefix: str) -> int:
    """Blocks, by the highest number, so that a missing one in between is noticed."""
    found = (name.removeprefix(f"{prefix}.").partition(".")[0] for name in names if name.startswith(prefix))
    return max(map(int, found), default=-1) + 1
