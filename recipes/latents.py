"""Encode clips and their driven references once, so that the generator trains on latents alone. Settings in
latents.yaml; `python -m avatar.recipes.latents clips=... driven=... meshes=... vae=... out=...`.

As in use, what is encoded is the preset's window around the face, of n x n latent cells; it lies up to one
cell beside its place, at random. Each clip gets a `latent-SEED.safetensors` with

    place       int64 (2,)              row and column of the window's first cell
    clean       float16 (16, 5, n, n)   the clip
    driven      float16 (16, 5, n, n)   its driven reference
    reference   float16 (16, 1, n, n)
    hole        float16 (4, 5, n, n)    see avatar.model.hole_cells
    face        float32 (n, n)
    motion      float32 (2,)
    audio       float16 (5, 4, 10, d)     Whisper features around each frame, see avatar.adapters.audio.align
    heard       float32 (1,)              1 where the clip speaks, 0 where `audio` says nothing
    pose        float16 (16, 5, n, n)     the skeleton video: face points of the target landmarks
    codes       float16 (5, 4, 48)        expression codes of the clip's frames, as the shipped net reads them
    seen        float32 (1,)              1 where every frame shows a face, 0 where `codes` says nothing
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file
from torch import Tensor

from avatar.adapters.audio import WINDOW, align
from avatar.backbone.checkpoint import load
from avatar.backbone.precision import autocast
from avatar.backbone.vae import CausalVAE
from avatar.drivers.expression import ExpressionReader
from avatar.drivers.mesh import FaceBasis, ReferenceMesh
from avatar.drivers.skeleton import draw_skeleton, face_keypoints
from avatar.drivers.whisper import SAMPLE_RATE, WhisperFeatures
from avatar.model import GROUP, face_window, group, hole_cells
from avatar.presets import PRESETS
from avatar.recipes.settings import RecipeSettings, read_settings, run
from avatar.recipes.shards import seeds, write
from avatar.recipes.speech_corpus import load_utterance
from avatar.render import CELL, pixels

FPS = 25.0  # of the clips


def pick_window(face: Tensor, cells: int | None, rng: np.random.Generator) -> tuple[int, int, int]:
    """Row and column of a window of `cells` around the face, a little moved, and its side."""
    whole = face.shape[-1]
    if cells is None:
        return 0, 0, whole
    place = np.array(face_window(face, cells)) + rng.integers(-1, 2, 2)
    row, column = place.clip(0, whole - cells).tolist()
    return row, column, cells


@torch.no_grad()
def encode_clip(
    vae: CausalVAE,
    clip: dict[str, NDArray],
    driven: dict[str, NDArray],
    cells: int | None,
    rng: np.random.Generator,
) -> dict[str, NDArray]:
    """The record described above, without its sound."""
    row, column, side = pick_window(torch.from_numpy(driven["face"]), cells, rng)

    def cut(values: NDArray, cell: int) -> NDArray:
        """The window of values (..., H, W, any) that has `cell` of them to a latent cell."""
        return values[..., cell * row : cell * (row + side), cell * column : cell * (column + side), :]

    with autocast(next(vae.parameters()).device):
        videos = (clip["frames"], driven["picture"], clip["reference"][None])
        clean, bent, reference = (
            vae.encode(pixels(np.ascontiguousarray(cut(video, CELL))))[0].half().numpy() for video in videos
        )
    hole = hole_cells(torch.from_numpy(cut(driven["hole"][..., None], CELL)[..., 0]).float() / 255, side)
    return {
        "place": np.array([row, column]),
        "clean": clean,
        "driven": bent,
        "reference": reference,
        "hole": hole.half().numpy(),
        "face": cut(driven["face"][..., None], 1)[..., 0],
        "motion": driven["motion"],
    }


@torch.no_grad()
def encode_pose(
    vae: CausalVAE, target: NDArray[np.float32], side: int, place: NDArray, cells: int
) -> NDArray:
    """`pose` of face meshes (T, 478, 3) in pictures of `side` px; the window of `cells` begins at `place`."""
    rows, columns = (slice(CELL * first, CELL * (first + cells)) for first in place.tolist())
    skeletons = np.stack([draw_skeleton(*face_keypoints(points), (side, side)) for points in target])
    shown = pixels(np.ascontiguousarray(skeletons[:, rows, columns]))
    with autocast(next(vae.parameters()).device):
        return vae.encode(shown)[0].half().numpy()


def hear(features: Tensor, latent_frames: int, start: float) -> dict[str, NDArray]:
    """`audio` and `heard` of a clip that begins `start` s into features (n, d) of its sound."""
    windows = align(features, latent_frames, FPS, start=start)
    return {"audio": windows.half().numpy(), "heard": np.ones(1, np.float32)}


def hear_nothing(dim: int, latent_frames: int) -> dict[str, NDArray]:
    """The same of a silent clip, by the length of features."""
    silence = np.zeros((latent_frames, GROUP, WINDOW, dim), np.float16)
    return {"audio": silence, "heard": np.zeros(1, np.float32)}


class Watcher:
    """Skeleton latents and expression codes of clips."""

    def __init__(self, vae: CausalVAE, meshes: Path) -> None:
        self.vae, self.meshes = vae, meshes
        self.basis, self.reader = FaceBasis.load(), ExpressionReader()

    def __call__(self, clip: dict[str, NDArray], seed: int, place: NDArray, cells: int) -> dict[str, NDArray]:
        """`pose`, `codes` and `seen` of a clip whose window of `cells` begins at `place`."""
        mesh = ReferenceMesh(self.basis, clip["reference_landmarks"], clip["reference_curves"])
        target = mesh.place(mesh.act(clip["curves"].astype(np.float32)), clip["head"])
        points = load_file(self.meshes / f"mesh-{seed}.safetensors")["points"]
        seen = bool(np.isfinite(points).all())
        codes = torch.from_numpy(self.reader.read(points if seen else target)[0])
        return {
            "pose": encode_pose(self.vae, target, len(clip["reference"]), place, cells),
            "codes": group(codes, True).half().numpy(),
            "seen": np.array([seen], np.float32),
        }


class Listener:
    """Whisper features around the frames of speaking clips."""

    def __init__(self, whisper: WhisperFeatures, corpus: Path | None) -> None:
        self.whisper, self.corpus = whisper, corpus
        self.features = lru_cache(maxsize=64)(self._features)

    def _features(self, utterance: int) -> Tensor:
        assert self.corpus is not None
        return self.whisper(load_utterance(self.corpus / f"{utterance:06d}").audio)[:, -1]

    def __call__(self, clip: dict[str, NDArray], latent_frames: int) -> dict[str, NDArray]:
        """`audio` and `heard` of a clip; nothing is heard without a corpus."""
        utterance, start = int(clip["utterance"][0]), int(clip["start"][0])
        if self.corpus is None or utterance < 0:
            return hear_nothing(self.whisper.dim, latent_frames)
        return hear(self.features(utterance), latent_frames, start / SAMPLE_RATE)


class ClipLatentsSettings(RecipeSettings):
    """See latents.yaml."""

    clips: Path
    driven: Path
    meshes: Path
    vae: Path
    out: Path
    speech: Path | None
    preset: str


def main(words: list[str]) -> None:
    """Encode every clip that has a driven reference."""
    settings = read_settings(ClipLatentsSettings, __file__, words)
    model = load(CausalVAE, settings.vae)
    listen = Listener(WhisperFeatures.from_pretrained(), settings.speech)
    watch = Watcher(model, settings.meshes)
    for seed in seeds(settings.driven, "driven"):
        target = settings.out / f"latent-{seed}.safetensors"
        if not target.exists():
            clip = load_file(settings.clips / f"clip-{seed}.safetensors")
            record = encode_clip(
                model,
                clip,
                load_file(settings.driven / f"driven-{seed}.safetensors"),
                PRESETS[settings.preset].window,
                np.random.default_rng(seed),
            )
            _, latents, cells, _ = record["clean"].shape
            record |= listen(clip, latents) | watch(clip, seed, record["place"], cells)
            write(record, target)


if __name__ == "__main__":
    run(main)
