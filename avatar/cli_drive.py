"""`avatar drive`: its options."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from avatar import cli_generate
from avatar.cli_option import described
from avatar.cli_weights import lora_strength
from avatar.options import DriveOptions, WhenShort

DEFAULT = DriveOptions()
option = partial(described, DriveOptions)


def drive(
    ctx: typer.Context,
    ref: Annotated[Path, typer.Option(help="photo (png, jpeg, webp), or a video to be dubbed")],
    audio: Annotated[
        list[str] | None, typer.Option(help="speech: wav, mp3, m4a, flac, ogg or a video; 1:FILE for face 1")
    ] = None,
    pose: Annotated[list[str] | None, typer.Option(help="video or signals file: the head follows it")] = None,
    expression: Annotated[
        list[str] | None,
        typer.Option(help="video or signals file: the face follows it; or a mood: happy, sad ..."),
    ] = None,
    prompt: Annotated[
        list[str] | None,
        typer.Option(help="what face and head do, in words; for hunyuan-avatar what is to be seen"),
    ] = None,
    last: Annotated[
        Path | None, typer.Option(help="picture that the video ends with, of the size of --ref")
    ] = None,
    pose_detector: Annotated[
        Literal["mediapipe", "dwpose"], typer.Option(help="what looks for the pose in a video")
    ] = "mediapipe",
    dwpose_files: Annotated[
        Path | None, typer.Option(help="folder with DWPose's two ONNX files, if not in the cache")
    ] = None,
    out: Annotated[Path, typer.Option(help="mp4 file to write")] = Path("talk.mp4"),
    seed: Annotated[int, option("seed")] = DEFAULT.seed,
    steps: Annotated[int, option("steps")] = DEFAULT.steps,
    guidance: Annotated[float, option("guidance")] = DEFAULT.guidance,
    audio_scale: Annotated[float, option("audio_scale")] = DEFAULT.audio_scale,
    pose_scale: Annotated[float, option("pose_scale")] = DEFAULT.pose_scale,
    expression_scale: Annotated[float, option("expression_scale")] = DEFAULT.expression_scale,
    prompt_scale: Annotated[float, option("prompt_scale")] = DEFAULT.prompt_scale,
    prompt_guidance: Annotated[float, option("prompt_guidance")] = DEFAULT.prompt_guidance,
    negative_prompt: Annotated[str, option("negative_prompt")] = DEFAULT.negative_prompt,
    when_short: Annotated[WhenShort, option("when_short")] = DEFAULT.when_short,
    head_motion: Annotated[float, option("head_motion")] = DEFAULT.head_motion,
    expressiveness: Annotated[float, option("expressiveness")] = DEFAULT.expressiveness,
    fps: Annotated[str | None, option("fps")] = None,
    size: Annotated[int | None, option("size")] = DEFAULT.size,
    face: Annotated[str, option("face")] = DEFAULT.face,
    ref_time: Annotated[float | None, option("ref_time")] = None,
    seconds: Annotated[float | None, option("seconds")] = None,
    preset: Annotated[str, typer.Option(help="set of nets")] = "mini",
    device: Annotated[
        Literal["auto", "cpu", "cuda", "mps"], typer.Option(help="where the nets run")
    ] = "auto",
    whisper: Annotated[str | None, typer.Option(help="another Whisper model: a size or a file")] = None,
    adapter: Annotated[
        list[str] | None,
        typer.Option(help="run folder or file of `avatar finetune`, FILE or FILE:STRENGTH; may be repeated"),
    ] = None,
    soundtrack: Annotated[
        str | None,
        typer.Option(
            help='add what else is to be heard, under the speech: "quiet cafe"; "" asks the picture'
        ),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="folder of public weights, for --preset hunyuan-avatar")
    ] = None,
    image_size: Annotated[
        int, typer.Option(help="short side of the video in px, for hunyuan-avatar")
    ] = cli_generate.SPEAK.image_size,
    lora: Annotated[
        list[str] | None, typer.Option(help="LoRA file, FILE or FILE:STRENGTH, for hunyuan-avatar")
    ] = None,
    dtype: Annotated[
        Literal["bf16", "fp16", "fp32"], typer.Option(help="numbers of the DiT, for hunyuan-avatar")
    ] = "bf16",
    use_cpu_offload: Annotated[
        bool,
        typer.Option("--use-cpu-offload", help="only the net at work is on the device, for hunyuan-avatar"),
    ] = False,
    block_offload: cli_generate.BlockOffload = False,
    quantise: cli_generate.Quantise = None,
    step_cache: cli_generate.StepCache = None,
    force: Annotated[bool, typer.Option("--force", help="replace an existing output file")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="print nothing but errors")] = False,
) -> None:
    """Make the person in the photo speak the recording, move as another does or as words say, or all at once.

    --audio, --pose, --expression and --prompt may be given several times. A number and a colon before the
    file say whom it moves in a photo of several people: --audio 0:a.wav --audio 1:b.wav; without, it is
    --face.
    """
    if cli_generate.drive(ctx):
        return
    options = DriveOptions(
        seed=seed,
        steps=steps,
        guidance=guidance,
        audio_scale=audio_scale,
        pose_scale=pose_scale,
        expression_scale=expression_scale,
        prompt_scale=prompt_scale,
        prompt_guidance=prompt_guidance,
        negative_prompt=negative_prompt,
        when_short=when_short,
        head_motion=head_motion,
        expressiveness=expressiveness,
        size=size,
        face=face,
        ref_time=ref_time,
        seconds=seconds,
        **({} if fps is None else {"fps": fps}),
    )
    from avatar import run

    run.drive(
        ref,
        {"audio": audio or [], "pose": pose or [], "expression": expression or [], "prompt": prompt or []},
        out,
        options,
        last=last,
        pose_detector=pose_detector,
        dwpose_files=dwpose_files,
        preset=preset,
        device=device,
        whisper=whisper,
        adapters=[lora_strength(given, "--adapter") for given in adapter or ()],
        soundtrack=soundtrack,
        force=force,
        quiet=quiet,
    )
