"""`avatar generate`: videos from text and pictures by the public nets. Nothing heavy is imported early."""

from __future__ import annotations

from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from avatar.cli_weights import lora_strength
from avatar.errors import UserError
from avatar.generate_options import GenerateOptions, Resolution

DEFAULT = GenerateOptions()


def _option(name: str, *names: str) -> Any:
    flags = names or (f"--{name.replace('_', '-')}",)
    return typer.Option(*flags, help=GenerateOptions.model_fields[name].description, show_default=True)


def generate(
    prompt: Annotated[str, typer.Option(help="what is to be seen", show_default=False)],
    weights: Annotated[Path, typer.Option("--weights", "--model-base", help="folder of the public weights")],
    preset: Annotated[
        str, typer.Option(help="which release: hunyuan, hunyuan-i2v or hunyuan-i2v-concat")
    ] = "hunyuan",
    image: Annotated[
        Path | None, typer.Option("--image", "--i2v-image-path", help="picture that is the first frame")
    ] = None,
    last: Annotated[Path | None, typer.Option(help="picture that is the last frame")] = None,
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
    device: Annotated[
        Literal["auto", "cpu", "cuda", "mps"], typer.Option(help="where the nets run")
    ] = "auto",
    force: Annotated[bool, typer.Option("--force", help="replace existing output files")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="print nothing but errors")] = False,
) -> None:
    """Make videos from a prompt, or from a prompt and pictures, by the public HunyuanVideo weights."""
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
        i2v_resolution=i2v_resolution,
        i2v_stability=i2v_stability,
        num_videos=num_videos,
        seed=seed,
    )
    if not prompt.strip():
        raise UserError("--prompt: is empty, say what is to be seen")
    loras = [lora_strength(given) for given in lora or ()]
    from rich.console import Console

    from avatar.media import check_file, read_image
    from avatar.run import bar, notes
    from avatar.writer import VideoWriter

    outputs = _outputs(save_path, options, force)
    for picture in (image, last):
        if picture is not None:
            check_file(picture, "picture")
    console = Console(stderr=True, quiet=quiet, soft_wrap=True, highlight=False, markup=False)
    with notes(console), console.status("loading"):
        from avatar.generate import Nets, VideoPipeline

        nets = Nets.from_folder(
            weights,
            preset,
            device=device,
            dtype=dtype,
            offload=use_cpu_offload,
            loras=loras,
            dit_weight=dit_weight,
            fp8=use_fp8,
        )
        pipeline = VideoPipeline(nets)
        pictures = [None if path is None else read_image(path) for path in (image, last)]
        pipeline.check(options, *pictures)
    wish, how = _rewritten(prompt, rewrite, rewrite_url, rewrite_model)
    console.print(f"prompt ({how}): {wish}")
    with notes(console), console.status("encoding"):
        scene = pipeline.prepare(wish, options, *pictures)
    given = dict(options) | {"video_size": "{}x{}".format(*reversed(scene.size))}
    if scene.first is None:
        del given["i2v_resolution"], given["i2v_stability"]
    console.print(", ".join(f"{name} {value}" for name, value in given.items() if value is not None))
    console.print(", ".join(f"{name} {value}" for name, value in nets.told.items()))
    sampling = nets.release.sampling
    for number, out in outputs:
        console.print(f"seed {number} -> {out}")
        with notes(console), bar(console, "steps") as progress:
            step = partial(progress.advance, progress.add_task("", total=options.infer_steps))
            latents = pipeline.sample(scene, options, number, step)
        frames = options.video_length - sampling.dropped_frames
        size = (scene.size[1], scene.size[0])
        writer = VideoWriter(out, size=size, fps=Fraction(sampling.fps), force=force)
        with writer, bar(console) as progress:
            for frame in progress.track(pipeline.frames(latents), total=frames):
                writer.write(frame)


def _outputs(path: Path, options: GenerateOptions, force: bool) -> list[tuple[int, Path]]:
    """Seeds and the files that they go to. A folder that is not there is made."""
    from avatar.writer import check_output

    seeds = range(options.seed, options.seed + options.num_videos)
    if path.suffix.lower() == ".mp4":
        several = len(seeds) > 1
        files = [path.with_stem(f"{path.stem}-seed{seed}") if several else path for seed in seeds]
    else:
        if path.is_file():
            raise UserError(f"--save-path {path}: is a file, give a folder or a name that ends in .mp4")
        if not path.parent.is_dir():
            raise UserError(f"--save-path {path}: {path.parent} is no folder, make it first")
        path.mkdir(exist_ok=True)
        files = [path / f"seed{seed}.mp4" for seed in seeds]
    return [(seed, check_output(file, force)) for seed, file in zip(seeds, files, strict=True)]


def _rewritten(prompt: str, how: str | None, url: str | None, model: str) -> tuple[str, str]:
    """The prompt to be used, and what was done to it."""
    from avatar import rewrite

    how = how or ("url" if url else "none")
    if url is not None and how != "url":
        raise UserError(f"--rewrite-url: is only used with --rewrite url, not with --rewrite {how}")
    if how == "none":
        return prompt.strip(), "as given"
    if how == "rules":
        return rewrite.by_rules(prompt), "rewritten by rules, not translated"
    if how == "url":
        if url is None:
            raise UserError("--rewrite url: needs --rewrite-url, the address of a language model")
        return rewrite.by_address(prompt, url, model), f"rewritten by {model} at {url}"
    return rewrite.by_model(prompt, Path(how)), f"rewritten by {how}"
