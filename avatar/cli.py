"""The command line: one function per verb. Nothing heavy is imported before a verb runs."""

from __future__ import annotations

import signal
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from avatar import cli_signals
from avatar.cli_weights import app as weights_app
from avatar.errors import UserError
from avatar.options import DriveOptions, WhenShort
from avatar.version import __version__

DEFAULT = DriveOptions()
USAGE_ERROR: Any = typer.BadParameter.__base__  # of all misspelt options and values; typer does not name it

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="One picture and a recording become a talking video.",
)
app.add_typer(weights_app, name="weights")
app.add_typer(cli_signals.app, name="signals")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"avatar-toolkit {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Keeps the verbs verbs, also while there is only one, and takes --version."""


def _option(name: str) -> Any:
    return typer.Option(help=DriveOptions.model_fields[name].description)


@app.command()
def drive(
    ref: Annotated[Path, typer.Option(help="photo (png, jpeg, webp), or a video for its first frame")],
    audio: Annotated[Path | None, typer.Option(help="speech: wav, mp3, m4a, flac, ogg or a video")] = None,
    pose: Annotated[Path | None, typer.Option(help="video or signals file: the head follows it")] = None,
    expression: Annotated[
        str | None, typer.Option(help="video or signals file: the face follows it; or a mood: happy, sad ...")
    ] = None,
    out: Annotated[Path, typer.Option(help="mp4 file to write")] = Path("talk.mp4"),
    seed: Annotated[int, _option("seed")] = DEFAULT.seed,
    steps: Annotated[int, _option("steps")] = DEFAULT.steps,
    guidance: Annotated[float, _option("guidance")] = DEFAULT.guidance,
    audio_scale: Annotated[float, _option("audio_scale")] = DEFAULT.audio_scale,
    pose_scale: Annotated[float, _option("pose_scale")] = DEFAULT.pose_scale,
    expression_scale: Annotated[float, _option("expression_scale")] = DEFAULT.expression_scale,
    when_short: Annotated[WhenShort, _option("when_short")] = DEFAULT.when_short,
    head_motion: Annotated[float, _option("head_motion")] = DEFAULT.head_motion,
    expressiveness: Annotated[float, _option("expressiveness")] = DEFAULT.expressiveness,
    fps: Annotated[str, _option("fps")] = str(DEFAULT.fps),
    size: Annotated[int | None, _option("size")] = DEFAULT.size,
    face: Annotated[str, _option("face")] = DEFAULT.face,
    seconds: Annotated[float | None, _option("seconds")] = None,
    preset: Annotated[str, typer.Option(help="set of nets")] = "mini",
    device: Annotated[
        Literal["auto", "cpu", "cuda", "mps"], typer.Option(help="where the nets run")
    ] = "auto",
    whisper: Annotated[str | None, typer.Option(help="another Whisper model: a size or a file")] = None,
    force: Annotated[bool, typer.Option("--force", help="replace an existing output file")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="print nothing but errors")] = False,
) -> None:
    """Make the person in the photo speak the recording, move as another does, or both."""
    options = DriveOptions(
        seed=seed,
        steps=steps,
        guidance=guidance,
        audio_scale=audio_scale,
        pose_scale=pose_scale,
        expression_scale=expression_scale,
        when_short=when_short,
        head_motion=head_motion,
        expressiveness=expressiveness,
        fps=fps,
        size=size,
        face=face,
        seconds=seconds,
    )
    from avatar import run

    run.drive(
        ref,
        audio,
        out,
        options,
        pose=pose,
        expression=expression,
        preset=preset,
        device=device,
        whisper=whisper,
        force=force,
        quiet=quiet,
    )


@app.command("eval")
def evaluate(
    video: Annotated[Path | None, typer.Argument(help="mp4 to judge", show_default=False)] = None,
    ref: Annotated[Path | None, typer.Option(help="photo that it was made from")] = None,
    audio: Annotated[Path | None, typer.Option(help="recording that it was made from")] = None,
    phones: Annotated[Path | None, typer.Option(help="phones of the recording with their times")] = None,
    transcript: Annotated[
        str | None, typer.Option(help="what is said, to be aligned to the recording")
    ] = None,
    truth: Annotated[Path | None, typer.Option(help="known-true video to judge beside it")] = None,
    face: Annotated[str, _option("face")] = DEFAULT.face,
    json: Annotated[Path | None, typer.Option(help="file for the figures")] = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="judge the nets: do they obey each condition?")
    ] = False,
    preset: Annotated[str, typer.Option(help="set of nets, of --probe")] = "mini",
) -> None:
    """Judge a talking video by its file and its inputs."""
    if probe:
        if find_spec("anny") is None:
            raise UserError("--probe renders people: install them by `pip install avatar-toolkit[train]`")
        from avatar.recipes import sitters

        sitters.main(preset)
        return
    if video is None or ref is None:
        raise UserError("avatar eval needs a VIDEO and --ref, the photo that it was made from")
    from avatar import evaluate

    evaluate.run(
        video, ref, audio, phones=phones, transcript=transcript, truth=truth, face=face, json_out=json
    )


@app.command()
def bench(
    ref: Annotated[Path, typer.Option(help="photo with a face")],
    audio: Annotated[Path, typer.Option(help="speech of any length")],
    json: Annotated[Path | None, typer.Option(help="file for the figures")] = None,
    pieces: Annotated[bool, typer.Option("--pieces", help="only the pieces, no whole drives")] = False,
) -> None:
    """Time the nets' pieces and whole drives, each beside what the arithmetic alone would take."""
    from avatar import bench

    bench.run(ref, audio, json, whole=not pieces)


def main() -> None:
    """Run the command line. What the user got wrong is one line and exit code 2, Ctrl-C is exit code 130."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a kill cleans up as Ctrl-C does
    try:
        code = app(sys.argv[1:] or ["--help"], prog_name="avatar", standalone_mode=False)
    except USAGE_ERROR as error:
        print(f"avatar: {error.format_message().replace('Value error, ', '')}", file=sys.stderr)
        code = 2
    except UserError as error:
        print(f"avatar: {error}", file=sys.stderr)
        code = 2
    except (typer.Abort, KeyboardInterrupt):
        code = 130
    sys.exit(code)
