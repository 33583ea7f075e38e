"""`avatar generate`: videos from text and pictures by the public nets. Nothing heavy is imported early."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from avatar.cli_option import described
from avatar.cli_weights import lora_strength
from avatar.errors import UserError
from avatar.generate_options import NO_POSE, GenerateOptions, NetOptions, Resolution, SpeakOptions, Wish

DEFAULT, SPEAK = GenerateOptions(), SpeakOptions()
_option = partial(described, GenerateOptions)
SPEAKER = "hunyuan-avatar"
# What has no meaning where the recording says how long the video is and the picture what size it has.
NOT_OF_SPEECH = (
    "last",
    "pose",
    "pose_adapter",
    "pose_scale",
    "video_size",
    "video_length",
    "embedded_cfg_scale",
    "guidance_rescale",
    "flow_reverse",
    "i2v_resolution",
    "i2v_stability",
    "num_videos",
)


# Options of `avatar drive` that the audio release has too, by their names in `SpeakOptions`.
OF_DRIVE = {
    "steps": "infer_steps",
    "guidance": "cfg_scale",
    **{
        name: name
        for name in ("seed", "head_motion", "expressiveness", "face", "seconds", "prompt", "image_size")
    },
}
NETS_OF_DRIVE = (
    "weights",
    "lora",
    "dtype",
    "use_cpu_offload",
    "quantise",
    "block_offload",
    "step_cache",
    "image_size",
)

Quantise = Annotated[
    Literal["int8", "fp8"] | None,
    typer.Option("--quantise", "--quantize", help="weights of the DiT's blocks in 8 bits, by torchao"),
]
BlockOffload = Annotated[
    bool, typer.Option("--block-offload", help="the DiT's blocks stay in their file, each read when it runs")
]
StepCache = Annotated[
    float | None,
    typer.Option(help="skip blocks in steps whose first block changes less than this share, such as 0.1"),
]


def given(ctx: typer.Context) -> set[str]:
    """Names of the options that the user wrote, not those that have their default."""
    sources = ((name, ctx.get_parameter_source(name)) for name in ctx.params)
    return {name for name, source in sources if source is not None and source.name == "COMMANDLINE"}


def generate(
    ctx: typer.Context,
    prompt: Annotated[str, typer.Option(help="what is to be seen", show_default=False)],
    weights: Annotated[Path, typer.Option("--weights", "--model-base", help="folder of the public weights")],
    preset: Annotated[
        str, typer.Option(help="which release: hunyuan, hunyuan-i2v, hunyuan-i2v-concat, hunyuan-avatar")
    ] = "hunyuan",
    image: Annotated[
        Path | None, typer.Option("--image", "--i2v-image-path", help="picture that is the first frame")
    ] = None,
    last: Annotated[Path | None, typer.Option(help="picture that is the last frame")] = None,
    pose: Annotated[
        Path | None,
        typer.Option(help="video or signals file of a person to be followed, with --pose-adapter"),
    ] = None,
    pose_adapter: Annotated[
        Path | None, typer.Option(help="safetensors file of a pose adapter that was trained for the net")
    ] = None,
    pose_scale: Annotated[float, _option("pose_scale")] = DEFAULT.pose_scale,
    audio: Annotated[
        Path | None, typer.Option(help="speech of the person in the picture, for --preset hunyuan-avatar")
    ] = None,
    image_size: Annotated[int, typer.Option(help="short side of a video with speech, px")] = SPEAK.image_size,
    save_path: Annotated[
        Path, typer.Option("--save-path", "--out", help="mp4 file, or folder for files named by their seeds")
    ] = Path("results"),
    video_size: Annotated[tuple[int, int] | None, _option("video_size")] = None,
    video_length: Annotated[int, _option("video_length")] = DEFAULT.video_length,
    infer_steps: Annotated[int, _option("infer_steps", "--infer-steps", "--steps")] = DEFAULT.infer_steps,
    embedded_cfg_scale: Annotated[float | None, _option("embedded_cfg_scale")] = None,
    cfg_scale: Annotated[float, _option("cfg_scale")] = DEFAULT.cfg_scale,
    neg_prompt: Annotated[str | None, _option("neg_prompt")] = None,
    guidance_rescale: Annotated[float, _option("guidance_rescale")] = DEFAULT.guidance_rescale,
    flow_shift: Annotated[float | None, _option("flow_shift")] = None,
    flow_reverse: Annotated[
        bool, _option("flow_reverse", "--flow-reverse/--no-flow-reverse")
    ] = DEFAULT.flow_reverse,
    i2v_resolution: Annotated[Resolution, _option("i2v_resolution")] = DEFAULT.i2v_resolution,
    i2v_stability: Annotated[
        bool, _option("i2v_stability", "--i2v-stability/--no-i2v-stability")
    ] = DEFAULT.i2v_stability,
    num_videos: Annotated[int, _option("num_videos")] = DEFAULT.num_videos,
    seed: Annotated[int, _option("seed")] = DEFAULT.seed,
    rewrite: Annotated[
        str | None,
        typer.Option(
            help="rewrite the prompt: none, rules, url, or the folder of a chat model  [default: none]"
        ),
    ] = None,
    rewrite_url: Annotated[
        str | None, typer.Option(help="OpenAI-compatible address, such as http://localhost:8000/v1")
    ] = None,
    rewrite_model: Annotated[str, typer.Option(help="name of the model at that address")] = "default",
    lora: Annotated[
        list[str] | None, typer.Option(help="LoRA file, FILE or FILE:STRENGTH; may be repeated")
    ] = None,
    dit_weight: Annotated[Path | None, typer.Option(help="another file or folder of the DiT")] = None,
    use_fp8: Annotated[bool, typer.Option("--use-fp8", help="read the DiT's 8-bit file")] = False,
    dtype: Annotated[
        Literal["bf16", "fp16", "fp32"], typer.Option("--dtype", "--precision", help="numbers of the DiT")
    ] = "bf16",
    use_cpu_offload: Annotated[
        bool, typer.Option("--use-cpu-offload", help="only the net at work is on the device")
    ] = False,
    block_offload: BlockOffload = False,
    quantise: Quantise = None,
    step_cache: StepCache = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda", "mps"], typer.Option(help="where the nets run")
    ] = "auto",
    force: Annotated[bool, typer.Option("--force", help="replace existing output files")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="print nothing but errors")] = False,
) -> None:
    """Make videos from a prompt, or from a prompt and pictures, by the public HunyuanVideo weights."""
    if not prompt.strip():
        raise UserError("--prompt: is empty, say what is to be seen")
    if pose is not None and pose_adapter is None and preset != SPEAKER:
        raise UserError(NO_POSE)
    if pose is None and given(ctx) & {"pose_adapter", "pose_scale"}:
        raise UserError("--pose-adapter, --pose-scale: have no effect without --pose")
    nets = NetOptions(
        weights=weights,
        preset=preset,
        device=device,
        dtype=dtype,
        offload=use_cpu_offload,
        loras=tuple(lora_strength(written) for written in lora or ()),
        dit_weight=dit_weight,
        fp8=use_fp8,
        quantise=quantise,
        block_offload=block_offload,
        step_cache=step_cache,
        pose_adapter=pose_adapter,
    )
    wish = Wish(prompt, rewrite, rewrite_url, rewrite_model)
    if audio is not None or preset == SPEAKER:
        ref, sound = _speech(preset, image, audio, given(ctx))
        asked = {name: ctx.params[name] for name in given(ctx) & SpeakOptions.model_fields.keys()}
        from avatar.run_audio_video import speak
        from avatar.run_generate import output_files

        ((_, out),) = output_files(save_path, seed, 1, force)
        speak(ref, sound, out, SpeakOptions(**asked), nets, wish=wish, force=force, quiet=quiet)
        return
    if "image_size" in given(ctx):
        raise UserError("--image-size: is for videos with speech, use --video-size or --i2v-resolution")
    options = GenerateOptions(
        video_size=video_size,
        video_length=video_length,
        infer_steps=infer_steps,
        embedded_cfg_scale=embedded_cfg_scale,
        cfg_scale=cfg_scale,
        neg_prompt=neg_prompt,
        guidance_rescale=guidance_rescale,
        flow_shift=flow_shift,
        flow_reverse=flow_reverse,
        pose_scale=pose_scale,
        i2v_resolution=i2v_resolution,
        i2v_stability=i2v_stability,
        num_videos=num_videos,
        seed=seed,
    )
    from avatar import run_generate

    run_generate.generate(wish, image, last, save_path, options, nets, pose=pose, force=force, quiet=quiet)


def _speech(preset: str, image: Path | None, audio: Path | None, written: set[str]) -> tuple[Path, Path]:
    """The picture and the recording, or a refusal of what a video with speech can not be made of."""
    if preset != SPEAKER:
        raise UserError(f"--audio: only --preset {SPEAKER} hears, not {preset}")
    if image is None or audio is None:
        raise UserError(f"--preset {SPEAKER}: needs --image, the speaker, and --audio, the speech")
    useless = [name for name in NOT_OF_SPEECH if name in written]
    if useless:
        raise UserError(f"{_flags(useless)}: means nothing with --audio, leave it out")
    return image, audio


def drive(ctx: typer.Context) -> bool:
    """Do what `avatar drive` was asked, if it was asked of the audio release.

    Returns:
        Whether it was.

    Raises:
        UserError: as `avatar.run_audio_video.speak`, or options that mean nothing to the preset.
    """
    asked, written = dict(ctx.params), given(ctx)
    if asked["preset"] != SPEAKER:
        useless = [name for name in NETS_OF_DRIVE if name in written]
        if useless:
            raise UserError(f"{_flags(useless)}: only of --preset {SPEAKER}, leave it out")
        return False
    known = {"ref", "audio", "out", "preset", "device", "force", "quiet", *OF_DRIVE, *NETS_OF_DRIVE}
    if useless := sorted(written - known):
        raise UserError(f"{_flags(useless)}: means nothing to --preset {SPEAKER}, leave it out")
    for name in ("audio", "weights"):
        if not asked[name]:
            raise UserError(f"--preset {SPEAKER}: needs --{name}")
    for name in ("audio", "prompt"):
        if len(asked[name] or ()) > 1:
            raise UserError(f"--{name}: --preset {SPEAKER} moves one face, give it once")
    asked = asked | {"prompt": (asked["prompt"] or [""])[0]}
    nets = NetOptions(
        weights=asked["weights"],
        preset=SPEAKER,
        device=asked["device"],
        dtype=asked["dtype"],
        offload=asked["use_cpu_offload"],
        loras=tuple(lora_strength(each) for each in asked["lora"] or ()),
        quantise=asked["quantise"],
        block_offload=asked["block_offload"],
        step_cache=asked["step_cache"],
    )
    try:
        options = SpeakOptions(**{OF_DRIVE[name]: asked[name] for name in written & OF_DRIVE.keys()})
    except UserError as error:  # by the option's name there
        raise UserError(
            str(error).replace("--infer-steps", "--steps").replace("--cfg-scale", "--guidance")
        ) from error
    from avatar.run_audio_video import speak

    quiet, force = asked["quiet"], asked["force"]
    speak(asked["ref"], Path(asked["audio"][0]), asked["out"], options, nets, force=force, quiet=quiet)
    return True


def _flags(names: Iterable[str]) -> str:
    return ", ".join(f"--{name.replace('_', '-')}" for name in names)
