"""The film of `avatar.recipes.prepare_bench`: as long as asked for, and of shots that differ."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from tiny import picture

from avatar.errors import UserError
from avatar.media import read_video, video_info
from avatar.recipes.bench_footage import RATE, SIZE, make_footage


def clips(folder: Path, count: int) -> Path:
    for number in range(count):
        frames = np.stack([np.roll(picture(64, number), step, 1) for step in range(17)])
        save_file({"frames": frames}, folder / f"clip-{number}.safetensors")
    return folder


def test_a_film_has_its_length_and_is_made_again_alike(tmp_path: Path) -> None:
    source = clips(tmp_path, 4)
    assert make_footage(source, tmp_path / "film.mp4", 0.1, seed=3) == 6
    info = video_info(tmp_path / "film.mp4")
    assert (info.width, info.height, info.frames, info.has_audio) == (*SIZE, 6 * RATE, True)
    make_footage(source, tmp_path / "again.mp4", 0.1, seed=3)
    make_footage(source, tmp_path / "other.mp4", 0.1, seed=4)
    first, again, other = (
        next(iter(read_video(tmp_path / f"{name}.mp4"))).astype(int) for name in ("film", "again", "other")
    )
    assert np.abs(first - again).mean() < 1 < 20 < np.abs(first - other).mean()
    assert not list(tmp_path.glob(".*"))


def test_a_folder_without_clips_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no clips"):
        make_footage(tmp_path, tmp_path / "film.mp4", 0.1)
