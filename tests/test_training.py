"""The training loop: parts of a step, several processes, kills, alarms and the run folder."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_run import RUN_FILES, equal, line, line_settings, noisy_fit, points, state
from torch import nn

from avatar.errors import UserError
from avatar.recipes import run_folder, trackers
from avatar.recipes.training import Batch, Reader, train

PROGRAM = Path(__file__).with_name("small_run.py")


def lines(out: Path) -> list[dict]:
    return [json.loads(row) for row in (out / "log.jsonl").read_text().splitlines()]


def start(*command: str, **environment: str) -> subprocess.Popen:
    own = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", **environment}
    return subprocess.Popen(command, env=own, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


# ---- parts and processes -----------------------------------------------------------------------


def test_a_step_of_two_parts_is_one_of_a_double_batch(tmp_path: Path) -> None:
    def double(part: int) -> Batch:
        return {"x": torch.cat([points(2 * part)["x"], points(2 * part + 1)["x"]])}

    def fit(net: nn.Module, batch: Batch, _: torch.Generator) -> dict[str, torch.Tensor]:
        with torch.autocast("cpu", enabled=False):
            return {"loss": (net.linear(batch["x"]) - batch["x"][:, :2]).square().mean()}  # type: ignore[operator]

    parts = train(line(), points, fit, line_settings(tmp_path / "parts", accumulate=2))
    whole = train(line(), double, fit, line_settings(tmp_path / "whole"))
    assert parts == pytest.approx(whole, rel=1e-5)


@pytest.mark.slow
def test_two_processes_learn_what_one_does_at_the_same_global_batch(tmp_path: Path) -> None:
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    process = start(sys.executable, *launch, str(PROGRAM), str(tmp_path / "two"), "steps=20", "log_every=1")
    one = train(line(), points, noisy_fit, line_settings(tmp_path / "one", steps=20, accumulate=2))
    printed, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    assert printed.count("threads:") == 2 and "gloo" not in printed  # they could abort the exit
    two = [row["loss"] for row in lines(tmp_path / "two") if "loss" in row]
    assert two == pytest.approx(one, abs=1e-4)
    assert len(two) == 20 and len(set(two)) == 20
    for name, value in state(tmp_path / "one").items():
        if name not in ("seen", "ema seen"):  # each process counts what it has seen itself
            torch.testing.assert_close(state(tmp_path / "two")[name], value, rtol=0, atol=1e-5)


def test_batches_are_loaded_ahead_and_waiting_is_measured() -> None:
    def slow(part: int) -> Batch:
        time.sleep(0.1)
        return points(part)

    reader = Reader(slow, lambda step: [step], 0)
    time.sleep(0.2)
    reader(0)
    assert reader.waited < 0.05  # it was there
    reader(1)
    assert 0.05 < reader.waited < 0.25
    reader.close()


# ---- kills -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_killed_at_random_goes_on_bit_for_bit(tmp_path: Path) -> None:
    kills = int(os.environ.get("AVATAR_KILLS", "2"))
    steps = 400 * (kills + 1)
    settings = {"steps": steps, "save_steps": 7, "log_every": 1, "keep": 3}
    train(line(), points, noisy_fit, line_settings(tmp_path / "whole", **settings))
    words = [f"{key}={value}" for key, value in settings.items()]
    out, rng = tmp_path / "killed", np.random.default_rng(0)
    done, at = 0, 0
    for _ in range(kills):
        process = start(sys.executable, str(PROGRAM), str(out), *words)
        at += int(rng.integers(50, 350))
        while process.poll() is None and _newest(out) < at:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "the run ended before it was killed"
        done += 1
    assert 0 < _newest(out) < steps
    process = start(sys.executable, str(PROGRAM), str(out), *words)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert done == kills and equal(state(out), state(tmp_path / "whole"))
    curves = [[(row["step"], row["loss"]) for row in lines(run)] for run in (out, tmp_path / "whole")]
    assert curves[0] == curves[1]
    assert len(list((out / "states").glob("state-*.pt"))) == 3


def _newest(out: Path) -> int:
    return max((int(p.stem.partition("-")[2]) for p in (out / "states").glob("state-*.pt")), default=0)


def test_a_state_that_was_being_written_is_not_resumed_from(tmp_path: Path) -> None:
    whole = train(line(), points, noisy_fit, line_settings(tmp_path / "whole"))
    settings = line_settings(tmp_path / "cut", save_steps=5, minutes=1e-9)
    for _ in range(5):
        train(line(), points, noisy_fit, settings)
    newest = tmp_path / "cut/states/state-5.pt"
    (tmp_path / "cut/states/state-6.part").write_bytes(newest.read_bytes()[:100])
    with (tmp_path / "cut/log.jsonl").open("a") as file:
        file.write('{"step": 6, "loss": 1.0}\n{"step": 7, "lo')
    rest = train(line(), points, noisy_fit, line_settings(tmp_path / "cut", log_every=1))
    assert rest == whole[5:]
    assert [row["step"] for row in lines(tmp_path / "cut") if "loss" in row] == [4, *range(6, 13)]


def test_the_newest_states_are_kept(tmp_path: Path) -> None:
    train(line(), points, noisy_fit, line_settings(tmp_path, save_steps=2, keep=3))
    assert sorted(path.name for path in (tmp_path / "states").iterdir()) == [
        "state-10.pt",
        "state-12.pt",
        "state-8.pt",
    ]


# ---- alarms ------------------------------------------------------------------------------------


def test_a_gradient_that_is_no_number_stops_before_it_does_harm(tmp_path: Path) -> None:
    def torn(net: nn.Module, batch: Batch, generator: torch.Generator) -> dict[str, torch.Tensor]:
        losses = noisy_fit(net, batch, generator)
        if torch.equal(batch["x"], points(5)["x"]):  # the root of 0 has no slope, and 0 times that is NaN
            losses["loss"] = losses["loss"] + 0 * (net.linear.weight - net.linear.weight).sum().sqrt()
        return losses

    net = line()
    with pytest.raises(
        FloatingPointError, match="gradient is not finite at step 6; the newest state is of step 4"
    ):
        train(net, points, torn, line_settings(tmp_path, save_steps=2))
    assert all(value.isfinite().all() for value in net.state_dict().values())
    assert lines(tmp_path)[-1] == {"step": 6, "alarm": "gradient is not finite at step 6"}


def test_a_watched_figure_that_no_longer_falls_sounds_the_alarm_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    figures = iter([3.0, 2.0, 2.5, 2.5, 2.5, 2.5])

    def probe(net: nn.Module) -> dict[str, float]:
        return {"validation": next(figures)}

    settings = line_settings(tmp_path, probe_every=2, watch="validation", patience=3)
    with caplog.at_level(logging.WARNING, "avatar"):
        train(line(), points, noisy_fit, settings, probe)
    alarms = [row for row in lines(tmp_path) if "alarm" in row]
    told = "validation was 2 3 looks ago and has not fallen since"
    assert alarms == [{"step": 10, "alarm": told}]
    assert told in caplog.text
    best, last = (torch.load(tmp_path / "states/state-12.pt")["best"], tmp_path / "best.safetensors")
    assert best == 2.0 and last.exists()


# ---- the folder --------------------------------------------------------------------------------


def test_the_run_folder_says_what_went_in_and_came_out(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.txt").write_text("one")
    out = tmp_path / "run"
    train(line(), points, noisy_fit, line_settings(out, probe_every=4))
    assert sorted(path.name for path in out.iterdir()) == RUN_FILES
    (told,) = json.loads((out / "run.json").read_text())
    assert {"avatar", "python", "torch", "accelerate", "data"} <= told.keys()
    assert "learning_rate: 0.1" in (out / "config.yaml").read_text()
    assert Image.open(out / "losses.png").size[0] > 400
    assert all(0 <= row["waiting"] <= 1 for row in lines(out))
    (tmp_path / "data/a.txt").write_text("two")
    train(line(), points, noisy_fit, line_settings(out, learning_rate=0.2, save_minutes=1))
    changed = lines(out)[-1]["changed"]
    assert changed["learning_rate"] == [0.1, 0.2] and set(changed) == {"learning_rate", "data", "probe_every"}


def test_the_digest_knows_names_sizes_and_contents(tmp_path: Path) -> None:
    found = set()
    for name, text in (("a", "x"), ("b", "x"), ("a", "xx"), ("a", "y")):
        folder = tmp_path / f"{len(found)}" / "data"
        folder.mkdir(parents=True)
        (folder / name).write_text(text)
        found.add(run_folder.data_digest(folder))
    assert len(found) == 4
    assert run_folder.data_digest(tmp_path / "0/data") == run_folder.data_digest(tmp_path / "0/data")


def test_an_optimiser_of_eight_bits_learns_and_resumes(tmp_path: Path) -> None:
    pytest.importorskip("torchao")
    settings = {"steps": 12, "optimizer": "adamw8bit"}
    whole = train(line(), points, noisy_fit, line_settings(tmp_path / "whole", **settings))
    parts = train(line(), points, noisy_fit, line_settings(tmp_path / "parts", **settings, minutes=1e-9))
    parts += train(line(), points, noisy_fit, line_settings(tmp_path / "parts", **settings))
    assert parts == whole and whole[-1] < whole[0]


# ---- trackers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "trackio"])
def test_a_tracker_is_told_of_the_figures_or_refused(name: str, tmp_path: Path) -> None:
    settings = line_settings(tmp_path / "run", trackers=(name,))  # type: ignore[arg-type]
    try:
        import_module(trackers.MODULES[name])
    except ImportError:
        with pytest.raises(UserError, match=f"trackers: {name} can not be loaded"):
            train(line(), points, noisy_fit, settings)
        assert not (tmp_path / "run").exists()
        return
    if name != "tensorboard":
        pytest.skip("tells a server")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(line(), points, noisy_fit, settings)
    told = EventAccumulator(str(tmp_path / "run/avatar"))
    told.Reload()
    seen = [(event.step, pytest.approx(event.value, abs=1e-5)) for event in told.Scalars("loss")]
    assert [(row["step"], row["loss"]) for row in lines(tmp_path / "run")] == seen
