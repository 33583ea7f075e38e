"""The pose adapter: zero at the start, then linear in the skeleton's latents and in the strength."""

import torch

from avatar.adapters.pose import PoseAdapter


@torch.no_grad()
def test_a_fresh_one_changes_nothing_and_a_trained_one_adds_by_strength() -> None:
    net, joined, pose = PoseAdapter(4, 10), torch.randn(2, 10, 3, 2, 2), torch.randn(2, 4, 3, 2, 2)
    assert torch.equal(net(joined, pose), joined)
    torch.nn.init.normal_(net.proj.weight)
    added = torch.einsum("oi,bithw->bothw", net.proj.weight[:, :, 0, 0, 0], pose)
    assert torch.allclose(net(joined, pose), joined + added, atol=1e-5)
    assert torch.allclose(net(joined, pose, 0.5), joined + added / 2, atol=1e-5)
    assert torch.equal(net(joined, pose, 0.0), joined)
    frames = torch.tensor([[0.0, 1.0, 2.0]])
    told = net(joined, pose, frames)
    assert torch.allclose(told, joined + added * frames[:, None, :, None, None], atol=1e-5)
