"""Pose adapter: the latents of a skeleton video are added to what the DiT is given.

    zhat_t <- zhat_t + scale * P z_pose        (section 2.3 of the design)

z_pose is the skeleton video under the VAE that codes the pictures, zhat_t the noisy latents with all that is
joined to them on the channel axis, P a projection that begins as zero.
"""

import torch
from torch import Tensor, nn


class PoseAdapter(nn.Module):
    """The projection of skeleton latents to the input channels of a DiT; zero at the start."""

    def __init__(self, latent_channels: int, input_channels: int) -> None:
        super().__init__()
        self.proj = nn.Conv3d(latent_channels, input_channels, 1)
        nn.init.zeros_(self.proj.weight)
        nn.init.zeros_(self.proj.bias)  # type: ignore[arg-type]

    def forward(self, joined: Tensor, pose: Tensor, scale: float | Tensor = 1.0) -> Tensor:
        """The input with the pose added.

        Args:
            joined: (B, input channels, T, h, w).
            pose: (B, C, T, h, w).
            scale: strength, a number or one for each latent frame, (B or 1, T); at 0 nothing is added.
        """
        if isinstance(scale, Tensor):
            scale = scale[:, None, :, None, None]
        return joined + scale * self.proj(pose) if torch.as_tensor(scale).any() else joined
