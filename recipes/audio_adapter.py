"""Teach the mouth a person's way of speaking. Settings in audio_adapter.yaml.

The face mesh of the footage says where the mouth was, frame by frame. The speech net of `mini` gets low-rank
changes and a `Style`, and both are trained until the landmarks of its curves, as the driven reference places
them (`avatar.drivers.mesh.ReferenceMesh`), lie where the person's were. The loss is that error itself: the
mean distance of mouth and chin landmarks in distances between the eyes' outer corners. Where the nets put the
mouth beside the mesh is measured in rounds, each with what is learnt by then.

Out: OUT/adapter.safetensors for `avatar drive --adapter OUT`; what was read of the clips and measured is kept
in OUT/signals, and the rounds before the last are runs in OUT/round-N.
Shape legend: B pieces, T frames at 25 fps, n rows at 50 Hz, P landmarks, 52 curves.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import NonNegativeInt, PositiveInt
from safetensors.torch import load_file
from torch import Tensor, nn

from avatar.adapters.adapter_file import FILE, Adapter, digest
from avatar.animator import Animator
from avatar.backbone.checkpoint import load
from avatar.drivers.curves import MOUTH as MOUTH_CURVES
from avatar.drivers.mesh import FaceBasis, ReferenceMesh
from avatar.drivers.speech import WEIGHTS, SpeechConfig, SpeechToCurves, Style
from avatar.drivers.whisper import WhisperFeatures
from avatar.errors import UserError
from avatar.media import read_audio, read_video
from avatar.recipes.lora import add_lora, lora_tensors
from avatar.recipes.person_mouth import EYE_CORNERS, PersonMouth, own_points, seen_in, turned
from avatar.recipes.prepared import Footage, read_index
from avatar.recipes.settings import Settings, read_settings, run
from avatar.recipes.shards import write
from avatar.recipes.training import Batch, Losses, train
from avatar.recipes.validation import drive_clips
from avatar.voice import ARTICULATION

log = logging.getLogger(__name__)

Array = NDArray[np.float32]

QUIET = 0.1  # share of the frames, those in which the net hears least, that show the mouth at rest
ROWS = 2  # of features, for one frame
SUBSAMPLES = 8  # moments of a frame, as `avatar.drivers.speech.resample` looks at it
OTHERS = (0.3, 0.05)  # deviation of what a stranger's curves add to themselves and to each other
LAYERS = ["enter", "out", "leave"]  # peft knows no dilated convolutions


class AudioAdapterSettings(Settings):
    """See audio_adapter.yaml."""

    piece: PositiveInt
    measured: NonNegativeInt
    rounds: PositiveInt
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


def mouth_error(model: nn.Module, mouth: PersonMouth, eyes: float, batch: Batch) -> Tensor:
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
    clips = [clip for clip in read_index(settings.data) if clip.sound is not None]
    groups = {s: [c for c in clips if c.split == s] for s in ("train", "validation")}
    if not groups["train"]:
        raise UserError(f"data={settings.data}: no clip of the split train has sound")
    net = load(SpeechToCurves, WEIGHTS)
    whisper = WhisperFeatures.from_pretrained(settings.whisper, net.config.layers)
    folder = settings.out / "signals"
    read = {split: [read_signals(clip, whisper, folder) for clip in own] for split, own in groups.items()}
    mesh = rest_mesh(read["train"], net, FaceBasis.load())
    mouth = PersonMouth(mesh)
    eyes = float(np.linalg.norm(mesh.own[EYE_CORNERS[0], :2] - mesh.own[EYE_CORNERS[1], :2]))
    context = net.context
    sets = {split: speaker(own, mesh, context) for split, own in read.items()}
    config = PersonalConfig(speech=net.config, rank=settings.rank, alpha=settings.alpha)
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

    look = probe if groups["validation"] else None
    torch.manual_seed(settings.seed)
    model, trained = PersonalSpeech(config, load(SpeechToCurves, WEIGHTS)), PersonalSpeech(config, net)
    for number in range(settings.rounds):
        if settings.measured:
            path = folder / f"response-{number}.safetensors"
            if not path.exists():
                write(measure(trained, sets["train"], groups["train"], mesh, settings, number), path)
            found = load_file(path)
            mouth.correct(found["curves"], found["points"])
        own = settings_of(settings, number)
        losses = train(model, batch, loss, own, look, show if own.out == settings.out else None)
        trained = PersonalSpeech(config)
        trained.load_state_dict(load_file(own.out / "model.safetensors"))
        model.load_state_dict(trained.state_dict())
    adapter(trained, settings).save(settings.out / FILE)
    return losses


def settings_of(settings: AudioAdapterSettings, number: int) -> AudioAdapterSettings:
    """Settings of a round. After the first the weights stay near those that were measured, or they would find
    curves of which the measurement says nothing and the mouth model errs."""
    changed: dict[str, Any] = {}
    if number < settings.rounds - 1:
        changed["out"] = settings.out / f"round-{number}"
    if number > 0:
        changed |= {"steps": settings.steps // 2, "learning_rate": settings.learning_rate / 4}
    return settings.model_copy(update=changed)


def adapter(trained: PersonalSpeech, settings: AudioAdapterSettings) -> Adapter:
    """What was trained, as a file of it is."""
    tensors = {f"speech.{name}": value for name, value in lora_tensors(trained.net).items()}
    return Adapter("audio", {"speech": digest(WEIGHTS)}, settings.alpha / settings.rank, tensors)


def measure(
    model: PersonalSpeech,
    known: Speaker,
    clips: Sequence[Footage],
    mesh: ReferenceMesh,
    settings: AudioAdapterSettings,
    number: int,
) -> dict[str, Array]:
    """Curves (n, 52) that a model tells of clips, and mouth points (n, P, 2) of what the shipped nets make of
    them and of the first frame of each clip.

    Args:
        number: of the round, which draws the clips. In round 0 random strangers speak them, for the shipped
            net alone would say nothing of other ways to speak.

    Raises:
        UserError: no clip begins with a face with open eyes.
    """
    rng = np.random.default_rng((settings.seed, number))
    animator = Animator.from_pretrained(device="cpu")  # where the model is between its trainings
    animator.speech.net = model.net
    curves: list[Tensor] = []
    points: list[Tensor] = []
    for index in rng.permutation(len(clips)):
        left = settings.measured - sum(map(len, points))
        if left <= 0 or not known.points[index][0].isfinite().all():
            continue
        if number == 0:
            model.net.style = stranger(rng)
        clip, frames = clips[index], min(left, len(known.points[index]))
        with torch.no_grad():
            curves.append(model(known.piece(index, 0, frames, model.net.context)["features"])[0])
        assert clip.sound is not None
        made = animator.stream(clip.video, clip.sound, ref_time=0)  # as they are used
        points.append(own_points(seen_in(islice(made, frames), "made"), mesh))
    if not points:
        raise UserError(f"data={settings.data}: no clip of the split train begins with a face with open eyes")
    return {"curves": torch.cat(curves).numpy(), "points": torch.cat(points).numpy()}


def stranger(rng: np.random.Generator) -> Style:
    """The style of a random person."""
    style, count = Style(), len(MOUTH_CURVES)
    own, others = OTHERS
    weight = own * np.diag(rng.normal(size=count)) + others * rng.normal(size=(count, count))
    style.weight.data = torch.from_numpy(weight.astype(np.float32))
    return style


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
