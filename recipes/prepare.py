"""Videos become a training set: `avatar prepare FOOTAGE/ --out data/`.

    data/clips/ID.mp4    the square of one person, 25 frames a second, AAC sound where there is any
    data/clips/ID.wav    the same sound, 16 kHz mono
    data/index.json      list of {id, split, identity, seconds, source, start, caption, stage, measures ...}
    data/dropped.json    list of {id, source, start, seconds, reasons}; and files that can not be read
    data/report.html     what was kept and dropped and why, with data/pictures/
    data/records/        what was measured, by the content of the footage: a run that was ended goes on there

Footage is read once, reduced, in parts of two minutes; what is kept is then cut out of it. Every file is
written beside its place and renamed, and what is chosen depends on the records alone: runs that were killed,
that use several processes or many machines end with the same files.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console

from avatar.drivers.face import Crop
from avatar.errors import UserError
from avatar.picture import FaceDescriptor
from avatar.recipes.clip_file import OutputError, write_clip
from avatar.recipes.filters import NAMES
from avatar.recipes.records import VERSION, Part, Reading, Record, parts, read_part, write_text
from avatar.recipes.report_page import write_report
from avatar.recipes.selection import Dropped, Kept, Rules, Selection, class_weights, select
from avatar.recipes.shots import FPS, load_transnet
from avatar.recipes.sound_tags import leading
from avatar.recipes.spread import give_back, spread
from avatar.run import bar

VIDEOS = (
    ".mp4",
    ".mov",
    ".m4v",
    ".mkv",
    ".webm",
    ".avi",
    ".mpg",
    ".mpeg",
    ".ts",
    ".mts",
    ".flv",
    ".wmv",
    ".gif",
)
MADE = ("clips", "pictures", "records", "index.json", "dropped.json", "report.html", "prepare.json")
NEEDED = {"scenedetect": "scenedetect", "sklearn": "scikit-learn", "silero_vad": "silero-vad"}


@dataclass(frozen=True, kw_only=True)
class Options:
    """How footage is read, what is kept of it, and where the work is done."""

    reading: Reading = field(default_factory=Reading)
    rules: Rules = field(default_factory=Rules)
    jobs: int = 1
    ray: str | None = None


@dataclass(frozen=True)
class Unreadable:
    """A file of the footage that no record could be made of."""

    source: str
    says: str


def prepare(
    footage: Path, out: Path, options: Options, *, force: bool = False, quiet: bool = False
) -> Selection:
    """Make a training set of a folder of videos, or of one video.

    Raises:
        UserError: anything wrong with the footage, the options or the output folder.
    """
    options = _checked(options)
    videos = find_videos(footage, out)
    _open_output(out, options, force)
    console = Console(stderr=True, quiet=quiet, soft_wrap=True, highlight=False, markup=False)
    sources, todo, unreadable = _todo(videos, footage)
    records: list[Record] = []
    with bar(console, "parts read") as progress:
        work = partial(_attempt, reading=options.reading, folder=out)
        task = progress.add_task("", total=len(todo))
        for part, found in zip(todo, spread(work, todo, options.jobs, options.ray), strict=True):
            progress.advance(task)
            if isinstance(found, str):
                unreadable.append(Unreadable(sources[part.key], found))
            else:
                records += found
    if not records:
        why = f"; {unreadable[0].says}" if unreadable else ""
        raise UserError(f"{footage}: no video could be read{why}")
    chosen = select(records, options.rules)
    _cut_out(chosen.kept, {part.key: part.path for part in todo}, out, options, console)
    _write_lists(chosen, unreadable, sources, out)
    _say(chosen, unreadable, out, console)
    return chosen


def find_videos(footage: Path, out: Path) -> list[Path]:
    """All videos in a folder and the folders in it, or the one that is given; those of `out` do not count.

    Raises:
        UserError: there is none.
    """
    if not footage.exists():
        raise UserError(f"{footage}: no such folder, give one with videos")
    if footage.is_file():
        return [footage]
    if out.resolve() == footage.resolve():
        raise UserError(f"--out {out}: is the footage itself, choose another folder")
    found = sorted(path for path in footage.rglob("*") if path.suffix.lower() in VIDEOS and path.is_file())
    videos = [path for path in found if not path.resolve().is_relative_to(out.resolve())]
    if not videos:
        raise UserError(f"{footage}: holds no video ({', '.join(ending[1:] for ending in VIDEOS)})")
    return videos


def _checked(options: Options) -> Options:
    missing = [name for module, name in NEEDED.items() if find_spec(module) is None]
    if not FaceDescriptor.available():
        missing.append("dlib-bin")
    if missing:
        raise UserError(f"prepare needs {', '.join(missing)}: `pip install avatar-toolkit[prepare]`")
    reading, rules = options.reading, options.rules
    for name in rules.skip:
        if name not in NAMES:
            raise UserError(f"--skip {name}: there is no such filter; there are {', '.join(NAMES)}")
    text = "text" not in rules.skip
    if text and find_spec("rapidocr_onnxruntime") is None:
        raise UserError(
            "text needs rapidocr-onnxruntime: `pip install avatar-toolkit[prepare]`, or --skip text"
        )
    if not 0 < reading.shortest < reading.longest:
        raise UserError(
            f"--shortest {reading.shortest:g}: must be over 0 and under --longest {reading.longest:g}"
        )
    if not 64 <= reading.size <= 2048 or reading.size % 8:
        raise UserError(f"--size {reading.size}: must be from 64 to 2048 px, in steps of 8")
    if not 0 <= rules.validation < 1:
        raise UserError(f"--validation {rules.validation:g}: must be from 0 to under 1")
    if reading.transnet is not None:
        load_transnet(Path(reading.transnet))  # before anything is read
        reading = replace(reading, transnet=str(Path(reading.transnet).resolve()))
    return replace(options, reading=replace(reading, text=text))


def _open_output(out: Path, options: Options, force: bool) -> None:
    """Make the output folder, or go on in the one of an earlier run with the same reading.

    Raises:
        UserError: there is something else in it.
    """
    state = out / "prepare.json"
    wanted = {"version": VERSION, "reading": asdict(options.reading)}
    if out.is_file():
        raise UserError(f"--out {out}: is a file, give the name of a folder")
    if out.is_dir() and any(out.iterdir()):
        if not state.exists() and not force:
            raise UserError(
                f"--out {out}: is not empty and not of an earlier run; choose another, or use --force"
            )
        if not state.exists() or json.loads(state.read_text()) != wanted:
            if not force:
                raise UserError(f"--out {out}: was made with other options; choose another, or use --force")
            for name in MADE:
                path = out / name
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    write_text(state, json.dumps(wanted))


def _todo(videos: Sequence[Path], footage: Path) -> tuple[dict[str, str], list[Part], list[Unreadable]]:
    """Names of the footage by content, its parts, and what can not be read; the same content counts once."""
    sources: dict[str, str] = {}
    todo: list[Part] = []
    unreadable: list[Unreadable] = []
    for path in videos:
        name = path.name if footage.is_file() else path.relative_to(footage).as_posix()
        try:
            key = content_key(path)
            if key in sources:
                unreadable.append(Unreadable(name, f"the same file as {sources[key]}"))
                continue
            todo += parts(path, key)
            sources[key] = name
        except UserError as error:
            unreadable.append(Unreadable(name, str(error)))
        except OSError as error:
            unreadable.append(Unreadable(name, f"{path}: can not be read ({error.strerror})"))
    return sources, todo, unreadable


def content_key(path: Path) -> str:
    """The first 32 digits of the SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:32]


