"""The video-to-audio transformer: streams, masks, what is withheld, windows."""

from __future__ import annotations

import pytest
import torch
from soundtrack_nets import TINY, sight, soundtrack, text, v2a

from avatar.backbone.attention import attention
from avatar.backbone.mel import MelConfig
from avatar.backbone.v2a import STREAMS, Sight, SwiGLU, Text
from avatar.backbone.v2a_sampling import decode, ramp, sample, windows

TIME = torch.tensor([0.3, 0.8])


def test_streams_keep_their_shapes_in_a_block() -> None:
    net = v2a()
    lengths = {"audio": 7, "visual": 4, "text": 5}
    streams = {s: torch.randn(2, n, 32) for s, n in lengths.items()}
    rotations = {s: net._rotation(torch.arange(lengths[s])) for s in ("audio", "visual")}
    out = net.triple_blocks[0](streams, torch.randn(2, 32), rotations, attention)
    assert {s: x.shape for s, x in out.items()} == {s: x.shape for s, x in streams.items()}


def test_every_stream_has_its_own_weights() -> None:
    names = {name.split("_")[0] for name, _ in v2a().triple_blocks[0].named_parameters()}
    assert names == set(STREAMS)
    counts = {
        s: sum(p.numel() for n, p in v2a().triple_blocks[0].named_parameters() if n.startswith(s))
        for s in STREAMS
    }
    assert len(set(counts.values())) == 1


def test_an_untrained_net_predicts_nothing_and_learns_everywhere() -> None:
    net = v2a(random=False)
    x = torch.randn(2, 7, 6)
    assert net(x, TIME, sight(), text()).velocity.abs().max() == 0
    net = v2a().train()
    drop = torch.tensor([True, False])
    heard = net(x, TIME, sight(), text(), blind=drop, mute=drop)
    (heard.velocity.square().mean() + heard.blows.square().mean()).backward()
    assert [n for n, p in net.named_parameters() if p.grad is None or p.grad.abs().sum() == 0] == []


def test_padding_of_the_text_is_not_heard() -> None:
    net, x, said = v2a(), torch.randn(2, 7, 6), text()
    other = Text(torch.where(said.mask[..., None], said.states, 9.0), said.mask)
    here, there = (net(x, TIME, sight(), words).velocity for words in (said, other))
    torch.testing.assert_close(here, there)


@pytest.mark.parametrize("condition", ["motion", "tokens", "text"])
def test_every_condition_is_heard_unless_withheld(condition: str) -> None:
    net, x = v2a(), torch.randn(2, 7, 6)
    seen, said = sight(), text()
    changed = (
        (seen, Text(text(seed=1).states, said.mask))
        if condition == "text"
        else (seen._replace(**{condition: getattr(sight(seed=1), condition)}), said)
    )
    assert (net(x, TIME, seen, said).velocity - net(x, TIME, *changed).velocity).abs().max() > 1e-4
    without = {"mute" if condition == "text" else "blind": torch.tensor([True, True])}
    here, there = (net(x, TIME, *conditions, **without).velocity for conditions in ((seen, said), changed))
    torch.testing.assert_close(here, there)


def test_motion_is_heard_where_it_is_seen() -> None:
    """A single-stream net without blocks: what moves around latent 3 changes latent 3 alone."""
    net, x = v2a(), torch.randn(1, 7, 6)
    net.triple_blocks, net.single_blocks = torch.nn.ModuleList(), torch.nn.ModuleList()
    seen, said = sight(1), text(1)
    motion = seen.motion.clone()
    motion[:, 3] += 1
    before, after = net(x, TIME[:1], seen, said), net(x, TIME[:1], seen._replace(motion=motion), said)
    changed = (after.velocity - before.velocity)[0].abs().sum(-1)
    assert torch.nonzero(changed)[:, 0].tolist() == [3]
    assert torch.nonzero(after.blows - before.blows)[:, 1].tolist() == [3]


