"""The command line: one function per verb. Nothing heavy is imported before a verb runs."""

from __future__ import annotations

import signal
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from avatar import cli_drive, cli_generate, cli_machine, cli_prepare, cli_recipes, cli_signals, cli_soundtrack
from avatar.cli_drive import DEFAULT, option
from avatar.cli_weights import app as weights_app
from avatar.errors import UserError
from avatar.version import __version__

USAGE_ERROR: Any = typer.BadParameter.__base__  # of all misspelt options and values; typer does not name it

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="One picture and a recording become a talking video.",
)
app.command()(cli_generate.generate)
app.add_typer(weights_app, name="weights")
app.add_typer(cli_signals.app, name="signals")
app.add_typer(cli_recipes.app, name="recipes")
app.command()(cli_recipes.finetune)
for verb in (cli_machine.bench, cli_machine.plan, cli_machine.doctor):
    app.command()(verb)


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


app.command()(cli_drive.drive)
app.command()(cli_soundtrack.soundtrack)
app.command()(cli_prepare.prepare)


@app.command("eval")
def evaluate(
    video: Annotated[Path | None, typer.Argument(help="mp4 to judge", show_default=False)] = None,
    ref: Annotated[Path | None, typer.Option(help="photo that it was made from")] = None,
    audio: Annotated[Path | None, typer.Option(help="recording that it was made from")] = None,
    pose: Annotated[Path | None, typer.Option(help="video or signals file that the head followed")] = None,
    expression: Annotated[
        str | None, typer.Option(help="video, signals file or mood that the face followed")
    ] = None,
    phones: Annotated[Path | None, typer.Option(help="phones of the recording with their times")] = None,
    transcript: Annotated[
        str | None, typer.Option(help="what is said, to be aligned to the recording")
    ] = None,
    truth: Annotated[
        Path | None,
        typer.Option(help="known-true video beside it; frame by frame if it begins with the photo"),
    ] = None,
    face: Annotated[str, option("face")] = DEFAULT.face,
    json: Annotated[Path | None, typer.Option(help="file for the figures")] = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="judge the nets: do they obey each condition?")
    ] = False,
    preset: Annotated[str, typer.Option(help="set of nets, of --probe")] = "mini",
) -> None:
    """Judge a video by its file and its inputs."""
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
        video,
        ref,
        audio,
        pose=pose,
        expression=expression,
        phones=phones,
        transcript=transcript,
        truth=truth,
        face=face,
        json_out=json,
    )


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
