"""One evaluation on several devices: video tokens and tiles shared out over a mesh, started by `torchrun`.

Each device keeps its share of the video tokens and all text tokens. For attention shares of tokens become
shares of heads and back (all-to-all, as DeepSpeed-Ulysses does), so heads must divide by the devices.
PyTorch's own `context_parallel` knows CUDA kernels only; the exchange here is the collectives of
`torch.distributed` on the group of a `DeviceMesh`, which run on any of its backends. What the
functional ones import holds a group that exists by then for good: `destroy_process_group` could not end its
threads, and a thread that lets go of a tensor while Python exits aborts the process.

Shape legend: B batch, N video tokens, S those of a share, L text tokens, A heads, D channels of a head, P
devices.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor, distributed
from torch.distributed.device_mesh import DeviceMesh

from avatar.backbone.attention import Rotation, attention
from avatar.backbone.dit import Attend, DiT
from avatar.backbone.modulation import FirstFrame
from avatar.backbone.vae import CausalVAE


def share_tokens(net: DiT, mesh: DeviceMesh) -> None:
    """Let all devices of a one-dimensional mesh evaluate a net together; each must hold it and be called.

    Raises:
        ValueError: the heads do not divide by the devices.
    """
    if net.config.heads % mesh.size():
        raise ValueError(f"{net.config.heads} heads do not divide by {mesh.size()} devices")
    net.sharing = TokenSharing(mesh)


def share_tiles(vae: CausalVAE, mesh: DeviceMesh) -> None:
    """Let all devices of a one-dimensional mesh code tiles in turn; each gets the whole result."""

    def map_tiles(fn: Callable[[Tensor], Tensor], tiles: Iterable[Tensor]) -> Iterator[Tensor]:
        waiting, rank, size = iter(tiles), mesh.get_local_rank(), mesh.size()
        while turn := list(islice(waiting, size)):
            made = fn(turn[min(rank, len(turn) - 1)])
            shapes = _gather(torch.tensor([made.shape], device=made.device), 0, mesh)
            largest = shapes.amax(0)
            room = made.new_zeros(largest.tolist())
            room[tuple(slice(n) for n in made.shape)] = made
            every = _gather(room[None], 0, mesh)
            for tile, shape in zip(every[: len(turn)], shapes.tolist(), strict=False):
                yield tile[tuple(slice(n) for n in shape)]

    vae.map_tiles = map_tiles


class TokenSharing:
    """A `Sharing` of the DiT's video tokens; the last share is filled up with tokens that nobody looks at."""

    def __init__(self, mesh: DeviceMesh) -> None:
        self.mesh, self.rank, self.size = mesh, mesh.get_local_rank(), mesh.size()

    def scatter(
        self, tokens: Tensor, rotation: Rotation, first: FirstFrame | None
    ) -> tuple[Tensor, Rotation, FirstFrame | None]:
        """This device's share (B, S, D) of tokens (B, N, D), its rotation, and how much of it is clean."""
        share = -(-tokens.shape[1] // self.size)
        fill = share * self.size - tokens.shape[1]
        start = self.rank * share
        tokens = F.pad(tokens, (0, 0, 0, fill))[:, start : start + share]
        rotation = torch.cat([rotation, rotation.new_ones(fill, rotation.shape[1])])[start : start + share]
        if first is not None:
            first = FirstFrame(first.vector, min(max(first.tokens - start, 0), share))
        return tokens, rotation, first

    def attend(self, count: int, lengths: Sequence[int] | None) -> Attend:
        """Attention among all video tokens and the text."""
        share = -(-count // self.size)

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            heads, text = q.shape[2] // self.size, q.shape[1] - share
            mine = slice(self.rank * heads, (self.rank + 1) * heads)
            video = self._to_heads(torch.stack([x[:, :share] for x in (q, k, v)]))[:, :, :count]
            words = (x[:, share:, mine] for x in (q, k, v))
            q, k, v = (torch.cat(pair, 1) for pair in zip(video, words, strict=True))
            seen = attention(q, k, v, lengths=lengths).unflatten(-1, (heads, -1))
            back = self._to_tokens(F.pad(seen[:, :count], (0, 0, 0, 0, 0, share * self.size - count)))
            if not text:
                return back.flatten(2)
            return torch.cat([back, _gather(seen[:, count:], 2, self.mesh)], 1).flatten(2)

        return attend

    def gather(self, tokens: Tensor, count: int) -> Tensor:
        """All tokens (B, N, D) of the shares (B, S, D)."""
        return _gather(tokens, 1, self.mesh)[:, :count]

    def _to_heads(self, x: Tensor) -> Tensor:
        """(3, B, S, A, D) of a share of tokens to (3, B, P S, A / P, D) of a share of heads."""
        parts = x.unflatten(3, (self.size, -1)).movedim(3, 0).contiguous()
        return self._exchange(parts).movedim(0, 2).flatten(2, 3)

    def _to_tokens(self, x: Tensor) -> Tensor:
        """(B, P S, A / P, D) of a share of heads to (B, S, A, D) of a share of tokens."""
        parts = x.unflatten(1, (self.size, -1)).movedim(1, 0).contiguous()
        return self._exchange(parts).movedim(0, 2).flatten(2, 3)

    def _exchange(self, parts: Tensor) -> Tensor:
        """Part i of (P, ...) goes to device i; what came from device i is part i."""
        received = torch.empty_like(parts)
        distributed.all_to_all_single(received, parts, group=self.mesh.get_group())
        return received


def _gather(x: Tensor, dim: int, mesh: DeviceMesh) -> Tensor:
    """The tensors of all devices, joined along an axis."""
    parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(mesh.size())]
    distributed.all_gather(parts, x.contiguous(), group=mesh.get_group())
    return torch.cat(parts, dim)
