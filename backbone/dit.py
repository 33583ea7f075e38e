"""Diffusion transformer over video latents: dual-stream blocks, then single-stream blocks.

Shape legend: B batch, C channels, T H W latent frames, height, width, N video tokens, L text tokens, D hidden
channels. Sequences hold the video first and the text, which may be missing altogether, last. Parameter names
are those of the public HunyuanVideo weights (section 1.2 of the design).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from avatar.backbone.attention import (
    Grid,
    KeptAttention,
    Rotation,
    attention,
    norm_modulate,
    rope_3d,
)
from avatar.backbone.embed import MLP, PooledEmbedder, ScalarEmbedder, TextRefiner, without_padding
from avatar.backbone.linear import bare, gelu, linear_gelu
from avatar.backbone.modulation import FirstFrame, Modulation
from avatar.backbone.norm_rope import norm_rope
from avatar.backbone.step_cache import StepCache
from avatar.backbone.tiling import fold, unfold

TIME_SCALE = 1000.0  # scalars and guidance are embedded as times of 0..1000 are


@dataclass(frozen=True, kw_only=True)
class DiTConfig:
    """Sizes of a `DiT`.

    Attributes:
        in_channels: of the latents.
        condition_channels: latents (reference, driven reference, ...) joined to the input on the channel
        axis.
        out_channels: of the prediction.
        rope_channels: channels of a head rotated by time, height and width; their sum is the head's size.
        text_dim: channels of the text tokens; 0 for a net without a text stream.
        pooled_dim: channels of the pooled text; 0 for none.
        refiner_blocks: of the text refiner.
        guidance_embed: whether a distilled guidance scale is embedded.
        scalars: how many numbers in [0, 1] are embedded like the time and added to it.
        clean_first_frame: the first latent frame is given, not made: its tokens see time 0 and no guidance.
    """

    in_channels: int
    condition_channels: int = 0
    out_channels: int
    hidden: int
    heads: int
    double_blocks: int
    single_blocks: int
    rope_channels: Grid
    rope_theta: float = 256.0
    mlp_ratio: float = 4.0
    patch: Grid = (1, 2, 2)
    qkv_bias: bool = True
    text_dim: int = 0
    pooled_dim: int = 0
    refiner_blocks: int = 2
    guidance_embed: bool = False
    scalars: int = 0
    clean_first_frame: bool = False


class BlockAdapter(Protocol):
    """Something that changes the video tokens after a block, already holding its own condition."""

    def after_double(self, index: int, tokens: Tensor, grid: Grid) -> Tensor:
        """Video tokens (B, N, D) after dual-stream block `index`; same shape back."""
        ...

    def after_single(self, index: int, tokens: Tensor, grid: Grid) -> Tensor:
        """Video tokens (B, N, D) after single-stream block `index`; same shape back."""
        ...


class Attend(Protocol):
    """Attention of one evaluation over its whole sequence; as `avatar.backbone.attention.attention`."""

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, N, A, D) to (B, N, A * D)."""
        ...


class Sharing(Protocol):
    """How the video tokens of an evaluation are shared out among devices."""

    def scatter(
        self, tokens: Tensor, rotation: Rotation, first: FirstFrame | None
    ) -> tuple[Tensor, Rotation, FirstFrame | None]:
        """This device's share of the tokens (B, N, D), and what belongs to it."""
        ...

    def attend(self, count: int, lengths: Sequence[int] | None) -> Attend:
        """Attention among all `count` video tokens and the text, each device giving its share."""
        ...

    def gather(self, tokens: Tensor, count: int) -> Tensor:
        """All video tokens of the shares."""
        ...


