"""Progressive unfreezing: the layers of a net are let go of one after the other, from the last to the first.

What is near the output is fitted first, on features that stay; what is nearer the input follows (section 2.6
of the design). Which layers train depends on the step alone, so a resumed run repeats an unbroken one. A
layer that has not been let go of has no gradient and so no state in the optimiser, and nothing is computed
back through it.
"""

from __future__ import annotations

from torch import nn

from avatar.backbone.dit import DiT


class Unfreezing:
    """Opens a DiT step by step.

    Args:
        every: steps between two openings; 0 opens all at once.
        blocks: transformer blocks that are open at first, and that each opening adds; what stands before them
            opens after the last of them.
    """

    def __init__(self, net: DiT, every: int, blocks: int) -> None:
        self.every, self.blocks = every, blocks
        ordered = [*net.double_blocks, *net.single_blocks][::-1]
        named = ("final_layer", "double_blocks", "single_blocks")
        entry = nn.ModuleList(module for name, module in net.named_children() if name not in named)
        groups = [ordered[first : first + blocks] for first in range(0, len(ordered), blocks)]
        self.groups = [nn.ModuleList(group) for group in groups]
        self.groups[0].append(net.final_layer)
        self.groups.append(entry)

    def open_at(self, step: int) -> int:
        """How many of the groups train at a step."""
        return len(self.groups) if not self.every else min(len(self.groups), 1 + step // self.every)

    def __call__(self, step: int) -> None:
        """Let a step train its groups, and no others."""
        count = self.open_at(step)
        for number, group in enumerate(self.groups):
            group.requires_grad_(number < count)
