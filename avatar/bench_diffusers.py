"""Our nets beside those of diffusers: `avatar bench --vs diffusers`.

Both have the same random weights, carried over by name, get the same inputs and run turn by turn in one
process, so that whatever else the machine does falls on both; the best of the repetitions counts. Of a case
that takes long there are fewer. Memory is measured in a process of its own for each side. A case prints how
far the two results are apart.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from avatar.backbone import half_kernels
from avatar.backbone.causal import Kernel
from avatar.backbone.diffusers_keys import to_diffusers
from avatar.backbone.dit import DiT, DiTConfig
from avatar.backbone.tiling import Tiling
from avatar.backbone.vae import CausalVAE
from avatar.bench import matrix_rate, operations
from avatar.errors import UserError
from avatar.measure import peak_memory
from avatar.releases import TEXT

if TYPE_CHECKING:
    from rich.table import Table

SIDES = ("ours", "diffusers")
TEXT_TOKENS = 256
FLAT, FLAT_FRAMES = "vae-flat", (33, 129)  # the case of our memory alone: frames it is compared for
FLAT_TARGET = (1.05, 1.0)
# The C library gives freed blocks back at once: what it would keep is not what a call needs.
RETURNED = {"MALLOC_MMAP_THRESHOLD_": "262144", "MALLOC_TRIM_THRESHOLD_": "262144"}
WEIGHT = 0.02  # standard deviation of random weights
LEARNING_RATE = 1e-4
ENOUGH = 60.0  # seconds of repetitions after which none begins


@dataclass(frozen=True, kw_only=True)
class DiTCase:
    """A DiT of the public kind over latents of (T, h, w): T h w / 4 video tokens and 256 of text."""

    latents: Kernel
    double_blocks: int = 1
    single_blocks: int = 2
    hidden: int = 1024
    dtype: torch.dtype = torch.bfloat16
    training: bool = False  # a step of training with checkpointing, not an evaluation

    @property
    def config(self) -> DiTConfig:
        """Sizes of the net."""
        return replace(
            TEXT.dit,
            hidden=self.hidden,
            heads=self.hidden // 128,
            double_blocks=self.double_blocks,
            single_blocks=self.single_blocks,
        )


@dataclass(frozen=True, kw_only=True)
class VAECase:
    """Decode of `frames` of `side` px by the public VAE at a share of its widths, in diffusers' tiles."""

    frames: int
    side: int
    divisor: int = 1  # of the widths


@dataclass(frozen=True, kw_only=True)
class Target:
    """Ratio of ours to theirs that is wanted, and the one beyond; None where nothing was set."""

    time: tuple[float, float] | None = None
    memory: tuple[float, float] | None = None