def test_motion_is_told_the_same_wherever_it_is() -> None:
    """Away from the border, a pattern of cells that is moved by two cells gives the same tokens."""
    encoder = v2a().motion_in
    motion = torch.zeros(1, 3, TINY.v2a.span, 4, 8, 8)
    motion[..., 2:4, 2:4] = torch.randn(TINY.v2a.span, 4, 2, 2)
    moved, phase = motion.roll((2, 1), (-2, -1)), torch.zeros(3)
    here, there = (encoder(m.flatten(3), phase) for m in (motion, moved))
    torch.testing.assert_close(here, there)
    others = encoder(0 * motion.flatten(3), phase), encoder(motion.flatten(3), phase + 0.3)
    for (tokens, blows), least in zip(others, (1e-3, 1e-4), strict=True):
        assert (here[0] - tokens).abs().max() > least
        assert (here[1] - blows).abs().max() > 0


def test_what_is_added_knows_of_the_blow() -> None:
    encoder, motion = v2a().motion_in, torch.randn(1, 3, TINY.v2a.span, 256)
    before, _ = encoder(motion, torch.zeros(3))
    with torch.no_grad():
        encoder.blow.out.bias += 5
    assert (encoder(motion, torch.zeros(3))[0] - before).abs().max() > 1e-3


def test_swiglu_by_its_formula() -> None:
    torch.manual_seed(0)
    layer, x = SwiGLU(3, 2, 4), torch.randn(5, 3)
    a, b = (x @ layer.gate.weight.T + layer.gate.bias).chunk(2, -1)
    torch.testing.assert_close(layer(x), (a * a.sigmoid() * b) @ layer.out.weight.T + layer.out.bias)


@pytest.mark.parametrize(
    ("total", "expected"),
    [
        (5, [(0, 5)]),
        (8, [(0, 8)]),
        (9, [(0, 8), (1, 8)]),
        (20, [(0, 8), (6, 8), (12, 8)]),
        (21, [(0, 8), (6, 8), (12, 8), (13, 8)]),
    ],
)
def test_windows_cover_everything_and_overlap(total: int, expected: list[tuple[int, int]]) -> None:
    assert windows(total, 8, 2) == expected


def test_the_ramp_rises_over_the_overlap_and_falls() -> None:
    assert ramp(6, 2)[:, 0].tolist() == [1, 2, 2, 2, 2, 1]


def _sample(total: int, size: int, overlap: int, **options: object) -> torch.Tensor:
    def still(first: int, count: int) -> Sight:
        """The same picture at every time, so that every window sees the same."""
        one = sight(1, 1, 1)
        moments = torch.arange(3) * 3.4
        return Sight(
            one.motion.expand(-1, count, -1, -1),
            one.phase.expand(count),
            one.tokens.expand(-1, 3, -1),
            moments,
        )

    settings = {"seed": 3, "steps": 4, "guidance": 2.0} | options
    return sample(v2a(), still, text(1), None, total, size=size, overlap=overlap, **settings)  # type: ignore[arg-type]


def test_windows_have_no_joins() -> None:
    """Where windows meet, neighbouring latents differ no more than elsewhere, as they do not when windows of
    their own are put side by side."""
    total, size, overlap = 60, 20, 8
    together = _sample(total, size, overlap).diff(dim=0).abs().mean(1)
    joins = torch.tensor([first for first, _ in windows(total, size, overlap)[1:]])
    assert together[joins - 1].mean() < 1.3 * together.median()


def test_one_window_is_the_plain_sampler_and_seeds_differ() -> None:
    torch.testing.assert_close(_sample(12, 20, 8), _sample(12, 12, 4))
    assert (_sample(12, 20, 8) - _sample(12, 20, 8, seed=4)).abs().max() > 0.1


def test_guidance_of_one_is_the_conditional_prediction_alone() -> None:
    ticks: list[int] = []
    plain = _sample(30, 20, 8, guidance=1.0, tick=lambda: ticks.append(1))
    assert len(ticks) == 4 * len(windows(30, 20, 8))
    assert (plain - _sample(30, 20, 8)).abs().max() > 1e-3


def test_decoded_pieces_are_the_numbers_of_the_whole() -> None:
    nets = soundtrack()
    latents = torch.randn(40, TINY.vae.channels)
    whole = torch.cat(list(decode(nets.vae, nets.vocoder, latents, 100, MelConfig(), 2)))
    pieces = list(decode(nets.vae, nets.vocoder, latents, 7, MelConfig(), 2))
    assert [len(p) for p in pieces] == [7 * 1024] * 5 + [5 * 1024]
    assert whole.std() > 1e-3
    torch.testing.assert_close(torch.cat(pieces), whole, atol=1e-5, rtol=0)
