"""Films and pictures with a caption each, whatever folder they come from.

A folder is one of three kinds, told by what is in it:

    index.json and clips/ID.mp4     as `avatar prepare` writes them; the caption is the dense one
    clip-SEED.safetensors           of the clip factory; the caption is made of the facts in the header
    NAME.png (jpg, webp), NAME.txt  pictures, each with its caption beside it

Frames are (T, H, W, 3) uint8 RGB.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors import safe_open

from avatar.errors import UserError
from avatar.media import read_image, read_video
from avatar.recipes.shards import seeds
from avatar.rewrite import Description

Pixels = NDArray[np.uint8]
Split = Literal["train", "validation"]

PICTURES = (".png", ".jpg", ".jpeg", ".webp")
HELD_OUT = 32  # one of so many factory clips and pictures is kept for validation


@dataclass(frozen=True)
class Captioned:
    """A film, or a picture, which is a film of one frame.

    Attributes:
        id: its name in the folder.
        path: of its file.
        shape: frames, height and width in px.
    """

    id: str
    path: Path
    caption: str
    split: Split
    shape: tuple[int, int, int]

    def frames(self, start: int, count: int, stride: int = 1) -> Pixels:
        """Some of its frames, (count, H, W, 3), every `stride`-th from `start` on."""
        stop = start + stride * (count - 1) + 1
        if self.path.suffix == ".safetensors":
            with safe_open(self.path, "np") as file:
                return file.get_slice("frames")[start:stop][::stride]
        if self.path.suffix != ".mp4":
            return read_image(self.path)[None]
        return np.stack(list(islice(read_video(self.path), start, stop, stride)))


def read_captioned(folder: Path, more_than: int = 0) -> list[Captioned]:
    """All films or pictures of a folder, in the order of their names.

    Raises:
        UserError: it has too few, or one without a caption, or an index that can not be read.
    """
    if (folder / "index.json").exists():
        found = list(_prepared(folder))
    elif known := seeds(folder, "clip"):
        found = [_made(folder / f"clip-{seed}.safetensors", number) for number, seed in enumerate(known)]
    else:
        paths = sorted(path for path in folder.glob("*") if path.suffix.lower() in PICTURES)
        found = [_picture(path, number) for number, path in enumerate(paths)]
    if len(found) <= more_than:
        raise UserError(f"{folder}: {len(found)} clips, more than {more_than} are needed")
    return found


def _prepared(folder: Path) -> Iterator[Captioned]:
    index = folder / "index.json"
    state = folder / "prepare.json"
    try:
        entries = json.loads(index.read_text("utf8"))
        size = int(json.loads(state.read_text("utf8"))["reading"]["size"])
        for entry in entries:
            path = folder / "clips" / f"{entry['id']}.mp4"
            if not path.exists():
                raise UserError(f"{path}: the index names it, but it is not there; prepare the footage again")
            shape = (int(entry["frames"]), size, size)
            yield Captioned(entry["id"], path, entry["caption"]["dense"], entry["split"], shape)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{index}: not an index of clips ({error}); prepare the footage again") from error


def _made(path: Path, number: int) -> Captioned:
    with safe_open(path, "np") as file:
        facts = json.loads((file.metadata() or {}).get("facts", "{}"))
        frames, height, width, _ = file.get_slice("frames").get_shape()
    return Captioned(path.stem, path, told(facts), _split(number), (frames, height, width))


def told(facts: dict[str, str]) -> str:
    """The caption of a factory clip, in the order of `avatar.rewrite`."""
    hair, clothes = facts.get("hair"), facts.get("clothes")
    looks = [facts.get("expression"), hair and f"{hair} hair", clothes]
    said = Description(
        subject=", ".join([f"A {facts.get('gender', 'person')}", *(look for look in looks if look)]),
        action="",
        background=facts.get("background", ""),
        style="computer animation",
        shot="",
        light=facts.get("light", ""),
        mood="",
    )
    return said.text()


def _picture(path: Path, number: int) -> Captioned:
    words = path.with_suffix(".txt")
    if not words.exists():
        raise UserError(f"{path}: has no caption; write it into {words}")
    with Image.open(path) as image:
        width, height = image.size
    return Captioned(path.stem, path, words.read_text("utf8").strip(), _split(number), (1, height, width))


def _split(number: int) -> Split:
    return "validation" if number % HELD_OUT == 0 else "train"
