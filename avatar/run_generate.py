"""`avatar generate` behind its options: check, say what is done, write frame by frame with progress bars."""

from __future__ import annotations

from fractions import Fraction
from functools import partial
from pathlib import Path

from rich.console import Console

from avatar.errors import UserError
from avatar.generate_options import GenerateOptions, NetOptions, Wish
from avatar.media import check_file, read_image
from avatar.rewrite import rewritten
from avatar.run import bar, notes
from avatar.writer import VideoWriter, check_output


def generate(
    wish: Wish,
    image: Path | None,
    last: Path | None,
    save_path: Path,
    options: GenerateOptions,
    nets: NetOptions,
    *,
    pose: Path | None = None,
    force: bool,
    quiet: bool,
) -> None:
    """Write the videos.

    Args:
        image: picture of the first frame.
        last: picture of the last frame.
        pose: video or signals file of a person who is followed.
        save_path: as `output_files`.

    Raises:
        UserError: anything wrong with the inputs, the weights or the output.
    """
    outputs = output_files(save_path, options.seed, options.num_videos, force)
    for path in (image, last):
        if path is not None:
            check_file(path, "picture")
    if pose is not None:
        check_file(pose, "pose")
    console = Console(stderr=True, quiet=quiet, soft_wrap=True, highlight=False, markup=False)
    with notes(console), console.status("loading"):
        from avatar.drivers.pose import read_pose
        from avatar.generate import Nets, VideoPipeline

        pipeline = VideoPipeline(Nets.load(nets))
        first, final = (None if path is None else read_image(path) for path in (image, last))
        pipeline.check(options, first, final)
    with notes(console), console.status("encoding"):
        prompt, how = rewritten(wish)
        console.print(f"prompt ({how}): {prompt}")
        followed = None if pose is None else read_pose(pose)
        scene = pipeline.prepare(prompt, options, first, final, followed)
    height, width = scene.size
    settings = dict(options) | {"video_size": f"{height} {width}"}
    if pose is None:
        del settings["pose_scale"]
    if first is None:
        del settings["i2v_resolution"], settings["i2v_stability"]
    settings |= pipeline.nets.told
    console.print(", ".join(f"{name} {value}" for name, value in settings.items() if value is not None))
    sampling = pipeline.nets.release.sampling
    for seed, out in outputs:
        console.print(f"seed {seed} -> {out}")
        with bar(console, "steps") as progress:
            step = partial(progress.advance, progress.add_task("", total=options.infer_steps))
            latents = pipeline.sample(scene, options, seed, step)
        if pipeline.nets.cache is not None:
            console.print(str(pipeline.nets.cache))
        frames = options.video_length - sampling.dropped_frames
        writer = VideoWriter(out, size=(width, height), fps=Fraction(sampling.fps), force=force)
        with writer, bar(console) as progress:
            for frame in progress.track(pipeline.frames(latents), total=frames):
                writer.write(frame)


def output_files(path: Path, seed: int, count: int, force: bool) -> list[tuple[int, Path]]:
    """Seeds and the files that their videos go to, checked.

    Args:
        path: an mp4 file, whose name gets the seed if there are several, or a folder, made if need be.

    Raises:
        UserError: a file can not be written, or exists and `force` is off.
    """
    seeds = range(seed, seed + count)
    if path.suffix.lower() == ".mp4":
        files = [path.with_stem(f"{path.stem}-seed{s}") if count > 1 else path for s in seeds]
    else:
        if path.is_file():
            raise UserError(f"--save-path {path}: is a file, give a folder or a name that ends in .mp4")
        if not path.parent.is_dir():
            raise UserError(f"--save-path {path}: {path.parent} is no folder, make it first")
        path.mkdir(exist_ok=True)
        files = [path / f"seed{s}.mp4" for s in seeds]
    return [(s, check_output(file, force)) for s, file in zip(seeds, files, strict=True)]