def _attempt(part: Part, reading: Reading, folder: Path) -> list[Record] | str:
    """The records of a part, or why there are none."""
    try:
        return read_part(part, reading, folder)
    except OutputError:
        raise
    except UserError as error:
        return str(error)
    finally:
        give_back()


def _cut_out(
    kept: Sequence[Kept], paths: Mapping[str, Path], out: Path, options: Options, console: Console
) -> None:
    """Write the clips that are not there yet, and take away those that are no longer kept."""
    clips = out / "clips"
    clips.mkdir(exist_ok=True)
    names = {clip.record.id for clip in kept}
    for path in clips.iterdir():
        if path.stem not in names:  # also what a killed run left half written
            path.unlink()
    todo = [clip.record for clip in kept if not (clips / f"{clip.record.id}.mp4").exists()]
    work = partial(_write, paths=dict(paths), clips=clips, size=options.reading.size)
    with bar(console, "clips written") as progress:
        written = spread(work, todo, options.jobs, options.ray, threads=True)
        for _ in progress.track(written, total=len(todo)):
            pass


def _write(record: Record, paths: Mapping[str, Path], clips: Path, size: int) -> None:
    write_clip(
        paths[record.key],
        clips / record.id,
        first=record.first,
        count=record.count,
        crop=Crop(*record.crop),
        size=size,
        sound=record.sound,
    )


def _write_lists(
    chosen: Selection, unreadable: Sequence[Unreadable], sources: Mapping[str, str], out: Path
) -> None:
    weights = class_weights(chosen.kept)
    index = [_entry(clip, weight, sources) for clip, weight in zip(chosen.kept, weights, strict=True)]
    dropped: list[dict[str, object]] = [_left_out(drop, sources) for drop in chosen.dropped]
    dropped += [
        {"source": file.source, "reasons": [{"filter": "unreadable", "says": file.says}]}
        for file in unreadable
    ]
    write_text(out / "dropped.json", json.dumps(dropped, indent=1))
    write_report(out / "report.html", index, dropped, chosen.notes)
    write_text(out / "index.json", json.dumps(index, indent=1))


def _where(record: Record, sources: Mapping[str, str]) -> dict[str, object]:
    return {
        "source": sources[record.key],
        "start": record.first / FPS,
        "seconds": record.count / FPS,
    }


def _entry(clip: Kept, weight: float, sources: Mapping[str, str]) -> dict[str, object]:
    record = clip.record
    assert record.measures is not None
    return {
        "id": record.id,
        "split": clip.split,
        "identity": clip.identity,
        **_where(record, sources),
        "frames": record.count,
        "sound": record.sound,
        "crop": record.crop,
        "stage": clip.stage,
        "kind": leading(record.measures.sounds),
        "weight": round(weight, 4),
        "caption": record.caption,
        "measures": asdict(record.measures),
    }


def _left_out(drop: Dropped, sources: Mapping[str, str]) -> dict[str, object]:
    reasons = [asdict(reason) for reason in drop.reasons]
    return {"id": drop.record.id, **_where(drop.record, sources), "reasons": reasons}


def _say(chosen: Selection, unreadable: Sequence[Unreadable], out: Path, console: Console) -> None:
    seconds = {"train": 0.0, "validation": 0.0}
    for clip in chosen.kept:
        seconds[clip.split] += clip.record.count / FPS
    people = len({clip.identity for clip in chosen.kept})
    console.print(
        f"{out}: {len(chosen.kept)} clips of {people} people kept"
        f" ({seconds['train']:.0f} s to train, {seconds['validation']:.0f} s for validation),"
        f" {len(chosen.dropped)} dropped; {out / 'report.html'} shows them"
    )
    for note in [*chosen.notes, *(f"{file.source}: left out, {file.says}" for file in unreadable)]:
        console.print(f"note: {note}")
    if not chosen.kept:
        console.print("note: nothing was kept, the report says why")
