"""A run of a tiny model, for the tests of the loop; as a program: `small_run.py OUT key=value ...`."""

import atexit
import json
import sys
from pathlib import Path

import torch
from tiny import TINY
from torch import Tensor, nn

from avatar.recipes.settings import Settings
from avatar.recipes.training import Batch, Losses, train

RUN_FILES = ["config.yaml", "log.jsonl", "losses.png", "model.safetensors", "run.json", "states"]


class Line(nn.Module):
    """y = w x + b, with a checkpoint's config."""

    def __init__(self) -> None:
        super().__init__()
        self.config = TINY
        self.linear = nn.Linear(3, 2)
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))


def line() -> Line:
    torch.manual_seed(0)
    return Line()


def points(step: int) -> Batch:
    return {"x": torch.randn(4, 3, generator=torch.Generator().manual_seed(step))}


def noisy_fit(net: nn.Module, batch: Batch, generator: torch.Generator) -> Losses:
    net.seen += len(batch["x"])
    wanted = batch["x"][:, :2] + 0.1 * torch.randn(4, 2, generator=generator)
    error = (net.linear(batch["x"]) - wanted).square().mean()
    return {"loss": error, "root": error.sqrt()}


def line_settings(out: Path, **changes: float) -> Settings:
    usual = {"steps": 12, "batch": 4, "learning_rate": 0.1, "warmup": 2, "threads": 1, "log_every": 4}
    return Settings(data=out.parent / "data", out=out, **(usual | changes))  # type: ignore[arg-type]


def state(folder: Path) -> dict[str, Tensor]:
    """All tensors of a run's state under flat names, and the step."""
    newest = max((folder / "states").iterdir(), key=lambda path: int(path.stem.partition("-")[2]))
    found = torch.load(newest, weights_only=True)
    moments = {f"{i} {k}": v for i, s in found["optimizer"]["state"].items() for k, v in s.items()}
    ema = {f"ema {k}": v for k, v in found["ema"].items()}
    return {**found["model"], **moments, **ema, "step": torch.tensor(found["step"])}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def tell_threads() -> None:
    print("threads:", *{name.read_text().strip() for name in Path("/proc/self/task").glob("*/comm")})


if __name__ == "__main__":
    atexit.register(tell_threads)  # called after what the run registers
    changes = {
        key: float(value) if "." in value else int(value)
        for key, _, value in (word.partition("=") for word in sys.argv[2:])
    }
    print(json.dumps(train(line(), points, noisy_fit, line_settings(Path(sys.argv[1]), **changes))))
