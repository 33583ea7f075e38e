"""`avatar bench`, `plan` and `doctor`: what a machine can do. Nothing heavy is imported before they run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from avatar.errors import UserError

Json = Annotated[Path | None, typer.Option(help="file for the figures")]


def bench(
    ref: Annotated[Path | None, typer.Option(help="photo with a face")] = None,
    audio: Annotated[Path | None, typer.Option(help="speech of any length")] = None,
    json: Json = None,
    pieces: Annotated[bool, typer.Option("--pieces", help="only the pieces, no whole drives")] = False,
    vs: Annotated[
        Literal["diffusers"] | None, typer.Option(help="compare the public nets with another library's")
    ] = None,
    offload: Annotated[
        bool, typer.Option("--offload", help="step a net larger than its memory limit (Linux, as root)")
    ] = False,
    cache: Annotated[
        float | None, typer.Option(help="skip blocks in steps that change less than this share, and compare")
    ] = None,
    case: Annotated[list[str] | None, typer.Option(help="with --vs: only this case; may be repeated")] = None,
    runs: Annotated[int, typer.Option(min=1, help="repetitions")] = 5,
    memory: Annotated[bool, typer.Option(help="with --vs: measure memory too")] = True,
) -> None:
    """Time the nets' pieces and whole drives, each beside what the arithmetic alone would take."""
    if vs:
        from avatar import bench_diffusers

        bench_diffusers.run(case or (), json, runs, memory)
        return
    if offload:
        from avatar import bench_offload

        bench_offload.run(json)
        return
    if case:
        raise UserError("--case goes with --vs diffusers")
    if ref is None or audio is None:
        raise UserError("avatar bench needs --ref and --audio, or --vs diffusers, or --offload")
    if cache is not None:
        from avatar import bench_cache

        bench_cache.run(ref, audio, cache, json)
        return
    from avatar import bench

    bench.run(ref, audio, json, whole=not pieces, runs=runs)


def plan(
    preset: Annotated[str, typer.Option(help="public preset")] = "hunyuan",
    size: Annotated[str, typer.Option(help="height x width in pixels")] = "720x1280",
    frames: Annotated[int, typer.Option(help="4n + 1")] = 129,
    gpu: Annotated[str, typer.Option(help="kind of device")] = "h100",
    gpus: Annotated[int, typer.Option(min=1, help="how many of them")] = 1,
    steps: Annotated[int | None, typer.Option(help="of the sampler; the preset's own by default")] = None,
    weights: Annotated[Literal["bf16", "fp8", "int8"], typer.Option(help="how weights are kept")] = "bf16",
    json: Json = None,
) -> None:
    """Say what a video would take before it is made: operations, memory by part, time and cost."""
    from avatar import plan

    plan.run(preset, size, frames, gpu, gpus, steps=steps, weights=weights, json_out=json)


def doctor() -> None:
    """Say what this machine can run, and what would make it faster."""
    from avatar import doctor

    doctor.run()
