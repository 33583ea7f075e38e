"""From curves and head motion to frames, a window of latents at a time.

    motion -> driven reference -> VAE encode -> generator (few Euler steps) -> VAE decode ->
    reference-aware decode

Everything streams: memory does not grow with the length of the video. Windows share their border latent,
which is blended, and their noise; the VAE carries its causal state across, so no window shows. Inside the
crop the nets work on a square window around the face, and what they say fades out towards its border,
where the driven reference takes over.

Shape legend: T frames, t latent frames, S side of the crop in pixels, h latent cells, C = 16 channels.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from avatar.backbone import flow
from avatar.backbone.decode import Decoded, PlainDecode, ReferenceDecoder, enlarge, frame_slots, warp
from avatar.backbone.precision import autocast
from avatar.backbone.vae import CausalVAE
from avatar.drivers.mesh import FaceBasis, ReferenceMesh, face_mask, part_masks
from avatar.drivers.mouth import MouthModel
from avatar.drivers.relief import CELL as RELIEF_CELL
from avatar.drivers.skeleton import draw_skeleton, face_keypoints
from avatar.drivers.warp import Driven, DrivenReference
from avatar.lips import keep_shut, show_seam
from avatar.model import GROUP, Conditions, Generator, Strengths, face_window, group
from avatar.windows import Motion, Window, fill, regroup

Array = NDArray[np.float32]
Encode = Callable[[Tensor], Tensor]

CELL = 8  # px of a latent cell
FADE = 2.0  # latent cells along the window's border over which the nets' word fades out
SMOOTH = 1.0  # px from one pixel to the next that the flow may change by
USUAL_MOTION = (1.5, 1.0)  # head motion and expressiveness of the training clips, percent of the face height


class Frame(NamedTuple):
    """One frame of the crop, ready to be put into the photo.

    Attributes:
        flow: (2, S, S), in pixels.
        mask: (S, S) in [0, 1], share of the warped photo.
        rgb: (3, S, S) in [-1, 1], shown for the rest.
        shade: (3, S, S), added to the warped photo.
    """

    flow: Array
    mask: Array
    rgb: Array
    shade: Array


@dataclass(frozen=True, kw_only=True)
class Nets:
    """The loaded nets of a preset.

    Attributes:
        adapters: files and strengths for the net of prompts, which is loaded only when it is needed.
    """

    vae: CausalVAE
    generator: Generator
    decoder: ReferenceDecoder | PlainDecode
    basis: FaceBasis
    mouth: MouthModel
    window: int | None
    device: torch.device
    adapters: tuple[tuple[str | Path, float], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the generator is asked; see `avatar.options.DriveOptions`.

    Attributes:
        schedules: by the kind of a signal, its strength in the net as a function of the sampling time, 0
            noise to 1 clean; 1 where there is none.
    """

    seed: int = 0
    steps: int = 1
    shift: float = 1.0
    guidance: float = 1.0
    head_motion: float = 1.0
    expressiveness: float = 1.0
    schedules: Mapping[str, Callable[[float], float]] = field(default_factory=dict)

    def share(self, kind: str, time: float) -> float:
        """Strength at a sampling time of what a kind of signal says to the net."""
        return self.schedules[kind](time) if kind in self.schedules else 1.0


class Known(NamedTuple):
    """Pictures that a video is known to begin and to end with, or None: uint8 (S, S, 3), in the place of the
    reference's crop."""

    first: NDArray[np.uint8] | None = None
    last: NDArray[np.uint8] | None = None


NOTHING = Known()


