"""Speech and a picture to video by the audio release, at a reduced width."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import tone, write_wav
from numpy.typing import NDArray
from torch import Tensor
from typer.testing import CliRunner

from avatar.audio_video import Speaker, SpeakerPipeline, face_mask, speaker_size
from avatar.cli import app
from avatar.errors import UserError
from avatar.generate import Nets
from avatar.generate_options import NetOptions, SpeakOptions
from avatar.media import video_info

Checkpoints = Callable[[str], Path]
WINDOW = 9  # frames, in place of 129: three latent frames


@pytest.fixture
def pipeline(checkpoints: Checkpoints, own_cache: Path) -> SpeakerPipeline:
    """Of the tiny release, with short windows."""
    nets = Nets.load(
        NetOptions(weights=checkpoints("hunyuan-avatar"), preset="hunyuan-avatar", dtype="fp32", device="cpu")
    )
    nets.release = replace(nets.release, sampling=replace(nets.release.sampling, frames=WINDOW))
    return SpeakerPipeline(nets)


OPTIONS: dict[str, Any] = {"image_size": 64, "infer_steps": 3}


def prepared(pipeline: SpeakerPipeline, picture: NDArray[np.uint8], frames: int, **changes: Any) -> Speaker:
    sound = tone(frames / 25, 16_000).astype(np.float32)
    options = SpeakOptions(**OPTIONS | changes)
    return pipeline.prepare(picture, sound, Fraction(frames, 25), options.prompt, options)


def error(found: Tensor, expected: Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize(("frames", "latents"), [(5, 3), (9, 3), (21, 9)])
def test_a_video_is_as_long_as_its_sound(
    pipeline: SpeakerPipeline, astronaut: NDArray[np.uint8], frames: int, latents: int
) -> None:
    """21 frames and 5 silent ones fill three windows of 8 and begin a fourth: 4 * 2 + 1 latents."""
    speaker = prepared(pipeline, astronaut, frames)
    assert speaker.reference.shape == (1, 16, 3, 8, 8)
    sampled = pipeline.sample(speaker, SpeakOptions(**OPTIONS))
    assert sampled.shape == (1, 16, latents, 8, 8)
    shown = list(pipeline.frames(speaker, sampled))
    assert len(shown) == frames and shown[0].shape == (64, 64, 3)


def test_everything_is_heard(pipeline: SpeakerPipeline, astronaut: NDArray[np.uint8]) -> None:
    speaker = prepared(pipeline, astronaut, WINDOW)

    def latents(speaker: Speaker = speaker, **changes: Any) -> Tensor:
        return pipeline.sample(speaker, SpeakOptions(**OPTIONS | changes))

    plain = latents()
    assert torch.equal(plain, latents())
    assert torch.equal(plain, latents(prepared(pipeline, astronaut, WINDOW)))
    for name in ("head_motion", "expressiveness"):
        assert error(latents(**{name: 0.0}), plain) > 1e-4, name
    assert error(latents(seed=1), plain) > 1e-2
    assert error(latents(cfg_scale=3.0), plain) > 1e-4
    assert error(latents(flow_shift=2.0), plain) > 1e-3
    silent = replace(speaker, speech=type(speaker.speech)(torch.zeros(18, 5, 64), WINDOW))
    deaf = replace(speaker, face=torch.zeros_like(speaker.face))
    unseen = replace(speaker, reference=torch.zeros_like(speaker.reference))
    for changed in (
        silent,
        deaf,
        unseen,
        replace(speaker, negative=speaker.text),
        replace(speaker, negative=None),
    ):
        assert error(latents(changed), plain) > 1e-6
    said = prepared(pipeline, astronaut, WINDOW, prompt="A sad person sings.")
    assert error(latents(said), plain) > 1e-5


def test_one_step_is_the_plain_formula(pipeline: SpeakerPipeline, astronaut: NDArray[np.uint8]) -> None:
    """Step 0: both branches at time 1000, the mask by 0.6, scale 7.5 (reference, section 5.6)."""
    speaker, options = prepared(pipeline, astronaut, WINDOW), SpeakOptions(**OPTIONS | {"infer_steps": 1})
    assert speaker.negative is not None
    sampled = pipeline.sample(speaker, options)
    from avatar.backbone import flow

    start = flow.noise((1, 16, 3, 8, 8), 0)
    with pipeline.nets.dit() as net, torch.no_grad():

        def branch(encoded: Any, speech: Tensor) -> Tensor:
            return net.animate(  # type: ignore[attr-defined]
                start,
                torch.tensor([1000.0]),
                reference=speaker.reference,
                speech=speech,
                face=0.6 * speaker.face,
                expression=torch.full((1, 4), 30.0),
                pose=torch.full((1, 4), 25.0),
                fps=torch.tensor([25.0]),
                text=encoded.states,
                text_mask=encoded.mask,
                pooled=encoded.pooled,
            )

        speech = speaker.speech.around(torch.arange(WINDOW))[None]
        heard, silent = branch(speaker.text, speech), branch(speaker.negative, torch.zeros_like(speech))
    assert error(sampled, start - (silent + 7.5 * (heard - silent))) < 1e-5


@pytest.mark.parametrize(
    ("picture", "short", "size"),
    [
        ((1000, 1000), 704, (704, 704)),
        ((1080, 1920), 704, (704, 1216)),  # 704 x 1280 would be too much: rescaled to the area
        ((1920, 1080), 512, (832, 448)),
        ((512, 512), 64, (64, 64)),
    ],
)
def test_size_by_the_picture(picture: tuple[int, int], short: int, size: tuple[int, int]) -> None:
    found = speaker_size(picture, short)
    assert found == size
    assert found[0] % 64 == found[1] % 64 == 0


def test_speech_acts_in_three_boxes_around_the_face() -> None:
    mask = face_mask((40, 20, 10, 10), (100, 200), (200, 400), (20, 40))
    assert mask.shape == (1, 1, 1, 20, 40)
    # The box's middle is (45, 25) px of the picture: 30 px around it are 30..60 and 10..40, times 2, by 10.
    rows, columns = mask[0, 0, 0].nonzero().unbind(1)
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (6, 11, 2, 7)
    assert mask.max() == 1
    assert face_mask((0, 0, 100, 100), (100, 100), (64, 64), (8, 8)).min() == 1


def test_no_face_is_refused(pipeline: SpeakerPipeline) -> None:
    with pytest.raises(UserError, match="face"):
        prepared(pipeline, np.full((256, 256, 3), 127, np.uint8), WINDOW)


def run(checkpoints: Checkpoints, *more: object) -> Any:
    words = ["generate", "--preset", "hunyuan-avatar", "--weights", checkpoints("hunyuan-avatar"), *more]
    result = CliRunner().invoke(app, [str(word) for word in words])
    if isinstance(result.exception, Exception):
        raise result.exception
    return result


@pytest.mark.slow
def test_command_line_to_mp4(
    checkpoints: Checkpoints, own_cache: Path, portrait: Path, tmp_path: Path
) -> None:
    """The real window of 129 frames, of which the sound fills 10."""
    sound, out = write_wav(tmp_path / "tone.wav", tone(0.4, 16_000), 16_000), tmp_path / "talk.mp4"
    words = ["--prompt", "A man speaks.", "--image", portrait, "--audio", sound, "--save-path", out]
    told = run(checkpoints, *words, "--image-size", 64, "--infer-steps", 1, "--dtype", "fp32")
    info = video_info(out)
    assert (info.width, info.height, info.frames, info.fps, info.has_audio) == (64, 64, 10, 25, True)
    assert "prompt (as given): A man speaks." in told.stderr and "preset hunyuan-avatar" in told.stderr


def test_options_without_meaning_are_refused(
    checkpoints: Checkpoints, portrait: Path, tmp_path: Path
) -> None:
    words = ["--prompt", "A man speaks.", "--image", portrait, "--audio", portrait]
    words += ["--save-path", tmp_path / "talk.mp4"]
    with pytest.raises(UserError, match="--video-length, --num-videos: means nothing with --audio"):
        run(checkpoints, *words, "--num-videos", 2, "--video-length", 129)
    with pytest.raises(UserError, match="--image-size 10: must be"):
        run(checkpoints, *words, "--image-size", 10)


def test_drive_knows_the_release(checkpoints: Checkpoints, portrait: Path, tmp_path: Path) -> None:
    def drive(*words: object) -> None:
        result = CliRunner().invoke(app, ["drive", "--ref", str(portrait), *map(str, words)])
        assert isinstance(result.exception, Exception), result.output
        raise result.exception

    hears = ("--preset", "hunyuan-avatar", "--audio", portrait, "--out", tmp_path / "talk.mp4")
    weights = ("--weights", checkpoints("hunyuan-avatar"))
    with pytest.raises(UserError, match="--preset hunyuan-avatar: needs --weights"):
        drive(*hears)
    with pytest.raises(UserError, match="--fps, --pose: means nothing to --preset hunyuan-avatar"):
        drive(*hears, *weights, "--pose", portrait, "--fps", 30)
    with pytest.raises(UserError, match="--weights: only of --preset hunyuan-avatar"):
        drive(*weights)
    with pytest.raises(UserError, match="--guidance 200"):
        drive(*hears, *weights, "--guidance", 200)
    with pytest.raises(UserError, match=r"ckpts is not complete|no such folder"):
        drive(*hears, "--weights", tmp_path / "ckpts")
    with pytest.raises(UserError, match=r"astronaut\.png: the sound is damaged"):
        drive(*hears, *weights)
