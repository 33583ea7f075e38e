"""People found by DWPose through rtmlib, for those who have its two ONNX files.

The files are yolox_l.onnx and dw-ll_ucoco_384.onnx of IDEA-Research's DWPose. Nothing is downloaded here:
give their folder, or put them into the cache folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from platformdirs import user_cache_dir

from avatar.errors import UserError

Array = NDArray[np.float32]
Pixels = NDArray[np.uint8]

FINDER, READER = "yolox_l.onnx", "dw-ll_ucoco_384.onnx"
FINDER_SIDE = (640, 640)  # px
READER_SIZE = (288, 384)  # px, width and height
FINDER_SCORE = 0.3  # of a box that counts as a person


def default_folder() -> Path:
    """Where the files are looked for when no folder is given."""
    return Path(user_cache_dir("avatar-toolkit")) / "dwpose"


class DWPose:
    """A `people.Detector` that looks at every frame anew, in the box where the person was.

    Args:
        folder: with FINDER and READER; without it, `default_folder`.

    Raises:
        UserError: rtmlib is not installed, a file is missing or is no such net.
    """

    name = "dwpose"

    def __init__(self, folder: Path | None = None) -> None:
        folder = folder or default_folder()
        self._files = [folder / FINDER, folder / READER]
        for path in self._files:
            if not path.is_file():
                raise UserError(
                    f"{path}: no such file; DWPose needs {FINDER} and {READER} in that folder,"
                    " get them from the DWPose project or use --pose-detector mediapipe"
                )
        if find_spec("rtmlib") is None:
            raise UserError("--pose-detector dwpose: install it by `pip install avatar-toolkit[pose]`")
        from rtmlib import YOLOX, RTMPose

        try:
            with contextlib.redirect_stdout(io.StringIO()):  # it prints what it loads
                self._finder = YOLOX(
                    str(self._files[0]), FINDER_SIDE, score_thr=FINDER_SCORE, backend="onnxruntime"
                )
                self._reader = RTMPose(
                    str(self._files[1]), READER_SIZE, to_openpose=True, backend="onnxruntime"
                )
        except Exception as error:  # onnxruntime's errors have no common base
            raise UserError(f"{folder}: {FINDER} or {READER} is damaged or no ONNX net") from error

    def settings(self) -> dict[str, str]:
        """The nets by their content."""
        sums = [hashlib.sha256(path.read_bytes()).hexdigest() for path in self._files]
        return {"detector": self.name, "finder": sums[0], "reader": sums[1]}

    def find(self, frame: Pixels) -> list[Array]:
        """Boxes of all people, the largest first."""
        boxes = [np.asarray(box[:4], np.float32) for box in self._finder(_bgr(frame))]
        return sorted(boxes, key=lambda box: -float(np.prod(box[2:] - box[:2])))

    def start(self, frame: Pixels, boxes: Sequence[Array], number: int) -> tuple[Array, Array]:
        """As `people.Detector`."""
        return self.read(frame, boxes[number])

    def read(self, frame: Pixels, box: Array) -> tuple[Array, Array]:
        """As `people.Detector`; it always gives something, the scores say whether it is a person."""
        keypoints, scores = self._reader(_bgr(frame), bboxes=[box.tolist()])
        flat = np.pad(keypoints[0], ((0, 0), (0, 1)))  # its depth is not known
        return flat.astype(np.float32), scores[0].astype(np.float32)


def _bgr(frame: Pixels) -> Pixels:
    """rtmlib takes pictures as OpenCV reads them."""
    return np.ascontiguousarray(frame[..., ::-1])