class Renderer:
    """Renders one reference.

    Args:
        nets: of a preset.
        picture: square crop around the head, uint8 (S, S, 3).
        landmarks: face mesh of the crop, (478, 3) in pixels.
        rest: curves (52,) of the reference's expression; estimated when not known.
        known: frames that the generator is given.
    """

    def __init__(
        self,
        nets: Nets,
        picture: NDArray[np.uint8],
        landmarks: Array,
        rest: Array | None = None,
        known: Known = NOTHING,
    ) -> None:
        self.nets, self.known, side = nets, known, len(picture)
        self.driven = DrivenReference(ReferenceMesh(nets.basis, landmarks, rest), picture, nets.mouth)
        face = torch.from_numpy(face_mask(landmarks, side, side // CELL))
        self.cells = nets.window or side // CELL
        row, column = face_window(face, self.cells)
        self.rows = slice(CELL * row, CELL * (row + self.cells))
        self.columns = slice(CELL * column, CELL * (column + self.cells))
        self.relief_rows, self.relief_columns = (
            slice(side.start // RELIEF_CELL, side.stop // RELIEF_CELL) for side in (self.rows, self.columns)
        )
        window = face[row : row + self.cells, column : column + self.cells]
        self.face = window[None, None].to(nets.device)
        parts = torch.from_numpy(part_masks(landmarks, side, side // CELL))
        self.parts = parts[:, row : row + self.cells, column : column + self.cells].to(nets.device)
        self.face_pixels = F.interpolate(self.face, scale_factor=CELL, mode="bilinear")
        self.reference = self._inside(pixels(picture[None], nets.device))  # (1, 3, 1, s, s)
        with torch.no_grad(), autocast(nets.device):
            self.latents = nets.vae.encode(self.reference).float()
        self.between_lips: Tensor | None = self._inside(self._to(self.driven.between_lips)[None, None])
        self.fade = _fade(CELL * self.cells, side).to(nets.device)

    @torch.no_grad()
    def __call__(self, motion: Iterable[Motion], sampling: Sampling) -> Iterator[Frame]:
        """Frames of a motion that comes in pieces of any length."""
        streams = [_push(stream) for stream in (self.nets.vae.encode_stream, self.nets.vae.encode_stream)]
        decode = _push(self.nets.vae.decode_stream)
        drawn: list[Driven] = []  # frames that wait for their latents
        held: Window | None = None
        result: Tensor | None = None  # of the latent that is held
        done = 0  # latent frames given to the decoder
        for chunk, last in regroup(motion):
            start = held is None
            whole = fill(chunk, start)
            driven = self._bend(whole, len(chunk.curves))
            drawn += [Driven(*frame) for frame in zip(*driven, strict=True)][: len(chunk.curves)]
            new = self._window(whole, driven, start, last, *streams)
            window = new if held is None else held.joined(new)
            z = self._sample(window, done, sampling)
            if result is not None:
                z[:, :, :1] = (z[:, :, :1] + result) / 2
            held, result = window.last(), z[:, :, -1:]
            ready = z if last else z[:, :, :-1]
            with autocast(self.nets.device):
                plain = decode(ready).float()
            count = min(plain.shape[2], len(drawn))
            yield from self._finish(ready, plain, drawn[:count], done == 0)
            del drawn[:count]
            done += ready.shape[2]

    def _bend(self, motion: Motion, count: int) -> Driven:
        """The driven reference of the next frames, `count` of which are shown; the others fill a latent."""
        return self.driven(motion.curves, motion.head)

    def _reference_latents(self, count: int) -> Tensor:
        """Latents (1, C, t, h, h) of the reference at the last `count` latent frames that were bent."""
        return self.latents.expand(-1, -1, count, -1, -1)

    def _references(self, count: int) -> tuple[Tensor, Tensor]:
        """What the next `count` frames are bent from: the window's pixels (T or 1, 3, s, s), their latents
        (T or 1, C, h, h)."""
        return self.reference[:, :, 0], self.latents[:, :, 0]

    def _window(
        self,
        motion: Motion,
        driven: Driven,
        start: bool,
        last: bool,
        encode: Encode,
        encode_pose: Encode,
    ) -> Window:
        """What the latents of a piece of whole latent frames are generated from."""

        def by_latent(rows: Array | Tensor | None) -> Tensor | None:
            return None if rows is None else group(self._to(rows), start)

        hole = F.adaptive_avg_pool2d(self._inside(self._to(driven.hole))[None], self.cells)[0]
        codes, told = by_latent(motion.codes), by_latent(motion.told)
        audio, strength, pose_strength = (
            by_latent(rows) for rows in (motion.audio, motion.audio_strength, motion.pose_strength)
        )
        pose = None
        with autocast(self.nets.device):
            bent = encode(self._inside(pixels(driven.picture, self.nets.device))).float()
            if pose_strength is not None:
                pose = encode_pose(self._inside(pixels(self._skeletons(motion), self.nets.device))).float()
        return Window(
            reference=self._reference_latents(bent.shape[2]),
            driven=bent,
            hole=group(hole, start).transpose(0, 1)[None],
            audio=None if audio is None else audio[None],
            audio_strength=None if strength is None else strength.mean(1)[None],
            codes=None if codes is None else codes[None],
            listening=None if told is None else self._listening(told.mean(1)),
            pose=pose,
            pose_strength=None if pose_strength is None else pose_strength.mean(1)[None],
            known=self._known(bent, start, last),
        )

    def _known(self, bent: Tensor, start: bool, last: bool) -> Tensor | None:
        """Known latents with their mask (1, C + 1, t, h, h) of a piece that has the latents `bent`, and that
        starts the video or is its last; None where nothing is known in the whole video."""
        if self.known.first is None and self.known.last is None:
            return None
        known = bent.new_zeros(1, bent.shape[1] + 1, *bent.shape[2:])
        for picture, here, at in ((self.known.first, start, 0), (self.known.last, last, -1)):
            if picture is not None and here:
                still = np.repeat(
                    picture[None], 1 + GROUP, 0
                )  # its second latent is that of a standing frame
                with autocast(self.nets.device):
                    latents = self.nets.vae.encode(self._inside(pixels(still, self.nets.device))).float()
                known[:, :-1, at], known[:, -1, at] = latents[:, :, at], 1
        return known

    def _listening(self, told: Tensor) -> Tensor:
        """Share of each cell (1, 1, t, h, h) that follows what mouth, eyes and cheeks follow, (t, 3)."""
        return torch.einsum("tp,phw->thw", told, self.parts)[None, None]

    def _skeletons(self, motion: Motion) -> NDArray[np.uint8]:
        """Skeleton pictures of the face that the motion makes of the reference, (T, S, S, 3)."""
        mesh, side = self.driven.mesh, len(self.driven.picture)
        target = mesh.place(mesh.act(motion.curves), motion.head)
        return np.stack([draw_skeleton(*face_keypoints(points), (side, side)) for points in target])

    def _inside(self, values: Tensor) -> Tensor:
        """The nets' window of values (..., S, S)."""
        return values[..., self.rows, self.columns]

    def _to(self, values: Array | Tensor) -> Tensor:
        return torch.as_tensor(values).to(self.nets.device, torch.float32)

    def _sample(self, window: Window, first: int, sampling: Sampling) -> Tensor:
        """Clean latents (1, C, t, h, h) of a window whose first latent has the absolute index `first`."""
        usual = (sampling.head_motion * USUAL_MOTION[0], sampling.expressiveness * USUAL_MOTION[1])
        given = Conditions(
            window.reference,
            window.driven,
            window.hole,
            self.face,
            torch.tensor([usual], device=self.nets.device),
            audio=window.audio,
            codes=window.codes,
            listening=window.listening,
            pose=window.pose,
            known=window.known,
        )

        def velocity(x: Tensor, time: float) -> Tensor:
            times = torch.full((1,), time, device=x.device)
            audio, expression, pose = (sampling.share(kind, time) for kind in ("audio", "expression", "pose"))
            strengths = Strengths(
                audio if window.audio_strength is None else audio * window.audio_strength,
                expression,
                pose if window.pose_strength is None else pose * window.pose_strength,
            )
            with autocast(self.nets.device):
                clean = self.nets.generator(x, times, given, strengths).float()
                if sampling.guidance != 1 and given.audio is not None:
                    deaf = self.nets.generator(x, times, given._replace(audio=None), strengths).float()
                    clean = flow.guide(clean, deaf, sampling.guidance)
            return flow.velocity_from_clean(x, clean, time)

        noise = flow.noise(tuple(window.driven.shape), sampling.seed, first).to(self.nets.device)
        return flow.euler(velocity, noise, flow.schedule(sampling.steps, sampling.shift))

    def _finish(self, z: Tensor, plain: Tensor, drawn: list[Driven], starts: bool) -> Iterator[Frame]:
        """Reference-aware decode of frames: latents (1, C, t, h, h), plain pixels (1, 3, T, s, s)."""
        if not drawn:
            return
        count = len(drawn)
        index, position = (x[:count].to(z.device) for x in frame_slots(z.shape[2], starts))
        picture, prior, hole, lids, relief, gain, seam = (
            np.stack(values) for values in zip(*drawn, strict=True)
        )
        shown = pixels(picture, z.device)[0].transpose(0, 1)
        prior_flow = self._inside(self._to(prior))
        around = (self._inside(self._to(mask)) for mask in (hole, lids))
        lit = self._to(gain)[:, None, None]
        masks = torch.stack([*around, self.face_pixels[0].expand(count, -1, -1)], 1)
        own, own_latents = self._references(count)
        with autocast(self.nets.device):
            decoded = self.nets.decoder(
                z[0, :, index].transpose(0, 1),
                position,
                own_latents,
                own,
                self._inside(shown),
                prior_flow,
                plain[0, :, :count].transpose(0, 1),
                masks,
                self._to(relief)[..., self.relief_rows, self.relief_columns],
                lit[:, 0, :, self.relief_rows, self.relief_columns],
            )
        if self.between_lips is not None:
            inside = self._inside(shown), prior_flow, masks[:, 0], self.between_lips
            decoded = keep_shut(decoded, *inside)
        decoded = show_seam(decoded, self._inside(shown), self._inside(self._to(seam)))
        share, rgb = smooth_jumps(decoded)
        for k in range(count):
            flow_k, mask_k, rgb_k = (
                prior[k].copy(),
                np.ones(prior[k].shape[1:], np.float32),
                shown[k].cpu().numpy(),
            )
            word = prior_flow[k] + self.fade * (decoded.flow[k].float() - prior_flow[k])
            flow_k[:, self.rows, self.columns] = word.cpu().numpy()
            mask_k[self.rows, self.columns] = (1 - self.fade * (1 - share[k, 0].float())).cpu().numpy()
            rgb_k[:, self.rows, self.columns] = rgb[k].float().cpu().numpy()
            light = 1 - 1 / enlarge(lit[k], shown.shape[-2:])[0]  # of the picture as it is lit
            shade = (shown[k] + 1) * light
            known = self._inside(shade)
            known += self.fade * (decoded.shade[k].float() - known)
            shade_k = shade.cpu().numpy()
            yield Frame(flow_k, mask_k, rgb_k, shade_k)


def pixels(frames: NDArray[np.uint8], device: torch.device | str = "cpu") -> Tensor:
    """Frames (T, H, W, 3) as a clip (1, 3, T, H, W) in [-1, 1]."""
    return torch.from_numpy(frames).to(device).permute(3, 0, 1, 2)[None].float() / 127.5 - 1


def smooth_jumps(decoded: Decoded) -> tuple[Tensor, Tensor]:
    """Mask and rgb that show the decode's own small picture where the flow jumps, as it does along lips and
    lids: a flow enlarged across a jump would fetch what lies between the two sides."""
    across = decoded.flow.diff(dim=-1).abs().amax(1, keepdim=True)
    down = decoded.flow.diff(dim=-2).abs().amax(1, keepdim=True)
    jump = torch.maximum(F.pad(across, (1, 0)), F.pad(across, (0, 1)))
    jump = torch.maximum(jump, torch.maximum(F.pad(down, (0, 0, 1, 0)), F.pad(down, (0, 0, 0, 1))))
    small = ((jump - SMOOTH) / SMOOTH).clamp(0, 1)
    mask = (1 - small) * decoded.mask
    drawn = (1 - small) * (1 - decoded.mask) * decoded.rgb + small * decoded.image
    return mask, torch.where(small > 0, drawn / (1 - mask).clamp(min=1e-3), decoded.rgb)


def render_picture(
    nets: Nets, picture: NDArray[np.uint8], landmarks: Array, motion: Motion, sampling: Sampling
) -> NDArray[np.uint8]:
    """Frames (T, S, S, 3) of a square picture (S, S, 3) whose face mesh is `landmarks`."""
    frames = Renderer(nets, picture, landmarks)([motion], sampling)
    return np.stack([compose(frame, picture) for frame in frames])


def compose(frame: Frame, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The crop (S, S, 3) that a frame shows, at the size of the nets."""
    reference = pixels(picture[None])[0, :, 0][None]
    warped = warp(reference, torch.from_numpy(frame.flow)[None])[0].numpy()
    shown = frame.rgb + frame.mask * (warped + frame.shade - frame.rgb)
    return ((shown.transpose(1, 2, 0) + 1) * 127.5 + 0.5).clip(0, 255).astype(np.uint8)


def _fade(side: int, whole: int) -> Tensor:
    """(side, side), 0 at the border of the nets' window and 1 inside; all 1 where the window is the
    whole crop."""
    place = torch.arange(side) + 0.5
    ramp = (torch.minimum(place, side - place) / (FADE * CELL)).clamp(max=1)
    return torch.ones(side, side) if side == whole else torch.outer(ramp, ramp)


def _push(stream: Callable[[Iterable[Tensor]], Iterator[Tensor]]) -> Encode:
    """Turn a stream that gives one piece for each piece it takes into a function of a piece."""
    queue: deque[Tensor] = deque()
    pieces = stream(iter(queue.popleft, None))

    def push(piece: Tensor) -> Tensor:
        queue.append(piece)
        return next(pieces)

    return push
