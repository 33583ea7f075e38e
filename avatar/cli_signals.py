"""`avatar signals`: what drives a video, taken from a file once and kept as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

app = typer.Typer(help="Take signals from a file; the file they are written to is a driver too.")


@app.command()
def pose(
    video: Annotated[Path, typer.Argument(help="video of a person", show_default=False)],
    out: Annotated[Path, typer.Option(help="safetensors file to write")],
    preview: Annotated[
        Path | None, typer.Option(help="mp4 file that shows the skeleton on the video")
    ] = None,
    pose_detector: Annotated[Literal["mediapipe", "dwpose"], typer.Option(help="what looks")] = "mediapipe",
    dwpose_files: Annotated[
        Path | None, typer.Option(help="folder with DWPose's two ONNX files, if not in the cache")
    ] = None,
    person: Annotated[str, typer.Option(help="largest, or N counted from 0 by size")] = "largest",
    force: Annotated[bool, typer.Option("--force", help="replace existing output files")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="print nothing but errors")] = False,
) -> None:
    """The pose of one person: 134 keypoints in every frame."""
    from avatar import signals

    signals.pose(
        video,
        out,
        preview,
        detector=pose_detector,
        dwpose=dwpose_files,
        person=person,
        force=force,
        quiet=quiet,
    )


@app.command()
def expression(
    video: Annotated[Path, typer.Argument(help="video or photo of a face", show_default=False)],
    out: Annotated[Path, typer.Option(help="safetensors file to write")],
    preview: Annotated[
        Path | None, typer.Option(help="mp4 file that shows the landmarks and the strongest curves")
    ] = None,
    face: Annotated[str, typer.Option(help="largest, N or x,y,w,h")] = "largest",
    force: Annotated[bool, typer.Option("--force", help="replace existing output files")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="print nothing but errors")] = False,
) -> None:
    """The expression of one face: 52 curves in every frame."""
    from avatar import signals

    signals.expression(video, out, preview, face=face, force=force, quiet=quiet)
