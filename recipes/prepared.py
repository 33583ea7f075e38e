"""The folder of footage that `avatar prepare` writes, read for training.

DATA/index.json        [{"id": ..., "split": "train" or "validation", "identity": ...}, ...]
DATA/clips/ID.mp4      a square crop of the person at 25 fps
DATA/clips/ID.wav      its sound, 16 kHz mono; not there where the clip is silent
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from avatar.errors import UserError

FPS = 25


@dataclass(frozen=True)
class Footage:
    """One clip of a person.

    Attributes:
        id: its name.
        video: the mp4.
        sound: the wav, None where it is silent.
        split: "train" or "validation".
        weight: how often it is to be drawn beside the others, so that all kinds of sound are heard alike.
    """

    id: str
    video: Path
    sound: Path | None
    split: str
    weight: float = 1.0


def read_index(folder: Path) -> list[Footage]:
    """The clips of a folder, in the order of its index.

    Raises:
        UserError: no index, or one that can not be read, or clips that are not there.
    """
    index = folder / "index.json"
    if not index.exists():
        raise UserError(f"data={folder}: has no index.json; `avatar prepare FOOTAGE --out {folder}` does")
    try:
        entries = [
            (str(entry["id"]), str(entry["split"]), float(entry.get("weight", 1)))
            for entry in json.loads(index.read_text("utf8"))
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{index}: not an index of clips ({error}); prepare the footage again") from error
    found = []
    for name, split, weight in entries:
        video, sound = folder / "clips" / f"{name}.mp4", folder / "clips" / f"{name}.wav"
        if not video.exists():
            raise UserError(f"{video}: the index names it, but it is not there; prepare the footage again")
        found.append(Footage(name, video, sound if sound.exists() else None, split, weight))
    return found
