"""The reference-aware decode: warp, start, group positions and what it can learn."""

from pathlib import Path

import torch
from torch import Tensor

from avatar.backbone import checkpoint
from avatar.backbone.decode import FAINT, DecoderConfig, ReferenceDecoder, enlarge, frame_slots, warp

CONFIG = DecoderConfig(widths=(8, 16, 16), blocks=1, relief=2)


def smooth_picture(size: int = 64, seed: int = 0) -> Tensor:
    noise = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return enlarge(noise, (size, size))


def inputs(frames: int = 3, size: int = 64) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    cells = size // 8
    reference, prior = smooth_picture(size), torch.randn(frames, 2, size // 4, size // 4, generator=generator)
    masks = torch.zeros(frames, 3, size, size)
    masks[:, 0, 20:30, 20:40] = 1
    return {
        "latents": torch.randn(frames, 16, cells, cells, generator=generator),
        "positions": torch.arange(frames) % 4,
        "reference_latents": torch.randn(1, 16, cells, cells, generator=generator),
        "reference": reference,
        "driven": warp(reference.expand(frames, -1, -1, -1), enlarge(prior, (size, size))),
        "prior_flow": prior,
        "rgb": smooth_picture(size, 2).expand(frames, -1, -1, -1),
        "masks": masks,
        "relief": torch.randn(frames, 2, size // 4, size // 4, generator=generator),
        "gain": torch.ones(frames, 1, size // 4, size // 4),
    }


def test_warp_moves_whole_pixels_exactly() -> None:
    image = torch.arange(24.0).view(1, 1, 4, 6)
    flow = torch.zeros(1, 2, 4, 6)
    flow[:, 0], flow[:, 1] = 2, -1
    moved = warp(image, flow)
    assert torch.allclose(moved[0, 0, 1:, :4], image[0, 0, :3, 2:], atol=1e-4)
    assert torch.allclose(moved[0, 0, :, 5], moved[0, 0, :, 4])  # the border stands beyond the border


def test_warp_between_pixels_is_bilinear() -> None:
    image = torch.tensor([0.0, 4.0, 8.0]).view(1, 1, 1, 3)
    flow = torch.zeros(1, 2, 1, 3)
    flow[:, 0] = 0.25
    assert torch.allclose(warp(image, flow).flatten()[:2], torch.tensor([1.0, 5.0]), atol=1e-5)


def test_untrained_net_shows_the_driven_picture() -> None:
    given = inputs()
    decoded = ReferenceDecoder(CONFIG)(**given)
    assert (decoded.image - given["driven"]).abs().max() < 0.05
    assert torch.equal(decoded.flow, enlarge(given["prior_flow"], (64, 64)))
    assert (decoded.rgb - given["driven"]).abs().max() < 0.05
    assert decoded.mask.shape == (3, 1, 64, 64)


def test_known_light_is_a_factor_on_what_is_shown() -> None:
    given = inputs()
    given["gain"][1] = 0.8
    decoded = ReferenceDecoder(CONFIG)(**given)
    warped = warp(given["reference"].expand(3, -1, -1, -1), decoded.flow)
    lit = warped[1] + decoded.shade[1]
    assert torch.allclose(lit + 1, 0.8 * (warped[1] + 1), atol=1e-5)  # black is -1
    assert decoded.shade[0].abs().max() < 1e-6


def test_parts_make_the_image() -> None:
    torch.manual_seed(0)
    net, given = ReferenceDecoder(CONFIG), inputs()
    torch.nn.init.normal_(net.head.weight, std=0.1)
    image, flow, mask, rgb, shade = net(**given)
    warped = warp(given["reference"].expand(3, -1, -1, -1), flow)
    again = mask * (warped + shade) + (1 - mask) * rgb
    assert torch.allclose(image, again, atol=1e-5)


def test_frames_do_not_see_each_other() -> None:
    torch.manual_seed(0)
    net, given = ReferenceDecoder(CONFIG), inputs()
    torch.nn.init.normal_(net.head.weight, std=0.1)
    together = net(**given).image
    shared = ("reference", "reference_latents")
    alone = net(**{k: v if k in shared else v[1:2] for k, v in given.items()}).image
    assert torch.allclose(together[1:2], alone, atol=1e-5)


def test_flow_is_learnt_from_pixels() -> None:
    torch.manual_seed(0)
    net, given = ReferenceDecoder(CONFIG), inputs(1)
    true_flow = torch.full((1, 2, 64, 64), 1.5)
    target = warp(given["reference"], enlarge(given["prior_flow"], (64, 64)) + true_flow)
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    losses = []
    for _ in range(40):
        loss = (net(**given).image - target).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.4 * losses[0]


def test_frame_slots() -> None:
    indices, positions = frame_slots(3)
    assert indices.tolist() == [0, 1, 1, 1, 1, 2, 2, 2, 2]
    assert positions.tolist() == [3, 0, 1, 2, 3, 0, 1, 2, 3]
    indices, positions = frame_slots(1, starts_clip=False)
    assert indices.tolist() == [0, 0, 0, 0]
    assert positions.tolist() == [0, 1, 2, 3]


def test_checkpoint_round_trip(tmp_path: Path) -> None:
    net = ReferenceDecoder(CONFIG)
    checkpoint.save(net, tmp_path / "decoder.safetensors", torch.float32)
    loaded = checkpoint.load(ReferenceDecoder, tmp_path / "decoder.safetensors")
    assert torch.equal(loaded(**inputs()).image, net(**inputs()).image)


def test_closed_lips_never_show_what_neighbouring_frames_show() -> None:
    torch.manual_seed(0)
    net, given = ReferenceDecoder(CONFIG), inputs()
    torch.nn.init.normal_(net.head.weight, std=1.0)
    given["masks"][1, 0] = 0  # in the second frame the mouth is shut
    given["masks"][2, 1, 40:50, 20:40] = 0.5  # in the third an eye is half closed
    decoded = net(**given)
    assert decoded.mask[1].min() == 1
    assert decoded.mask[2, :, 38:].min() >= 0.5 and decoded.mask[2, :, 40:50, 20:40].max() < 1
    assert decoded.mask[0, :, :12].min() == 1 and decoded.mask[0, :, 16:34, 16:44].min() < 0.5
    assert decoded.shade.abs().max() <= FAINT
