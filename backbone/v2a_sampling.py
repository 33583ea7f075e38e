"""Sound latents of a video of any length: windows that overlap, followed from noise to sound together.

At every step the windows' velocities are blended before any latent moves, so neighbours never part, and there
is no join to be heard. Noise belongs to the latent, not to the window.

Shape legend: N sound latents of C channels.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from avatar.backbone import flow
from avatar.backbone.hifigan import HiFiGAN
from avatar.backbone.mel import MelConfig
from avatar.backbone.mel_consistency import REACH, polish
from avatar.backbone.mel_vae import MelVAE
from avatar.backbone.v2a import V2A, Sight, Text

# Log-mel of the loudest band of any training sound, nepers; guidance leads beyond it.
LOUDEST = 1.5
RESCALE = 0.7  # of guidance, see `flow.guide`; the share that its paper uses

SightOf = Callable[[int, int], Sight]
"""What is seen around sound latents `first` to `first + count`, a batch of one."""


def windows(total: int, size: int, overlap: int) -> list[tuple[int, int]]:
    """(first, count) of windows that cover `total` latents and share `overlap` of them or more."""
    if total <= size:
        return [(0, total)]
    starts = [*range(0, total - size, size - overlap), total - size]
    return [(start, size) for start in starts]


def ramp(count: int, overlap: int) -> Tensor:
    """Weight of a window's latents in the blend, (count, 1): it rises and falls over the overlap."""
    place = torch.arange(1, count + 1, dtype=torch.float32)
    return torch.minimum(place, place.flip(0)).clamp(max=overlap)[:, None]


@torch.no_grad()
def sample(
    net: V2A,
    sight: SightOf,
    text: Text | None,
    instead: Text | None,
    total: int,
    *,
    seed: int,
    steps: int,
    guidance: float,
    size: int,
    overlap: int,
    shift: float = 1.0,
    tick: Callable[[], None] = lambda: None,
) -> Tensor:
    """Sound latents (N, C).

    Args:
        text: of the prompt, a batch of one; None leaves it to the picture.
        instead: of the negative prompt, which guidance leads away from; None for no text.
        total: N.
        guidance: scale of classifier-free guidance against neither picture nor prompt; 1 is none.
        size: sound latents of a window, as in training.
        tick: called after every evaluation of a window; there are `steps` times the number of `windows`.
    """
    device = next(net.parameters()).device
    places = windows(total, size, overlap)
    said, mute = _side_by_side(text, instead, net.config.text_dim)
    rows = 2 if guidance != 1 else 1
    said, mute = Text(said.states[:rows].to(device), said.mask[:rows].to(device)), mute[:rows].to(device)
    blind = torch.tensor([False, True][:rows], device=device)

    def velocity(x: Tensor, time: float) -> Tensor:
        blended, weights = torch.zeros_like(x), torch.zeros(total, 1, device=device)
        for first, count in places:
            seen = sight(first, count)
            motion, tokens = (
                part.to(device).expand(rows, *part.shape[1:]) for part in (seen.motion, seen.tokens)
            )
            both = Sight(motion, seen.phase.to(device), tokens, seen.moments)
            part = x[:, first : first + count].expand(rows, -1, -1)
            found = net(
                part, torch.full((rows,), time, device=device), both, said, blind, mute
            ).velocity.float()
            guided = flow.guide(found[:1], found[1:], guidance, RESCALE) if rows == 2 else found
            weight = ramp(count, overlap).to(device)
            blended[:, first : first + count] += weight * guided
            weights[first : first + count] += weight
            tick()
        return blended / weights

    noise = flow.noise((1, net.config.channels, total, 1, 1), seed)[..., 0, 0].transpose(1, 2).to(device)
    return flow.euler(velocity, noise, flow.schedule(steps, shift))[0]


def _side_by_side(text: Text | None, instead: Text | None, channels: int) -> tuple[Text, Tensor]:
    """Both texts as a batch of two, and which of them is missing."""
    empty = Text(torch.zeros(1, 1, channels), torch.ones(1, 1, dtype=torch.bool))
    both = (text or empty, instead or empty)
    longest = max(t.mask.shape[1] for t in both)
    states, mask = torch.zeros(2, longest, channels), torch.zeros(2, longest, dtype=torch.bool)
    for i, t in enumerate(both):
        states[i, : t.mask.shape[1]], mask[i, : t.mask.shape[1]] = t.states[0].float(), t.mask[0]
    return Text(states, mask), torch.tensor([text is None, instead is None])


@torch.no_grad()
def decode(
    vae: MelVAE, vocoder: HiFiGAN, latents: Tensor, size: int, config: MelConfig, steps: int
) -> Iterator[Tensor]:
    """Waveform of latents (N, C), `size` at a time with their neighbours: the numbers of the whole.

    Args:
        config: of the spectrogram.
        steps: of `polish` after the vocoder.
    """
    frames = vae.config.frames
    margin = -(-(vocoder.reach + steps * REACH) // frames)
    total = len(latents)
    for start in range(0, total, size):
        count = min(size, total - start)
        first, end = max(0, start - margin), min(total, start + count + margin)
        lead = max(0, first - vae.reach)
        mel = vae.decode(latents[None, lead : min(total, end + vae.reach)])
        mel = mel[:, :, (first - lead) * frames : (end - lead) * frames].clamp(max=LOUDEST)
        samples = polish(vocoder(mel)[0], mel[0], config, steps)
        hop = len(samples) // mel.shape[2]
        skip = (start - first) * frames * hop
        yield samples[skip : skip + count * frames * hop]
