"""`avatar drive --preset hunyuan-avatar` behind its options: check, say what is done, write the frames."""

from __future__ import annotations

from fractions import Fraction
from functools import partial
from pathlib import Path

from rich.console import Console

from avatar.generate_options import NetOptions, SpeakOptions, Wish
from avatar.media import RATE, audio_seconds, check_file, read_audio, read_image
from avatar.rewrite import rewritten
from avatar.run import bar, notes
from avatar.writer import VideoWriter, check_output


def speak(
    ref: Path,
    audio: Path,
    out: Path,
    options: SpeakOptions,
    nets: NetOptions,
    *,
    wish: Wish | None = None,
    force: bool = False,
    quiet: bool = False,
) -> None:
    """Make the person in a picture speak a recording, by the released audio model; write the mp4.

    Args:
        wish: prompt to be rewritten, in place of the options' own.

    Raises:
        UserError: anything wrong with the inputs, the weights or the output.
    """
    check_output(out, force)
    check_file(ref, "picture")
    check_file(audio, "sound")
    console = Console(stderr=True, quiet=quiet, soft_wrap=True, highlight=False, markup=False)
    with notes(console), console.status("loading"):
        from avatar.audio_video import FPS, SpeakerPipeline
        from avatar.generate import Nets

        pipeline = SpeakerPipeline(Nets.load(nets))
        seconds = audio_seconds(audio)
        if options.seconds is not None:
            seconds = min(seconds, Fraction(str(options.seconds)))
        sound = read_audio(audio)[: int(seconds * RATE)]
        prompt, how = rewritten(wish or Wish(options.prompt))
        console.print(f"prompt ({how}): {prompt}")
        speaker = pipeline.prepare(read_image(ref), sound, seconds, prompt, options)
    console.print(f"{ref} + {audio} -> {out}")
    height, width = speaker.size
    settings = {name: value for name, value in options if name != "prompt"}
    settings |= {"size": f"{width}x{height}", "frames": speaker.frames} | pipeline.nets.told
    console.print(", ".join(f"{name} {value}" for name, value in settings.items() if value is not None))
    with bar(console, "steps") as progress:
        step = partial(progress.advance, progress.add_task("", total=options.infer_steps))
        latents = pipeline.sample(speaker, options, step)
    if pipeline.nets.cache is not None:
        console.print(str(pipeline.nets.cache))
    length = Fraction(speaker.frames, FPS)
    writer = VideoWriter(
        out, size=(width, height), fps=Fraction(FPS), audio=audio, seconds=length, force=force
    )
    with writer, bar(console) as progress:
        for frame in progress.track(pipeline.frames(speaker, latents), total=speaker.frames):
            writer.write(frame)