class HeadNorm(nn.Module):
    """Weight of the RMS norm of queries or keys, per head; `norm_rope` applies it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))


class DoubleBlock(nn.Module):
    """Video and text with their own weights, joined in attention only; without text the video half alone."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        hidden, head = config.hidden, config.hidden // config.heads
        self.heads = config.heads
        self.streams = ("img", "txt") if config.text_dim else ("img",)
        for s in self.streams:
            self.add_module(f"{s}_mod", Modulation(hidden, 6))
            self.add_module(f"{s}_attn_qkv", nn.Linear(hidden, 3 * hidden, bias=config.qkv_bias))
            self.add_module(f"{s}_attn_q_norm", HeadNorm(head))
            self.add_module(f"{s}_attn_k_norm", HeadNorm(head))
            self.add_module(f"{s}_attn_proj", nn.Linear(hidden, hidden))
            self.add_module(f"{s}_mlp", MLP(hidden, int(hidden * config.mlp_ratio)))

    def forward(
        self,
        img: Tensor,
        txt: Tensor | None,
        vector: Tensor,
        rotation: Rotation,
        attend: Attend | None = None,
        first: FirstFrame | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Video tokens (B, N, D) and text tokens (B, L, D) or None, same shapes back."""
        tokens = {"img": img} if txt is None else {"img": img, "txt": txt}
        queries, keys, values, modulations = [], [], [], {}
        for s, x in tokens.items():
            modulations[s] = m = self.get_submodule(f"{s}_mod")(vector, first if s == "img" else None)
            q, k, v = (
                self.get_submodule(f"{s}_attn_qkv")(m.norm(x, 0)).unflatten(-1, (3, self.heads, -1)).unbind(2)
            )
            turn = rotation if s == "img" else None
            queries.append((q, self.get_parameter(f"{s}_attn_q_norm.weight"), turn))
            keys.append((k, self.get_parameter(f"{s}_attn_k_norm.weight"), turn))
            values.append(v)
        v = values[0] if txt is None else torch.cat(values, dim=1)
        seen = (attend or attention)(norm_rope(queries), norm_rope(keys), v)
        parts = dict(zip(tokens, seen.split([x.shape[1] for x in tokens.values()], 1), strict=True))
        for s in reversed(tokens):  # the longer stream last: computing again for gradients stops in it
            m, mlp = modulations[s], cast(MLP, self.get_submodule(f"{s}_mlp"))
            x = m.add_linear(tokens[s], self.get_submodule(f"{s}_attn_proj"), [parts[s]], 0)
            tokens[s] = m.add_linear(x, mlp.fc2, [mlp.inside(m.norm(x, 1))], 1)
        return tokens["img"], tokens.get("txt")


class SingleBlock(nn.Module):
    """Attention and MLP side by side on the joined sequence."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        hidden, head, mlp = (
            config.hidden,
            config.hidden // config.heads,
            int(config.hidden * config.mlp_ratio),
        )
        self.heads = config.heads
        self.sizes = [3 * hidden, mlp]
        self.linear1 = nn.Linear(hidden, 3 * hidden + mlp)
        self.linear2 = nn.Linear(hidden + mlp, hidden)
        self.q_norm = HeadNorm(head)
        self.k_norm = HeadNorm(head)
        self.modulation = Modulation(hidden, 3)

    def forward(
        self,
        x: Tensor,
        vector: Tensor,
        rotation: Rotation,
        attend: Attend | None = None,
        first: FirstFrame | None = None,
    ) -> Tensor:
        """Video tokens, then text tokens, (B, N + L, D), same shape back."""
        modulated = self.modulation(vector, first)
        qkv, hidden = self._first(modulated.norm(x, 0))
        q, k, v = qkv.unflatten(-1, (3, self.heads, -1)).unbind(2)
        count = len(rotation)
        q, k = (
            norm_rope([(y[:, :count], norm.weight, rotation), (y[:, count:], norm.weight, None)])
            for y, norm in ((q, self.q_norm), (k, self.k_norm))
        )
        parts = [(attend or attention)(q, k, v), hidden]
        del qkv, q, k, v, hidden  # without gradients their memory is free before the last layer
        return modulated.add_linear(x, self.linear2, parts, 0)

    def _first(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Queries, keys and values (B, N, 3 D), and the inside of the MLP, of one matrix."""
        if bare(self.linear1, x):
            weights, biases = (y.split(self.sizes) for y in (self.linear1.weight, self.linear1.bias))
            return F.linear(x, weights[0], biases[0]), linear_gelu(x, weights[1], biases[1])
        qkv, hidden = self.linear1(x).split(self.sizes, dim=-1)
        return qkv, gelu(hidden)


class FinalLayer(nn.Module):
    """Norm, shift and scale by the condition vector, projection to patches; zero at the start."""

    def __init__(self, hidden: int, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden, channels)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(hidden, 2 * hidden))

    def forward(self, x: Tensor, vector: Tensor) -> Tensor:
        """(B, N, D) to (B, N, C * patch)."""
        shift, scale = self.adaLN_modulation(vector).chunk(2, dim=-1)
        return self.linear(norm_modulate(x, shift, scale))


class PatchEmbed(nn.Module):
    """Latents (B, C, T, H, W) to tokens (B, N, D), one per patch."""

    def __init__(self, channels: int, hidden: int, patch: Grid) -> None:
        super().__init__()
        self.patch = patch
        self.proj = nn.Conv3d(channels, hidden, patch, patch)

    def forward(self, x: Tensor) -> Tensor:
        """By a product, whose result lies token by token in memory; that of a convolution does not."""
        cells = fold(x, self.patch).flatten(1, 3)
        return F.linear(cells, self.proj.weight.flatten(1), self.proj.bias)


def init_weights(net: nn.Module) -> None:
    """Xavier everywhere; zero where a block or the net must start as the identity or as zero."""
    for module in net.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in net.modules():
        if isinstance(module, Modulation | FinalLayer):
            for parameter in module.parameters():
                nn.init.zeros_(parameter)


class DiT(nn.Module):
    """Predicts from noisy latents, their time and their conditions; what it predicts is the caller's choice.

    `recompute` trades time for memory in training: activations inside blocks are computed again going back.
    `cache` skips blocks between similar steps of a sampler. `sharing` runs one evaluation on several devices.
    """

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.config = config
        self.recompute = False
        self.cache: StepCache | None = None
        self.sharing: Sharing | None = None
        hidden = config.hidden
        self.img_in = PatchEmbed(config.in_channels + config.condition_channels, hidden, config.patch)
        self.time_in = ScalarEmbedder(hidden)
        if config.text_dim:
            self.txt_in = TextRefiner(
                config.text_dim, hidden, config.heads, config.mlp_ratio, config.refiner_blocks
            )
        if config.pooled_dim:
            self.vector_in = PooledEmbedder(config.pooled_dim, hidden)
        if config.guidance_embed:
            self.guidance_in = ScalarEmbedder(hidden)
        if config.scalars:
            self.scalars_in = ScalarEmbedder(hidden, config.scalars)
        self.double_blocks = nn.ModuleList(DoubleBlock(config) for _ in range(config.double_blocks))
        self.single_blocks = nn.ModuleList(SingleBlock(config) for _ in range(config.single_blocks))
        self.final_layer = FinalLayer(hidden, config.out_channels * prod(config.patch))
        init_weights(self)

    def forward(
        self,
        x: Tensor,
        time: Tensor,
        condition: Tensor | None = None,
        *,
        text: Tensor | None = None,
        text_mask: Tensor | None = None,
        pooled: Tensor | None = None,
        guidance: Tensor | None = None,
        scalars: Tensor | None = None,
        adapters: Sequence[BlockAdapter] = (),
        first_frame: int = 0,
        extra_tokens: Tensor | None = None,
        extra_vector: Tensor | None = None,
    ) -> Tensor:
        """One evaluation.

        Args:
            x: (B, C, T, H, W), noisy latents.
            time: (B,), 0..1000.
            condition: (B, condition channels, T, H, W).
            text: (B, L, text channels), with `text_mask` (B, L), True for tokens that count. The refiner
                looks at just these; the blocks look at as many, from the first token on.
            pooled: (B, pooled channels).
            guidance: (B,), the distilled guidance scale.
            scalars: (B, count) in about [0, 1]; None leaves them out.
            adapters: called in turn after every block.
            first_frame: time position of the first latent frame.
            extra_tokens: (B, N, D), added to the video tokens before the first block.
            extra_vector: (B, D), added to the condition vector.

        Returns:
            (B, out channels, T, H, W).
        """
        if condition is not None:
            x = torch.cat([x, condition], dim=1)
        (frames, height, width), (pt, ph, pw) = x.shape[2:], self.config.patch
        grid = (frames // pt, height // ph, width // pw)
        rotation = rope_3d(grid, self.config.rope_channels, self.config.rope_theta, first_frame).to(x.device)
        vector, first = self._vector(time, pooled, guidance, scalars, extra_vector), None
        if self.config.clean_first_frame:
            still = self._vector(torch.zeros_like(time), pooled, None, scalars, extra_vector)
            first = FirstFrame(still, grid[1] * grid[2])
        img, txt, lengths = self.img_in(x), None, None
        if extra_tokens is not None:
            img = img + extra_tokens
        total = img.shape[1]
        if text is not None:
            txt, counts = without_padding(self.txt_in(text, time, text_mask), text_mask)
            lengths = None if counts is None else [total + n for n in counts]
        attend: Attend = attention if lengths is None else partial(attention, lengths=lengths)
        if self.sharing is not None:
            if adapters:
                raise ValueError("adapters see whole frames: they can not run on shares of the tokens")
            attend = self.sharing.attend(total, lengths)
            img, rotation, first = self.sharing.scatter(img, rotation, first)

        def after_first(img: Tensor, txt: Tensor | None) -> Tensor:
            return self._after_first(img, txt, vector, rotation, attend, first, adapters, grid)

        start = img
        img, txt = self._run(self.double_blocks[0], img, txt, vector, rotation, attend, first)
        for adapter in adapters:
            img = adapter.after_double(0, img, grid)
        img = self.cache(start, img, txt, after_first) if self.cache else after_first(img, txt)
        patches = self.final_layer(img, vector)
        if self.sharing is not None:
            patches = self.sharing.gather(patches, total)
        return unfold(patches.unflatten(1, grid), self.config.patch)

    def _after_first(
        self,
        img: Tensor,
        txt: Tensor | None,
        vector: Tensor,
        rotation: Rotation,
        attend: Attend,
        first: FirstFrame | None,
        adapters: Sequence[BlockAdapter],
        grid: Grid,
    ) -> Tensor:
        """Video tokens (B, N, D) after all blocks, from the tokens after the first."""
        count = img.shape[1]
        for i, block in enumerate(self.double_blocks[1:], 1):
            img, txt = self._run(block, img, txt, vector, rotation, attend, first)
            for adapter in adapters:
                img = adapter.after_double(i, img, grid)
        tokens = img if txt is None else torch.cat([img, txt], dim=1)
        for i, block in enumerate(self.single_blocks):
            tokens = self._run(block, tokens, vector, rotation, attend, first)
            for adapter in adapters:
                img = adapter.after_single(i, tokens[:, :count], grid)
                tokens = img if txt is None else torch.cat([img, tokens[:, count:]], dim=1)
        return tokens[:, :count]

    def _vector(
        self,
        time: Tensor,
        pooled: Tensor | None,
        guidance: Tensor | None,
        scalars: Tensor | None,
        extra: Tensor | None,
    ) -> Tensor:
        vector = self.time_in(time[:, None])
        if extra is not None:
            vector = vector + extra
        if pooled is not None:
            vector = vector + self.vector_in(pooled)
        if guidance is not None:
            vector = vector + self.guidance_in(TIME_SCALE * guidance[:, None])
        if scalars is not None:
            vector = vector + self.scalars_in(TIME_SCALE * scalars)
        return vector

    def _run(self, block: nn.Module, *inputs: Tensor | Attend | FirstFrame | None) -> Tensor:
        if self.recompute and self.training:
            twice = (KeptAttention() if x is attention else x for x in inputs)
            return checkpoint(block, *twice, use_reentrant=False)
        return block(*inputs)
