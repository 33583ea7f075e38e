"""Configs of the DiT and the VAE as diffusers writes them in `config.json`, and back."""

from typing import Any

from avatar.backbone.causal import Kernel
from avatar.backbone.dit import DiTConfig
from avatar.backbone.vae_nets import VAEConfig

DIT_CLASS = "HunyuanVideoTransformer3DModel"
VAE_CLASS = "AutoencoderKLHunyuanVideo"
ORIGINAL_VAE_CLASS = (
    "AutoencoderKLCausal3D"  # beside the original `pytorch_model.pt`, with nearly the same fields
)

_FULL: Kernel = (3, 3, 3)
_VAE_FIXED = {"act_fn": "silu", "norm_num_groups": 32, "in_channels": 3, "out_channels": 3}


def read_dit(values: dict[str, Any]) -> DiTConfig:
    """Config of a DiT.

    Raises:
        ValueError: a field is missing, or asks for something that the net can not do.
    """
    _check(values, {"qk_norm": "rms_norm"})
    get = _Fields(values)
    kind = values.get("image_condition_type")
    channels, out = get("in_channels"), get("out_channels")
    return DiTConfig(
        in_channels=out if kind == "latent_concat" else channels,
        condition_channels=channels - out if kind == "latent_concat" else 0,
        out_channels=out,
        hidden=get("num_attention_heads") * get("attention_head_dim"),
        heads=get("num_attention_heads"),
        double_blocks=get("num_layers"),
        single_blocks=get("num_single_layers"),
        rope_channels=tuple(get("rope_axes_dim")),
        rope_theta=float(get("rope_theta")),
        mlp_ratio=float(get("mlp_ratio")),
        patch=(get("patch_size_t"), get("patch_size"), get("patch_size")),
        text_dim=get("text_embed_dim"),
        pooled_dim=get("pooled_projection_dim"),
        refiner_blocks=get("num_refiner_layers"),
        guidance_embed=get("guidance_embeds"),
        clean_first_frame=kind == "token_replace",
    )


def write_dit(config: DiTConfig) -> dict[str, Any]:
    """Content of `config.json` for a DiT with text."""
    kind = "token_replace" if config.clean_first_frame else "latent_concat"
    return {
        "_class_name": DIT_CLASS,
        "in_channels": config.in_channels + config.condition_channels,
        "out_channels": config.out_channels,
        "num_attention_heads": config.heads,
        "attention_head_dim": config.hidden // config.heads,
        "num_layers": config.double_blocks,
        "num_single_layers": config.single_blocks,
        "num_refiner_layers": config.refiner_blocks,
        "mlp_ratio": config.mlp_ratio,
        "patch_size": config.patch[1],
        "patch_size_t": config.patch[0],
        "qk_norm": "rms_norm",
        "guidance_embeds": config.guidance_embed,
        "text_embed_dim": config.text_dim,
        "pooled_projection_dim": config.pooled_dim,
        "rope_theta": config.rope_theta,
        "rope_axes_dim": list(config.rope_channels),
        "image_condition_type": kind if config.clean_first_frame or config.condition_channels else None,
    }


def read_vae(values: dict[str, Any]) -> VAEConfig:
    """Config of a VAE, by the fields of diffusers or of the original code.

    Raises:
        ValueError: as `read_dit`.
    """
    _check(values, _VAE_FIXED)
    get = _Fields(values)
    widths = tuple(get("block_out_channels"))
    return VAEConfig(
        widths=widths,
        kernels=((_FULL, _FULL),) * len(widths),
        layers_per_block=get("layers_per_block"),
        latent_channels=get("latent_channels"),
        time_factor=values.get("temporal_compression_ratio", values.get("time_compression_ratio", 4)),
        space_factor=values.get("spatial_compression_ratio", 8),
        mid_attention=values.get("mid_block_add_attention", True),
        # The original code and diffusers always mask. The audio model's fork has this switch; what its file
        # says is not known (reference, section 1.2).
        causal_attention=values.get("mid_block_causal_attn", True),
        scaling_factor=get("scaling_factor"),
    )


def write_vae(config: VAEConfig) -> dict[str, Any]:
    """Content of `config.json` for a VAE of the released layout."""
    levels = len(config.widths)
    return {
        "_class_name": VAE_CLASS,
        **_VAE_FIXED,
        "block_out_channels": list(config.widths),
        "down_block_types": ["HunyuanVideoDownBlock3D"] * levels,
        "up_block_types": ["HunyuanVideoUpBlock3D"] * levels,
        "latent_channels": config.latent_channels,
        "layers_per_block": config.layers_per_block,
        "mid_block_add_attention": config.mid_attention,
        "scaling_factor": config.scaling_factor,
        "spatial_compression_ratio": config.space_factor,
        "temporal_compression_ratio": config.time_factor,
    }


class _Fields:
    """Access that names a missing field."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values

    def __call__(self, name: str) -> Any:
        if name not in self.values:
            raise ValueError(f"no field {name}")
        return self.values[name]


def _check(values: dict[str, Any], supported: dict[str, Any]) -> None:
    for name, value in supported.items():
        if values.get(name, value) != value:
            raise ValueError(f"{name} is {values[name]}, only {value} is supported")
