"""DWPose through rtmlib: what is missing is said, and its points are put into the layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx_file import write_constants, write_net

from avatar.drivers.dwpose import DWPose
from avatar.drivers.people import follow
from avatar.drivers.pose import make_detector
from avatar.drivers.skeleton import FACE, INDEX, LEFT_HAND, RIGHT_HAND
from avatar.errors import UserError

FRAME = np.zeros((480, 640, 3), np.uint8)
BOXES = ((400.0, 100, 500, 300), (100.0, 40, 300, 440))  # px of FRAME: a small and a large person
COCO = {
    "nose": 0, "left_eye": 1, "right_eye": 2, "left_ear": 3, "right_ear": 4, "left_shoulder": 5,
    "right_shoulder": 6, "left_elbow": 7, "right_elbow": 8, "left_wrist": 9, "right_wrist": 10,
    "left_hip": 11, "right_hip": 12, "left_knee": 13, "right_knee": 14, "left_ankle": 15, "right_ankle": 16,
    "left_big_toe": 17, "left_small_toe": 18, "left_heel": 19, "right_big_toe": 20,
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Nets that find BOXES, and 133 points of which number n lies at column 100 + n, row 2 n of 288 x 384."""
    pytest.importorskip("rtmlib")
    found = np.array([[(*box, 0.9) for box in BOXES]], np.float32)  # FRAME fills 640 x 640 without scaling
    write_constants(tmp_path / "yolox_l.onnx", (1, 3, 640, 640), {"boxes": found})
    across, down = np.zeros((1, 133, 576), np.float32), np.zeros((1, 133, 768), np.float32)
    points = np.arange(133)
    across[0, points, 2 * (100 + points)] = down[0, points, 4 * points] = 0.8  # two bins a pixel
    across[0, COCO["left_ear"]] *= 0.1
    down[0, COCO["left_ear"]] *= 0.1
    write_constants(tmp_path / "dw-ll_ucoco_384.onnx", (1, 3, 384, 288), {"x": across, "y": down})
    return tmp_path


def expected(point: int, box: tuple[float, ...]) -> NDArray[np.float64]:
    """Where point n lies in FRAME: 288 x 384 hold the box, 1.25 times as large, around its middle."""
    left, top, right, bottom = box
    height = 1.25 * max(bottom - top, (right - left) * 384 / 288)
    corner = np.array([(left + right) / 2 - height * 288 / 384 / 2, (top + bottom) / 2 - height / 2])
    return corner + np.array([100 + point, 2 * point]) * height / 384


def test_people_are_found_the_largest_first(folder: Path) -> None:
    boxes = DWPose(folder).find(FRAME)
    assert np.allclose(boxes, [BOXES[1], BOXES[0]], atol=1e-3)


def test_pictures_are_given_as_opencv_reads_them(folder: Path) -> None:
    # A net whose one box has the means of the channels as left, top and right, and 300 as the bottom.
    constants = {
        "row": np.array([1, 1, 3], np.int64),
        "rest": np.array([[[300, 0.9]]], np.float32),
    }
    nodes = [
        ("GlobalAveragePool", ("picture",), "means"),
        ("Reshape", ("means", "row"), "corner"),
        ("Concat", ("corner", "rest"), "boxes"),
    ]
    write_net(folder / "yolox_l.onnx", (1, 3, 640, 640), constants, nodes, {"boxes": (1, 1, 5)})
    frame = np.zeros((640, 640, 3), np.uint8) + np.array([200, 120, 40], np.uint8)  # red, green, blue
    assert np.allclose(DWPose(folder).find(frame), [[40, 120, 200, 300]], atol=0.01)


def test_points_are_put_into_the_layout(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    detector = make_detector("dwpose", folder)
    boxes = detector.find(FRAME)
    for number, box in enumerate((BOXES[1], BOXES[0])):
        read = detector.start(FRAME, boxes, number)
        assert read is not None
        keypoints, scores = read
        assert keypoints.shape == (134, 3) and scores.shape == (134,)
        assert not keypoints[:, 2].any()
        keypoints = keypoints[:, :2]
        for name, place in COCO.items():
            assert np.allclose(keypoints[INDEX[name]], expected(place, box), atol=0.01), name
        middle = (expected(5, box) + expected(6, box)) / 2
        assert np.allclose(keypoints[INDEX["neck"]], middle, atol=0.01)
        for place, start in ((FACE[0], 23), (LEFT_HAND[0], 91), (RIGHT_HAND[0], 112), (RIGHT_HAND[20], 132)):
            assert np.allclose(keypoints[place], expected(start, box), atol=0.01)
        assert scores[INDEX["left_ear"]] < 0.3 < scores[INDEX["right_ear"]]
    assert capsys.readouterr().out == ""  # rtmlib prints


def test_a_person_is_followed(folder: Path) -> None:
    found = follow([FRAME, FRAME], DWPose(folder), 25.0, "1")
    assert np.allclose(found.keypoints[0, INDEX["nose"], :2], expected(0, BOXES[0]), atol=0.01)


def test_the_nets_are_known_by_their_content(folder: Path) -> None:
    before = DWPose(folder).settings()
    write_constants(folder / "yolox_l.onnx", (1, 3, 640, 640), {"boxes": np.zeros((1, 1, 5), np.float32)})
    after = DWPose(folder).settings()
    assert before["finder"] != after["finder"] and before["reader"] == after["reader"]


def test_missing_files_are_named_and_not_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"yolox_l\.onnx: no such file; DWPose needs yolox_l\.onnx and dw-ll"):
        DWPose(tmp_path)
    (tmp_path / "yolox_l.onnx").touch()
    with pytest.raises(UserError, match=r"dw-ll_ucoco_384\.onnx: no such file"):
        DWPose(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(UserError, match=r"cache/avatar-toolkit/dwpose/yolox_l\.onnx: no such file"):
        DWPose()


def test_a_damaged_net_is_refused(folder: Path) -> None:
    (folder / "yolox_l.onnx").write_bytes(b"no net")
    with pytest.raises(UserError, match="is damaged or no ONNX net"):
        DWPose(folder)
