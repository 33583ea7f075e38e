"""A DiT larger than memory, stepped under a limit and without: `avatar bench --offload`.

A file of 4 GB of random bfloat16 weights is stepped once in each of two processes. The first has it in the
system's cache. The second begins with none of it there and is in a memory cgroup of 1.5 GB, pages of the file
counted, so that it reads all from the disk, as every later step would. The tokens are few for a video: more
of them would take more time for the same reading.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from avatar import weights
from avatar.backbone import checkpoint
from avatar.backbone.dit import DiT
from avatar.backbone.offload import Offload
from avatar.errors import UserError
from avatar.releases import TEXT

LIMIT = 1_500_000_000
CONFIG = replace(TEXT.dit, hidden=2048, heads=16, double_blocks=5, single_blocks=20)  # 4.1 GB in bfloat16
LATENTS = (4, 64, 64)  # 4096 video tokens
NOISE = 2**22  # random numbers that the weights repeat
GROUPS = (  # (folder of memory cgroups, file of the limit), versions 1 and 2
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
    (Path("/sys/fs/cgroup"), "memory.max"),
)


@contextmanager
def memory_group(limit: int) -> Iterator[Path]:
    """A new cgroup whose processes have `limit` bytes, mapped files counted; gone afterwards.

    Raises:
        UserError: none can be made here.
    """
    for root, name in GROUPS:
        group = root / f"avatar-bench-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            if (group / name).exists():
                (group / name).write_text(str(limit))
                yield group
                return
        finally:
            group.rmdir()
    raise UserError("a memory limit needs a writable memory cgroup: run as root on Linux")


def write(path: Path) -> None:
    """Random weights of `CONFIG` in bfloat16, with its config in the header."""
    torch.manual_seed(0)
    with torch.device("meta"):
        net = DiT(CONFIG).to(torch.bfloat16)
    net.to_empty(device="cpu")
    noise = 0.02 * torch.randn(NOISE)
    for parameter in net.parameters():
        flat = parameter.detach().view(-1)
        flat.copy_(noise.repeat(-(-len(flat) // NOISE))[: len(flat)])
    checkpoint.save(net, path, dtype=None)


def step(path: Path) -> float:
    """Seconds of one evaluation of the net in a file, offloaded."""
    net = weights.load(path).module().requires_grad_(False)
    assert isinstance(net, DiT)
    Offload(net)
    x = torch.randn(1, CONFIG.in_channels, *LATENTS).to(torch.bfloat16)
    text = torch.randn(1, 16, CONFIG.text_dim).to(torch.bfloat16)
    pooled = torch.randn(1, CONFIG.pooled_dim).to(torch.bfloat16)
    with torch.inference_mode():
        began = time.perf_counter()
        net(x, torch.tensor([500.0]), text=text, pooled=pooled, guidance=torch.tensor([6.0]))
        return time.perf_counter() - began


def _forget(path: Path) -> None:
    """Drop a file from the system's cache, so that whoever reads it next is charged for its pages."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def _apart(path: Path, group: Path | None) -> float:
    command = [sys.executable, "-m", "avatar.bench_offload", str(path), *([str(group)] if group else [])]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"ended with {done.returncode}"]
        raise UserError(f"offloaded step: {lines[-1]}")
    return float(done.stdout.splitlines()[-1])


def run(json_out: Path | None = None, folder: Path | None = None) -> None:
    """Print the times of both and their ratio.

    Args:
        folder: where the file is written for the while; the system's temporary folder by default.
    """
    from rich.console import Console

    with tempfile.TemporaryDirectory(dir=folder) as made, memory_group(LIMIT) as group:
        path = Path(made, "net.safetensors")
        write(path)
        size = path.stat().st_size
        free = _apart(path, None)
        _forget(path)
        limited = _apart(path, group)
    ratio = limited / free
    Console(highlight=False).print(
        f"{size / 1e9:.1f} GB of weights: {free:.2f} s a step; "
        f"in {LIMIT / 1e9:g} GB {limited:.2f} s; ratio {ratio:.2f} (wanted 2, 1.3)"
    )
    if json_out:
        content = {"bytes": size, "limit": LIMIT, "free": free, "limited": limited, "ratio": ratio}
        json_out.write_text(json.dumps(content, indent=2), "utf8")


def main(arguments: Sequence[str]) -> None:
    """Print the seconds of a step, having joined a cgroup first where one is named."""
    if len(arguments) > 1:
        Path(arguments[1], "cgroup.procs").write_text(str(os.getpid()))
    print(step(Path(arguments[0])))


if __name__ == "__main__":
    main(sys.argv[1:])
