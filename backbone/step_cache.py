"""Skipping blocks between similar steps of a sampler: first-block cache.

The first block always runs. What it adds to the tokens tells how far a step is from the last one that ran
whole: where the relative difference is below a threshold, what the remaining blocks added then is added again
(as ParaAttention's first-block cache does).
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass

from torch import Tensor

Rest = Callable[[Tensor, Tensor | None], Tensor]
"""Video tokens after all blocks, from video and text tokens after the first."""


@dataclass
class _Memory:
    first: Tensor  # what the first block added in the last whole step
    rest: Tensor  # what all others added
    skipped: int = 0  # steps since


class StepCache:
    """What a sampler remembers of one clip; `clear` it before the next.

    Args:
        threshold: largest relative change of what the first block adds for which a step is skipped; 0 never
            skips.
        most: steps that may be skipped in a row.

    Attributes:
        branch: which branch of guidance is evaluated; each has its own memory.
        whole: steps that ran all blocks.
        skips: steps that did not.
    """

    def __init__(self, threshold: float, most: int = 5) -> None:
        self.threshold, self.most = threshold, most
        self.branch: Hashable = None
        self.whole = self.skips = 0
        self._memory: dict[Hashable, _Memory] = {}

    def clear(self) -> None:
        """Forget the clip."""
        self._memory.clear()

    def __str__(self) -> str:
        return f"step cache: {self.skips} of {self.skips + self.whole} evaluations skipped"

    def __call__(self, start: Tensor, after: Tensor, text: Tensor | None, rest: Rest) -> Tensor:
        """Tokens after all blocks, from tokens (B, N, D) before and after the first."""
        added, known = after - start, self._memory.get(self.branch)
        if known is not None and known.skipped < self.most and self._close(added, known.first):
            known.skipped += 1
            self.skips += 1
            return after + known.rest
        done = rest(after, text)
        self._memory[self.branch] = _Memory(added, done - after)
        self.whole += 1
        return done

    def _close(self, added: Tensor, known: Tensor) -> bool:
        if added.shape != known.shape:
            return False
        return bool((added - known).abs().mean() < self.threshold * known.abs().mean())
