"""Nets larger than memory: a block's weights are there while it runs, those of the next on their way.

On a CPU the weights are views of the mapped file. The system reads their pages when they are touched and may
drop them again, so nothing is copied; a thread asks for the pages of the next blocks ahead, not so many that
they push out those in use. For a GPU they are copied through pinned memory on a stream of their own while the
block before computes, and dropped after.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
import threading
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

PAGE = mmap.PAGESIZE
AHEAD = (
    2**28
)  # bytes of the next blocks that are asked for: of twice as many some went again before their use
WILL_NEED, COLD = 3, 20  # of madvise(2); cold pages go first when memory is short, and only then


class Offload:
    """Hooks on the blocks of a net; the net is called as before.

    Its parameters must be mapped from a file, as `avatar.weights.load(...).module()` gives them. Evaluation
    only: nothing is written to them. `remove` takes the hooks off.
    """

    def __init__(self, net: nn.Module, device: torch.device | str = "cpu") -> None:
        """Attach; on another device than the CPU all but the blocks is moved there at once."""
        self.device = torch.device(device)
        self.blocks = list(_blocks(net))
        self.weights = [_weights(block) for block in self.blocks]
        self.copies: dict[int, tuple[list[Tensor], Any]] = {}
        self._reader: threading.Thread | None = None
        self._stream = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None
        if self.device.type != "cpu":
            inside = {id(p) for weights in self.weights for p in weights}
            for tensor in chain(net.parameters(), net.buffers()):
                if id(tensor) not in inside:
                    tensor.data = tensor.data.to(self.device)
        self._handles = [
            handle
            for i, block in enumerate(self.blocks)
            for handle in (
                block.register_forward_pre_hook(lambda *_, i=i: self._before(i)),
                block.register_forward_hook(lambda *_, i=i: self._after(i)),
            )
        ]

    def remove(self) -> None:
        """Detach; the weights are those of the file again."""
        for handle in self._handles:
            handle.remove()

    def _before(self, i: int) -> None:
        if self.device.type == "cpu":
            if self._reader is None or not self._reader.is_alive():
                following = chain(*self.weights[i + 1 :], *self.weights[:i])
                self._reader = threading.Thread(target=_advise, args=(list(following), WILL_NEED))
                self._reader.start()
            return
        self._fetch(i)
        there, ready = self.copies[i]
        if ready is not None:
            torch.cuda.current_stream(self.device).wait_event(ready)
        for parameter, copy in zip(self.weights[i], there, strict=True):
            parameter.data, copy.data = copy.data, parameter.data  # the copy keeps the file's view meanwhile
        self._fetch((i + 1) % len(self.blocks))

    def _after(self, i: int) -> None:
        if self.device.type == "cpu":
            _advise(self.weights[i], COLD)
            return
        for parameter, kept in zip(self.weights[i], self.copies.pop(i)[0], strict=True):
            if self._stream is not None:
                parameter.data.record_stream(torch.cuda.current_stream(self.device))
            parameter.data = kept.data

    def _fetch(self, i: int) -> None:
        """Start the copies of a block, unless they are on their way."""
        if i in self.copies:
            return
        if self._stream is None:
            self.copies[i] = [p.data.to(self.device) for p in self.weights[i]], None
            return
        with torch.cuda.stream(self._stream):
            copies = [p.data.pin_memory().to(self.device, non_blocking=True) for p in self.weights[i]]
            self.copies[i] = copies, self._stream.record_event()


def _blocks(net: nn.Module) -> Iterator[nn.Module]:
    """In the order they run."""
    for name in ("double_blocks", "single_blocks"):
        yield from net.get_submodule(name).children()


def _weights(block: nn.Module) -> list[Tensor]:
    return list(block.parameters())


def _advise(tensors: Sequence[Tensor], advice: int) -> None:
    """Tell the system about the pages that lie wholly inside tensors; it need not listen."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    left = AHEAD if advice == WILL_NEED else sum(tensor.nbytes for tensor in tensors)
    for tensor in tensors:
        left -= tensor.nbytes
        if left < 0:
            return
        start = -(-tensor.data_ptr() // PAGE) * PAGE
        length = (tensor.data_ptr() + tensor.nbytes) // PAGE * PAGE - start
        if length > 0:
            libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), advice)
