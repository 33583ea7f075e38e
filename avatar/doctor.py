"""What this machine can run, and what would make it faster: `avatar doctor`."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

Verdict = Literal["ok", "slow", "missing"]

LEAST_MEMORY = 4e9  # bytes free, for `avatar drive` with the preset mini
EXTRAS = {  # package: what it is for, and how it is installed
    "rtmlib": ("pose from videos", "avatar-toolkit[pose]"),
    "torchao": ("8-bit weights", "avatar-toolkit[quant]"),
    "anny": ("training data", "avatar-toolkit[train]"),
    "dlib": ("avatar eval", "avatar-toolkit[eval]"),
    "diffusers": ("avatar bench --vs diffusers", "avatar-toolkit[dev]"),
}


@dataclass(frozen=True)
class Finding:
    """One line of the report; `advice` is empty where there is nothing to do."""

    what: str
    verdict: Verdict
    found: str
    advice: str = ""


def findings() -> list[Finding]:
    """All that is looked at, in the order it matters."""
    return [_cpu(), _threads(), _memory(), _gpu(), _attention(), _ffmpeg(), *_extras(), *_presets()]


def _cpu() -> Finding:
    import torch

    from avatar.backbone.precision import fast_dtype

    if fast_dtype("cpu") == torch.bfloat16:
        return Finding("CPU", "ok", "multiplies bfloat16: nets run in it")
    return Finding(
        "CPU", "slow", "no bfloat16 instructions: nets run in float32", "a CPU with AVX512-BF16 or AMX"
    )


def _threads() -> Finding:
    import torch

    used, there = torch.get_num_threads(), _cores()
    if used < there:
        return Finding(
            "threads", "slow", f"{used} of {there} cores", f"unset OMP_NUM_THREADS or set it to {there}"
        )
    return Finding("threads", "ok", f"{used} of {there} cores")


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_memory() -> int | None:
    """Bytes that can be used without swapping; None where it can not be told (not Linux)."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            rows = dict(line.split(":") for line in file)
    except OSError:
        return None
    return int(rows["MemAvailable"].split()[0]) * 1024


def _memory() -> Finding:
    free = free_memory()
    if free is None:
        return Finding("memory", "ok", "not known on this system")
    enough = free >= LEAST_MEMORY
    advice = "" if enough else f"close programs: preset mini wants {LEAST_MEMORY / 1e9:.0f} GB"
    return Finding("memory", "ok" if enough else "slow", f"{free / 1e9:.1f} GB free", advice)


def _gpu() -> Finding:
    import torch

    if not torch.cuda.is_available():
        if torch.backends.mps.is_available():
            return Finding("GPU", "ok", "Apple's, by --device mps")
        return Finding("GPU", "slow", "none: nets run on the CPU", "any CUDA device for the 13 B presets")
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return Finding(
        "GPU", "ok", f"{', '.join(names)}, {torch.cuda.mem_get_info()[0] / 1e9:.0f} GB free on the first"
    )


def _attention() -> Finding:
    import torch

    from avatar.backbone.attention import kernel
    from avatar.backbone.precision import fast_dtype

    device = "cuda" if torch.cuda.is_available() else "cpu"
    probe = torch.empty(1, 4096, 1, 128, dtype=fast_dtype(device), device=device)
    chosen = kernel(probe, probe)
    if device == "cuda" and chosen == "sdpa":
        return Finding("attention", "slow", "PyTorch's", "pip install flash-attn")
    names = {"rows": "by rows, for bfloat16 on this CPU", "sdpa": "PyTorch's", "flash-attn": "flash-attn"}
    return Finding("attention", "ok", names[chosen])


def _ffmpeg() -> Finding:
    from avatar.errors import UserError
    from avatar.ffmpeg import command

    try:
        return Finding("ffmpeg", "ok", command()[0])
    except UserError as error:
        return Finding("ffmpeg", "missing", str(error), "pip install imageio-ffmpeg")


def _extras() -> list[Finding]:
    return [
        Finding(package, "ok", f"there, for {purpose}")
        if find_spec(package)
        else Finding(package, "missing", f"not installed, for {purpose}", f"pip install {extra}")
        for package, (purpose, extra) in EXTRAS.items()
    ]


def _presets() -> list[Finding]:
    """Whether the nets fit into memory, and their files on the disk."""
    free, disk = free_memory(), shutil.disk_usage(".").free
    mini = Finding("preset mini", "ok", "runs here")
    need = 26e9
    if free is None or free >= need:
        return [mini, Finding("preset hunyuan", "ok", "the DiT fits into memory")]
    found = f"its 26 GB do not fit into {free / 1e9:.0f} GB: blocks are read from the file at every step"
    if disk < need:
        return [mini, Finding("preset hunyuan", "missing", found, "26 GB of disk for the weights")]
    return [mini, Finding("preset hunyuan", "slow", found, "more memory, or `avatar plan` for a rented GPU")]


def run() -> None:
    """The command: print what was found."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("what", "", "found", "what would help")
    for finding in findings():
        cells = (finding.what, finding.verdict, finding.found, finding.advice)
        table.add_row(*map(escape, cells))
    Console().print(table)
