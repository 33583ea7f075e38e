"""Encode prepared footage, so that adapters of the generator are fine-tuned on clips of real people.

    python -m avatar.recipes.footage_latents --data data --out data/latents

A clip is cut into pieces of 17 frames. As in use, one picture is driven: another frame of the clip, which is
bent by the curves and the head's motion that are read from the piece. Pieces in which the face is not seen
throughout are left out. A piece is a `latent-NUMBER.safetensors` as those of avatar.recipes.latents; those of
the split "validation" have the lowest numbers. What is done of DATA, and by what, is in OUT/clips.json.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from torch import Tensor

from avatar.actor import CROP
from avatar.adapters.adapter_file import digest
from avatar.backbone.checkpoint import load
from avatar.backbone.vae import CausalVAE
from avatar.drivers.curves import CURVES
from avatar.drivers.expression import ExpressionReader
from avatar.drivers.face import Face, extract, head_crop
from avatar.drivers.head import HeadSignal, meshes_pose
from avatar.drivers.mesh import FaceBasis, ReferenceMesh, face_mask, measure_motion
from avatar.drivers.mix import within_reach
from avatar.drivers.mouth import MouthModel
from avatar.drivers.warp import DrivenReference
from avatar.drivers.whisper import WhisperFeatures
from avatar.errors import UserError
from avatar.media import read_audio, read_video
from avatar.model import GROUP, group
from avatar.presets import PRESETS
from avatar.recipes.latents import FPS, encode_clip, encode_pose, hear, hear_nothing
from avatar.recipes.person_mouth import seen_in
from avatar.recipes.prepared import Footage, read_index
from avatar.recipes.records import write_text
from avatar.recipes.shards import write
from avatar.render import CELL

log = logging.getLogger(__name__)

Array = NDArray[np.float32]

LATENTS = 5  # of a piece
FRAMES = 1 + GROUP * (LATENTS - 1)
MOST = 1000  # pieces of a clip, which get numbers of their own
DONE = "clips.json"
SPLITS = ("train", "validation")


class Watched(NamedTuple):
    """A clip as it was read: frames, landmarks (T, 478, 3) in px, codes (T, 48) and curves (T, 52) of its
    face, NaN and 0 where none is seen, and features (n, d) of its sound, if it has any."""

    frames: list[NDArray[np.uint8]]
    points: Array
    codes: Array
    curves: Array
    features: Tensor | None


class Encoder:
    """Makes records of pieces of footage."""

    def __init__(self, vae: CausalVAE, window: int | None) -> None:
        self.vae, self.window = vae, window
        self.basis, self.mouth = FaceBasis.load(), MouthModel.load()
        self.reader, self.whisper = ExpressionReader(), WhisperFeatures.from_pretrained()

    def clip(self, clip: Footage, number: int) -> Iterator[dict[str, NDArray]]:
        """Records of the pieces of a clip; chance, which is that of its number, picks their pictures."""
        rng = np.random.default_rng(number)
        frames = list(read_video(clip.video))
        points = seen_in(frames, str(clip.video))
        seen = np.isfinite(points).all((1, 2))
        features = None if clip.sound is None else self.whisper(read_audio(clip.sound))[:, -1]
        if not seen.any():
            return
        sizes = self.reader.net.config.code, len(CURVES)
        codes, curves = (np.zeros((len(points), size), np.float32) for size in sizes)
        codes[seen], curves[seen] = self.reader.read(points[seen])
        film = Watched(frames, points, codes, curves, features)
        for start in range(0, len(frames) - FRAMES + 1, FRAMES):
            piece = slice(start, start + FRAMES)
            if seen[piece].all():
                own = int(rng.choice(np.flatnonzero(seen)))
                yield self.piece(film, piece, own, rng)

    def piece(self, film: Watched, piece: slice, own: int, rng: np.random.Generator) -> dict[str, NDArray]:
        """The record of some frames of a clip, its frame `own` driven."""
        frames, points, features = film.frames, film.points, film.features
        height, width, _ = frames[own].shape
        crop = head_crop(Face(points[own]), (width, height))
        shown = np.stack([extract(frame, crop, CROP) for frame in [frames[own], *frames[piece]]])
        landmarks = crop.to_crop(np.concatenate([points[own][None], points[piece]]), CROP)
        mesh = ReferenceMesh(self.basis, landmarks[0])
        curves = within_reach(mesh.rest + film.curves[piece] - film.curves[own])
        head = HeadSignal.of_pose(meshes_pose(landmarks, (CROP, CROP)), self.basis).head[1:]
        driven = DrivenReference(mesh, shown[0], self.mouth)(curves, head)
        record = encode_clip(
            self.vae,
            {"frames": shown[1:], "reference": shown[0]},
            {
                "picture": driven.picture,
                "hole": (driven.hole * 255).astype(np.uint8),
                "face": face_mask(landmarks[0], CROP, CROP // CELL),
                "motion": measure_motion(mesh, curves, head),
            },
            self.window,
            rng,
        )
        target = mesh.place(mesh.act(curves), head)
        if features is None:
            record |= hear_nothing(self.whisper.dim, LATENTS)
        else:
            record |= hear(features, LATENTS, piece.start / FPS)
        return record | {
            "pose": encode_pose(self.vae, target, CROP, record["place"], record["clean"].shape[-1]),
            "codes": group(torch.from_numpy(film.codes[piece]), True).half().numpy(),
            "seen": np.ones(1, np.float32),
        }


def encode(data: Path, out: Path, preset: str, vae: Path) -> int:
    """Encode every clip of DATA that is not in OUT yet, by the weights of a VAE.

    Returns:
        How many pieces, the first ones, are of the split "validation".

    Raises:
        UserError: nothing to encode, or none of one split; OUT is of other clips or by other weights.
    """
    clips = sorted(read_index(data), key=lambda clip: clip.split != "validation")
    done = out / DONE
    made_of = {"preset": preset, "vae": digest(vae), "list of clips": [clip.id for clip in clips]}
    found: dict[str, Any] = json.loads(done.read_text("utf8")) if done.exists() else {**made_of, "pieces": {}}
    counts: dict[str, int] = found.pop("pieces", {})
    for name, value in made_of.items():
        if found.get(name) != value:
            raise UserError(f"{done}: its {name} is not what is given now; remove the folder or name another")
    encoder: Encoder | None = None
    for place, clip in enumerate(clips):
        if clip.id in counts:
            continue
        encoder = encoder or Encoder(load(CausalVAE, vae), PRESETS[preset].window)
        records = list(encoder.clip(clip, place))[:MOST]
        for at, record in enumerate(records):
            write(record, out / f"latent-{MOST * place + at}.safetensors")
        counts[clip.id] = len(records)
        write_text(done, json.dumps({**made_of, "pieces": counts}, indent=1))
        log.info("%s: %d pieces", clip.video, len(records))
    pieces = {
        split: sum(counts[c.id] for c in clips if c.split == split) for split in ("train", "validation")
    }
    for split, count in pieces.items():
        if not count:
            raise UserError(
                f"data={data}: no clip of the split {split} shows a face for {FRAMES} frames without a break"
            )
    return pieces["validation"]


def main(
    data: Annotated[Path, typer.Option(help="footage that `avatar prepare` wrote")],
    out: Annotated[Path, typer.Option(help="folder for the latents")],
    preset: Annotated[str, typer.Option(help="whose window is encoded")] = "mini",
    vae: Annotated[Path | None, typer.Option(help="weights; those of the preset if not given")] = None,
) -> None:
    """Encode the clips of prepared footage; what is there already is kept."""
    shipped = Path(str(files("avatar") / "weights" / preset / "vae.safetensors"))
    held_out = encode(data, out, preset, vae or shipped)
    print(f"for the recipes that read {out}: held_out={held_out}")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    typer.run(main)
