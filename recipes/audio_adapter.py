"""Teach the mouth a person's way of speaking. Settings in audio_adapter.yaml.

The face mesh of the footage says where the mouth was, frame by frame. The speech net of `mini` gets low-rank
changes and a `Style`, and both are trained until the landmarks of its curves, as the driven reference places
them (`avatar.drivers.mesh.ReferenceMesh`), lie where the person's were. The loss is that error itself: the
mean distance of mouth and chin landmarks in distances between the eyes' outer corners.

Out: OUT/adapter.safetensors for `avatar drive --adapter OUT`; what was read of the clips stays in
OUT/signals.
Shape legend: B pieces, T frames at 25 fps, n rows at 50 Hz, P landmarks, 52 curves.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import NonNegativeInt, PositiveInt
from safetensors.torch import load_file
from torch import Tensor, nn

from avatar.adapters.adapter_file import FILE, Adapter, digest
from avatar.animator import Animator
from avatar.backbone.checkpoint import load
from avatar.drivers.curves import INDEX
from avatar.drivers.curves import MOUTH as MOUTH_CURVES
from avatar.drivers.expression import follow
from avatar.drivers.expression_net import facing
from avatar.drivers.face import choose_face, extract, find_faces, head_crop
from avatar.drivers.mesh import CHIN, IBUG, MOUTH, FaceBasis, ReferenceMesh
from avatar.drivers.speech import WEIGHTS, SpeechConfig, SpeechToCurves, Style
from avatar.drivers.whisper import WhisperFeatures
from avatar.errors import UserError
from avatar.media import read_audio, read_video
from avatar.recipes.lora import add_lora, lora_tensors
from avatar.recipes.prepared import Footage, read_index
from avatar.recipes.settings import Settings, read_settings, run
from avatar.recipes.shards import write
from avatar.recipes.training import Batch, Losses, train
from avatar.recipes.validation import drive_clips
from avatar.voice import ARTICULATION

log = logging.getLogger(__name__)

Array = NDArray[np.float32]

LIPS = IBUG[48:]  # outer and inner rim
POINTS = (*LIPS, CHIN)
EYE_CORNERS = (33, 263)  # the outer ones
QUIET = 0.1  # share of the frames, those in which the net hears least, that show the mouth at rest
RIDGE = 1e-4  # of the map from curves to what the mesh misses
CUT = 25  # frames, of the stretches in which the curves of a measurement are larger or smaller alike
ROWS = 2  # of features, for one frame
SUBSAMPLES = 8  # moments of a frame, as `avatar.drivers.speech.resample` looks at it
CROP = 256  # px, of the picture that the nets are shown
LAYERS = ["enter", "out", "leave"]  # peft knows no dilated convolutions


class AudioAdapterSettings(Settings):
    """See audio_adapter.yaml."""

    piece: PositiveInt
    measured: NonNegativeInt
    rank: PositiveInt
    alpha: float
    whisper: str
    shown: PositiveInt


@dataclass(frozen=True, kw_only=True)
class PersonalConfig:
    """Sizes of a `PersonalSpeech`."""

    speech: SpeechConfig
    rank: int
    alpha: float


class PersonalSpeech(nn.Module):
    """The speech net with what is trained beside it; from features to the curves that a video shows."""

    def __init__(self, config: PersonalConfig, net: SpeechToCurves | None = None) -> None:
        super().__init__()
        self.config = config
        self.net = net or SpeechToCurves(config.speech)
        add_lora(self.net, LAYERS, config.rank, config.alpha)
        self.net.style = Style()

    def forward(self, features: Tensor) -> Tensor:
        """Curves of frames (B, T, 52) from features (B, ROWS T + 1 + 2 context, layers, dim)."""
        rows = (ARTICULATION * self.net.gated(features)).clamp(0, 1)
        late = (torch.arange(SUBSAMPLES, device=rows.device) + 0.5) / SUBSAMPLES * ROWS
        # Each moment lies between two rows; a frame is the mean over its moments.
        nearness = (1 - (late[:, None] - torch.arange(ROWS + 1, device=rows.device)).abs()).clamp(min=0)
        share = nearness.mean(0)
        return sum(share[i] * rows[:, i : rows.shape[1] - ROWS + i : ROWS] for i in range(ROWS + 1))  # type: ignore[return-value]


class MouthModel(nn.Module):
    """Where mouth and chin of a person are under any curves, with gradients: see `ReferenceMesh.act`."""

    rest: Tensor
    own: Tensor
    moves: Tensor
    gap: Tensor
    own_rims: Tensor
    rims: Tensor
    pull: Tensor
    missed: Tensor

    def __init__(self, mesh: ReferenceMesh) -> None:
        super().__init__()
        upper, lower = next(pulls for slit, pulls in mesh.slits if slit is MOUTH)
        points, rims = list(POINTS), [*MOUTH.upper, *MOUTH.lower]
        self.register_buffer("rest", torch.from_numpy(mesh.rest))
        self.register_buffer("own", torch.from_numpy(mesh.own[points, :2]))
        self.register_buffer("moves", torch.from_numpy(mesh.basis.displacement[:, points, :2].copy()))
        self.register_buffer("gap", torch.from_numpy(mesh.mouth_change))
        self.register_buffer("own_rims", torch.from_numpy(mesh.own[rims, 1].copy()))
        self.register_buffer("rims", torch.from_numpy(mesh.basis.displacement[:, rims, 1].copy()))
        share = MOUTH.upper_share
        self.register_buffer("pull", torch.from_numpy((1 - share) * lower[points] - share * upper[points]))
        self.register_buffer("missed", torch.zeros(len(mesh.rest) + 1, 2 * len(points)))

    def correct(self, curves: Tensor, points: Tensor) -> None:
        """Learn what the nets make of curves (n, 52) beyond what the mesh says: the points (n, P, 2) that are
        seen in their frames; the rows with NaN do not count."""
        left = (points - self(curves)).flatten(1)
        seen = left.isfinite().all(1)
        known = F.pad(curves[seen], (0, 1), value=1.0)
        ridge = RIDGE * seen.sum() * torch.eye(known.shape[1])
        self.missed += torch.linalg.solve(known.T @ known + ridge, known.T @ left[seen])

    def forward(self, curves: Tensor) -> Tensor:
        """Points (..., P, 2) in face units of curves (..., 52)."""
        change = curves - self.rest
        moved = self.own + torch.einsum("...k,kpd->...pd", change, self.moves)
        top, bottom = (self.own_rims + change @ self.rims).chunk(2, -1)
        missing = (curves @ self.gap).clamp(min=0) - (bottom - top)
        shift = missing @ self.pull.T
        placed = torch.stack([moved[..., 0], moved[..., 1] + shift], -1)
        return placed + (F.pad(curves, (0, 1), value=1.0) @ self.missed).view_as(placed)  # type: ignore[operator]


def read_signals(clip: Footage, whisper: WhisperFeatures, folder: Path) -> dict[str, Tensor]:
    """Landmarks (T, 478, 3) in px, NaN where no face is seen, and features (n, layers, dim) of a clip; read
    from it once and kept in a folder."""
    path = folder / f"{clip.id}.safetensors"
    if not path.exists():
        assert clip.sound is not None
        features = whisper(read_audio(clip.sound)).half().numpy()
        write({"landmarks": seen_in(read_video(clip.video), str(clip.video)), "features": features}, path)
        log.info("read %s", clip.video)
    return load_file(path)


def seen_in(frames: Iterable[NDArray[np.uint8]], name: str) -> Array:
    """Landmarks (T, 478, 3) in px of the largest face of a film, NaN where it is not seen."""
    found = follow(frames, "largest", name)
    return np.stack([np.full((478, 3), np.nan, np.float32) if p is None else p for p in found])


def turned(landmarks: Array, basis: FaceBasis) -> Array:
    """`facing` of landmarks (T, 478, 3) in px; frames with NaN stay so."""
    seen = np.isfinite(landmarks).all((1, 2))
    ahead = np.full_like(landmarks, np.nan)
    ahead[seen] = facing(landmarks[seen], basis)
    return ahead


def own_points(landmarks: Array, mesh: ReferenceMesh) -> Tensor:
    """Mouth points (T, P, 2) as a mesh that faces the viewer has them, of landmarks (T, 478, 3) in px."""
    own = (turned(landmarks, mesh.basis) - mesh.centre) @ mesh.turn / mesh.height
    return torch.from_numpy(own[:, list(POINTS), :2].astype(np.float32))


@dataclass
class Speaker:
    """All of a person's clips of one split, one after the other.

    Attributes:
        features: of each clip (n, layers, dim), with `context` of rows more on each side.
        points: of each clip (T, P, 2) in the face units of the person's mesh.
    """

    features: list[Tensor]
    points: list[Tensor]

    def piece(self, clip: int, start: int, frames: int, context: int) -> Batch:
        """Features and points of some frames of a clip."""
        rows = slice(ROWS * start, ROWS * (start + frames) + 1 + 2 * context)
        return {
            "features": self.features[clip][rows][None],
            "points": self.points[clip][start : start + frames][None],
        }


def rest_mesh(signals: Sequence[dict[str, Tensor]], net: SpeechToCurves, basis: FaceBasis) -> ReferenceMesh:
    """The person's mesh at rest: the median of the frames in which the least is said."""
    faces, heard = [], []
    for signal in signals:
        _, activity = net(_padded(signal["features"].float(), net.config.reach)[None])
        frames = min(len(signal["landmarks"]), activity.shape[1] // ROWS)
        heard.append(activity[0, : ROWS * frames].unflatten(0, (frames, ROWS)).amax(1))
        faces.append(turned(signal["landmarks"][:frames].numpy(), basis))
    points, loud = np.concatenate(faces), torch.cat(heard).detach().numpy()
    seen = np.isfinite(points).all((1, 2))
    quiet = loud <= np.quantile(loud[seen], QUIET)
    return ReferenceMesh(basis, np.median(points[quiet & seen], 0))


def _padded(features: Tensor, context: int) -> Tensor:
    """Features (n, ...) with more of the first and of the last on both sides, as `SpeechToCurves.stream`."""
    return torch.cat([features[:1].expand(context, -1, -1), features, features[-1:].expand(context, -1, -1)])


def speaker(signals: Sequence[dict[str, Tensor]], mesh: ReferenceMesh, context: int) -> Speaker:
    """Clips as they are trained on; frames without a face have NaN points."""
    features, points = [], []
    for signal in signals:
        own = own_points(signal["landmarks"].numpy(), mesh)
        frames = min(len(own), (len(signal["features"]) - 1) // ROWS)
        points.append(own[:frames])
        features.append(_padded(signal["features"][: ROWS * frames + 1].float(), context))
    return Speaker(features, points)


def play(curves: Array, rng: np.random.Generator) -> Array:
    """Curves (T, 52) of a mean speaker as other people would make them, a new person every second."""
    own = curves.copy()
    for start in range(0, len(own), CUT):
        gains, more = np.exp(rng.normal(0, 0.3, len(MOUTH_CURVES))), rng.exponential(0.05, len(MOUTH_CURVES))
        part = own[start : start + CUT, list(MOUTH_CURVES)]
        speaking = part.max(1, keepdims=True)
        own[start : start + CUT, list(MOUTH_CURVES)] = part * gains + more * speaking
    jaw, close = INDEX["jawOpen"], INDEX["mouthClose"]
    own[:, close] = np.minimum(own[:, close], own[:, jaw])
    return own.clip(0, 1).astype(np.float32)


def response(picture: NDArray[np.uint8], curves: Array, mesh: ReferenceMesh) -> Tensor:
    """Mouth points (T, P, 2), in the face units of a mesh, of what the shipped nets make of a picture (H, W,
    3) of the person under curves (T, 52); NaN where no face is seen."""
    size = (picture.shape[1], picture.shape[0])
    crop = head_crop(choose_face(find_faces(picture), "largest", size), size)
    still = np.zeros((len(curves), 6), np.float32)
    made = Animator.from_pretrained().render(extract(picture, crop, CROP), curves, still)
    return own_points(seen_in(made, "made"), mesh)


def mouth_error(model: nn.Module, mouth: MouthModel, eyes: float, batch: Batch) -> Tensor:
    """Mean distance of the landmarks of a batch, in distances between the eyes; frames without a face do not
    count."""
    with torch.autocast(batch["points"].device.type, enabled=False):  # half precision moves lips by a pixel
        there = mouth(model(batch["features"]))
    wanted = batch["points"]
    seen = wanted.isfinite().all(-1)
    away = (there - wanted.nan_to_num()).square().sum(-1).add(1e-8).sqrt()
    return (away * seen).sum() / seen.sum().clamp(min=1) / eyes


def main(words: list[str]) -> list[float]:
    """Train with the settings of audio_adapter.yaml changed by `words`; returns the losses."""
    settings = read_settings(AudioAdapterSettings, __file__, words)
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    clips = [clip for clip in read_index(settings.data) if clip.sound is not None]
    groups = {s: [c for c in clips if c.split == s] for s in ("train", "validation")}
    if not groups["train"]:
        raise UserError(f"data={settings.data}: no clip of the split train has sound")
    net = load(SpeechToCurves, WEIGHTS)
    whisper = WhisperFeatures.from_pretrained(settings.whisper, net.config.layers)
    folder = settings.out / "signals"
    read = {split: [read_signals(clip, whisper, folder) for clip in own] for split, own in groups.items()}
    mesh = rest_mesh(read["train"], net, FaceBasis.load())
    mouth = MouthModel(mesh)
    eyes = float(np.linalg.norm(mesh.own[EYE_CORNERS[0], :2] - mesh.own[EYE_CORNERS[1], :2]))
    context = net.context
    sets = {split: speaker(own, mesh, context) for split, own in read.items()}
    config = PersonalConfig(speech=net.config, rank=settings.rank, alpha=settings.alpha)
    model = PersonalSpeech(config, net)
    if settings.measured:
        measure(model, mouth, sets["train"], groups["train"], mesh, settings)
    batch = pieces(sets["train"], settings, context, [clip.weight for clip in groups["train"]])

    def loss(trained: nn.Module, given: Batch, _: torch.Generator) -> Losses:
        return {"loss": mouth_error(trained, mouth, eyes, given)}

    def probe(trained: nn.Module) -> dict[str, float]:
        known = sets["validation"]
        whole = [known.piece(i, 0, len(p), context) for i, p in enumerate(known.points)]
        lengths = [len(p) for p in known.points]
        errors = [mouth_error(trained, mouth, eyes, one).item() for one in whole]
        return {"validation": round(float(np.average(errors, weights=lengths)), 5)}

    pairs = zip(groups["validation"], read["validation"], strict=True)
    begin = [clip for clip, own in pairs if own["landmarks"][0].isfinite().all()]  # with a face to drive

    def show(trained: nn.Module, place: Path) -> dict[str, float]:
        return drive_clips(begin[: settings.shown], adapter(trained, settings), place)  # type: ignore[arg-type]

    losses = train(model, batch, loss, settings, probe if groups["validation"] else None, show)
    trained = PersonalSpeech(config)
    trained.load_state_dict(load_file(settings.out / "model.safetensors"))
    adapter(trained, settings).save(settings.out / FILE)
    return losses


def adapter(trained: PersonalSpeech, settings: AudioAdapterSettings) -> Adapter:
    """What was trained, as a file of it is."""
    tensors = {f"speech.{name}": value for name, value in lora_tensors(trained.net).items()}
    return Adapter("audio", {"speech": digest(WEIGHTS)}, settings.alpha / settings.rank, tensors)


def measure(
    model: PersonalSpeech,
    mouth: MouthModel,
    known: Speaker,
    clips: Sequence[Footage],
    mesh: ReferenceMesh,
    settings: AudioAdapterSettings,
) -> None:
    """Correct a mouth model by what the nets make of the person; kept in OUT/signals."""
    path = settings.out / "signals/response.safetensors"
    if not path.exists():
        nearest = [(points - mouth.own).norm(dim=-1).mean(1).nan_to_num(nan=9.0) for points in known.points]  # type: ignore[operator]
        clip = int(np.argmin([away.min() for away in nearest]))
        picture = next(islice(read_video(clips[clip].video), int(nearest[clip].argmin()), None))
        whole = [known.piece(i, 0, len(p), model.net.context) for i, p in enumerate(known.points)]
        with torch.no_grad():
            curves = torch.cat([model(one["features"])[0] for one in whole])[: settings.measured]
        played = play(curves.numpy(), np.random.default_rng(settings.seed))
        write({"curves": played, "points": response(picture, played, mesh).numpy()}, path)
    found = load_file(path)
    mouth.correct(found["curves"], found["points"])


def pieces(
    known: Speaker, settings: AudioAdapterSettings, context: int, weights: Sequence[float]
) -> Callable[[int], Batch]:
    """Random pieces of clips, by their lengths and weights; a step always gets the same ones."""
    lengths = np.array([len(points) for points in known.points])
    likely = lengths * np.array(weights)
    length = min(settings.piece, int(lengths.min()))

    def batch(step: int) -> Batch:
        rng = np.random.default_rng((settings.seed, step))
        chosen = rng.choice(len(lengths), settings.batch, p=likely / likely.sum())
        starts = [int(rng.integers(lengths[clip] - length + 1)) for clip in chosen]
        parts = [known.piece(int(c), start, length, context) for c, start in zip(chosen, starts, strict=True)]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    return batch


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    run(main)