CASES: dict[str, tuple[DiTCase | VAECase, Target]] = {
    "dit-1k": (DiTCase(latents=(4, 32, 32)), Target(time=(1.0, 0.9))),
    "dit-4k": (DiTCase(latents=(4, 64, 64)), Target(time=(0.85, 0.7))),
    "dit-16k": (DiTCase(latents=(16, 64, 64)), Target(time=(0.8, 0.6))),
    "vae-full": (VAECase(frames=17, side=128), Target(time=(0.7, 0.5), memory=(0.5, 0.25))),
    "vae-quarter": (VAECase(frames=33, side=256, divisor=4), Target(time=(0.7, 0.5), memory=(0.5, 0.25))),
    "train-4k": (
        DiTCase(latents=(4, 64, 64), training=True),
        Target(time=(0.9, 0.75), memory=(0.9, 0.75)),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One case. Times in seconds, memory in bytes beyond what was there before the call."""

    name: str
    seconds: dict[str, float]  # by side, best of the repetitions
    cpu_seconds: dict[str, float]  # the same, of all threads together
    runs: int  # repetitions
    memory: dict[str, int]  # by side; empty where it was not asked for
    apart: float  # norm of the difference of the results / norm of diffusers' result
    operations: int
    floor: float  # operations / best rate of matrix products in this run
    target: Target

    @property
    def time_ratio(self) -> float:
        """Our time / theirs."""
        return self.seconds["ours"] / self.seconds["diffusers"]

    @property
    def cpu_ratio(self) -> float:
        """Our processor time / theirs: with one thread, what other programs do hardly changes it."""
        return self.cpu_seconds["ours"] / self.cpu_seconds["diffusers"]

    @property
    def memory_ratio(self) -> float | None:
        """Our memory / theirs."""
        return self.memory["ours"] / max(self.memory["diffusers"], 1) if self.memory else None


# ---- the two sides ----


def dits(case: DiTCase) -> tuple[DiT, Any]:
    """The same random weights in both, none of them zero."""
    import diffusers

    config = case.config
    torch.manual_seed(0)
    ours = DiT(config).requires_grad_(False)
    for parameter in ours.parameters():
        nn.init.normal_(parameter, std=WEIGHT)
    ours = ours.to(case.dtype)
    with torch.device("meta"):
        theirs: Any = diffusers.HunyuanVideoTransformer3DModel(
            num_attention_heads=config.heads,
            attention_head_dim=config.hidden // config.heads,
            num_layers=config.double_blocks,
            num_single_layers=config.single_blocks,
            num_refiner_layers=config.refiner_blocks,
            guidance_embeds=config.guidance_embed,
        )
    tensors = {name: value.clone() for name, value in to_diffusers(ours.state_dict()).items()}
    theirs.load_state_dict(tensors, assign=True)
    return ours.eval(), theirs.eval().requires_grad_(False)


def vaes(case: VAECase) -> tuple[CausalVAE, Any]:
    """The same random weights in both, each in tiles of 256 px and 16 frames."""
    import diffusers

    widths = tuple(width // case.divisor for width in TEXT.vae.widths)
    torch.manual_seed(0)
    ours = CausalVAE(replace(TEXT.vae, widths=widths), Tiling(frames=16, frame_stride=12))
    theirs: Any = diffusers.AutoencoderKLHunyuanVideo(
        block_out_channels=widths, scaling_factor=ours.config.scaling_factor
    )
    theirs.load_state_dict(ours.state_dict())
    theirs.enable_tiling()
    return ours.eval().requires_grad_(False), theirs.eval().requires_grad_(False)


def calls(case: DiTCase | VAECase) -> dict[str, Callable[[], Tensor]]:
    """One call for each side; both give the same but for rounding."""
    draw = torch.Generator().manual_seed(0)
    if isinstance(case, VAECase):
        vae, other_vae = vaes(case)
        z = torch.randn(1, 16, (case.frames - 1) // 4 + 1, case.side // 8, case.side // 8, generator=draw)
        unscaled = z / vae.config.scaling_factor
        return {
            "ours": lambda: torch.cat(list(vae.decode_stream([z])), dim=2),
            "diffusers": lambda: other_vae.decode(unscaled).sample,
        }
    ours, theirs = dits(case)
    x, text = (
        torch.randn(1, *shape, generator=draw).to(case.dtype)
        for shape in ((16, *case.latents), (TEXT_TOKENS, case.config.text_dim))
    )
    pooled = torch.randn(1, case.config.pooled_dim, generator=draw).to(case.dtype)
    time, guidance = torch.tensor([500.0]), torch.tensor([8.0])  # both exact in bfloat16, also times 1000
    mask = torch.ones(1, TEXT_TOKENS, dtype=torch.bool)

    def our_step() -> Tensor:
        return ours(x, time, text=text, text_mask=mask, pooled=pooled, guidance=guidance)

    def their_step() -> Tensor:
        return theirs(
            hidden_states=x,
            timestep=time.to(case.dtype),
            encoder_hidden_states=text,
            encoder_attention_mask=mask,
            pooled_projections=pooled,
            guidance=(1000 * guidance).to(case.dtype),
        ).sample

    if not case.training:
        return {"ours": our_step, "diffusers": their_step}
    ours.recompute = True
    theirs.enable_gradient_checkpointing()
    return {"ours": training_step(ours, our_step), "diffusers": training_step(theirs, their_step)}


def training_step(net: nn.Module, predict: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """A call that predicts and makes a step of AdamW, whose state is there; gives the prediction."""
    net.train().requires_grad_(True)
    optimizer = torch.optim.AdamW(net.parameters(), LEARNING_RATE)
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)

    def update() -> None:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def step() -> Tensor:
        found = predict()
        found.float().square().mean().backward()
        update()
        return found.detach()

    update()
    return step


# ---- measuring ----


@contextmanager
def _mode(case: DiTCase | VAECase) -> Iterator[None]:
    with torch.inference_mode(not (isinstance(case, DiTCase) and case.training)):
        yield


def compare(name: str, runs: int, rate: float | None = None, memory: bool = True) -> Outcome:
    """Run one case on both sides, turn by turn.

    Args:
        name: of `CASES`.
        runs: repetitions after a first one that warms up; fewer, at least one, where they take long.
        rate: operations per second of matrix products; measured between the repetitions when not given.
        memory: also run each side in a process of its own.
    """
    case, target = CASES[name]
    dtype = case.dtype if isinstance(case, DiTCase) else torch.float32
    taken: dict[str, list[tuple[float, float]]] = {side: [] for side in SIDES}
    first: dict[str, Tensor] = {}
    rates = [rate or 0.0]
    with _mode(case):
        sides = calls(case)
        first["ours"] = sides["ours"]().float()
        counted = operations(lambda: first.update(diffusers=sides["diffusers"]().float()))
        done, began = 0, time.perf_counter()
        while done == 0 or (done < runs and time.perf_counter() - began < ENOUGH):
            if rate is None:
                rates.append(matrix_rate(dtype))
            for side, call in sides.items():
                taken[side].append(_timed(call))
            done += 1
    difference = first["ours"] - first["diffusers"]
    return Outcome(
        name=name,
        seconds={side: min(wall for wall, _ in taken[side]) for side in SIDES},
        cpu_seconds={side: min(cpu for _, cpu in taken[side]) for side in SIDES},
        runs=done,
        memory={side: _memory(name, side) for side in SIDES} if memory and target.memory else {},
        apart=(difference.norm() / first["diffusers"].norm()).item(),
        operations=counted,
        floor=counted / max(rates),
        target=target,
    )


def _timed(call: Callable[[], object]) -> tuple[float, float]:
    """Seconds of one call, and of processor time."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu


def flat_memory(frames: int) -> int:
    """Bytes that our decode of a stream of small frames needs, each frame dropped once it is there."""
    vae, _ = vaes(VAECase(frames=frames, side=128, divisor=4))
    z = torch.randn(1, 16, (frames - 1) // 4 + 1, 16, 16, generator=torch.Generator().manual_seed(0))

    def decode() -> None:
        for _ in vae.decode_stream(z.split(1, dim=2)):
            pass

    return peak_memory(decode)


def _memory(name: str, side: str) -> int:
    """Bytes that one call needs beyond the nets, in a process of its own."""
    command = [sys.executable, "-m", "avatar.bench_diffusers", name, side]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | RETURNED)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise UserError(f"memory of {name}, {side}: {lines[-1]}")
    return int(done.stdout.splitlines()[-1])


def main(name: str, side: str) -> None:
    """Print the bytes that a call of one side, or a decode of so many frames, adds to this process's peak."""
    if name == FLAT:
        print(flat_memory(int(side)))
        return
    case = CASES[name][0]
    half_kernels.compile_all()  # code is not what a call needs
    with _mode(case):
        call = calls(case)[side]
        print(peak_memory(call))


# ---- the command ----


def table(found: Sequence[Outcome]) -> Table:
    """One column per case: six fit a terminal of 80 columns."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    def memory(side: str) -> list[str]:
        return [f"{o.memory[side] / 1e6:.0f}" if o.memory else "" for o in found]

    rows = {
        "repetitions": [str(o.runs) for o in found],
        **{f"{side}, s": [f"{o.seconds[side]:.3f}" for o in found] for side in SIDES},
        "time ratio": [f"{o.time_ratio:.2f}" for o in found],
        "wanted": [_wanted(o.target.time) for o in found],
        "CPU time ratio": [f"{o.cpu_ratio:.2f}" for o in found],
        **{f"{side} / floor": [f"{o.seconds[side] / o.floor:.2f}" for o in found] for side in SIDES},
        **{f"{side}, MB": memory(side) for side in SIDES},
        "memory ratio": ["" if o.memory_ratio is None else f"{o.memory_ratio:.2f}" for o in found],
        "memory wanted": [_wanted(o.target.memory) for o in found],
        "apart": [f"{o.apart:.0e}" for o in found],
    }
    result = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for column in ("", *(o.name for o in found)):
        result.add_column(column, no_wrap=True)
    for name, values in rows.items():
        if any(values):
            result.add_row(name, *values)
    return result


def _wanted(target: tuple[float, float] | None) -> str:
    return "" if target is None else f"{target[0]:g},{target[1]:g}"


def as_json(outcome: Outcome) -> dict[str, Any]:
    """Figures of a case and its ratios."""
    ratios = ("time_ratio", "cpu_ratio", "memory_ratio")
    return asdict(outcome) | {name: getattr(outcome, name) for name in ratios}


def run(names: Sequence[str], json_out: Path | None = None, runs: int = 5, memory: bool = True) -> None:
    """The command: print each case as it is done, then all, and write them as JSON.

    Raises:
        UserError: no such case.
    """
    from rich.console import Console

    known = (*CASES, FLAT)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UserError(f"--case {unknown[0]}: must be one of {', '.join(known)}")
    console, found, flat = Console(highlight=False), [], {}
    for name in names or known:
        if name == FLAT:
            flat = {frames: _memory(FLAT, str(frames)) for frames in FLAT_FRAMES}
            ratio = flat[FLAT_FRAMES[1]] / flat[FLAT_FRAMES[0]]
            amounts = " and ".join(f"{frames} frames {size / 1e6:.0f} MB" for frames, size in flat.items())
            console.print(f"{FLAT}: {amounts}, ratio {ratio:.2f} (wanted {_wanted(FLAT_TARGET)})")
            continue
        found.append(compare(name, runs, memory=memory))
        last = found[-1]
        console.print(
            f"{name}: time {last.time_ratio:.2f} of diffusers', processor time {last.cpu_ratio:.2f}"
            + (f", memory {last.memory_ratio:.2f}" if last.memory_ratio is not None else "")
        )
    if found:
        console.print(table(found))
    if json_out:
        content = {
            "threads": torch.get_num_threads(),
            "cases": [as_json(outcome) for outcome in found],
            "flat_memory": flat,
        }
        json_out.write_text(json.dumps(content, indent=2), "utf8")


if __name__ == "__main__":
    main(*sys.argv[1:])
