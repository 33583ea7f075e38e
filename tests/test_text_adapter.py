"""New words for the prompt net: recorded losses, what is learnt and what stays, files, what is refused."""

import json
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from avatar.adapters.adapter_file import FILE, Adapter
from avatar.animator import Animator
from avatar.backbone.precision import fast_dtype
from avatar.drivers.prompt import Prompt
from avatar.drivers.text import PACKAGE
from avatar.errors import UserError
from avatar.recipes import text_adapter

pytestmark = pytest.mark.skipif(find_spec(PACKAGE) is None, reason=f"needs {PACKAGE}")

# Losses of three steps in float32; processors that multiply bfloat16 train in it.
LOSSES = [0.137213, 0.091957, 0.20271]
CLOSE = 3e-3 if fast_dtype() == torch.float32 else 3e-2
NEW, KNOWN = "she goes full owl", "she turns her head far to the left"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("words")
    pairs = [{"prompt": NEW, "like": KNOWN}, {"prompt": "he does the bobblehead", "like": "he nods"}]
    (folder / "words.json").write_text(json.dumps(pairs))
    return folder


def words(data: Path, out: Path, *more: str) -> list[str]:
    usual = ["steps=3", "warmup=1", "batch=4", "captions=16", "log_every=1", "probe_every=1", "threads=1"]
    return [f"data={data}/words.json", f"out={out}", *usual, *more]


@pytest.fixture(scope="module")
def run(data: Path) -> list[float]:
    return text_adapter.main(words(data, data / "run"))


def test_three_steps_and_the_file_that_they_leave(data: Path, run: list[float]) -> None:
    assert run == pytest.approx(LOSSES, rel=CLOSE)
    log = [json.loads(row) for row in (data / "run/log.jsonl").read_text().splitlines()]
    assert all(0 < row["left"] <= 1.01 and row["changed"] < 0.01 for row in log)
    assert (data / "run" / FILE).stat().st_size < 4e6
    assert {name.split(".")[0] for name in Adapter.load(data / "run").tensors} == {"prompt"}


def test_a_run_goes_on_exactly(data: Path, run: list[float]) -> None:
    losses = text_adapter.main(words(data, data / "cut", "minutes=1e-9"))
    assert losses + text_adapter.main(words(data, data / "cut")) == run


@pytest.mark.slow
def test_new_words_move_a_face_as_the_known_ones_and_other_words_as_before(data: Path) -> None:
    out = data / "long"
    text_adapter.main(words(data, out, "captions=128", "steps=60", "batch=12", "probe_every=60", "ema=0.9"))
    log = [json.loads(row) for row in (out / "log.jsonl").read_text().splitlines()]
    assert log[-1]["left"] < 0.3 and log[-1]["changed"] < 0.02

    def yaw(prompt: str, strength: float | None) -> np.ndarray:
        given = () if strength is None else ((out, strength),)
        how = {"negative": "", "guidance": 1.0, "seed": 0, "adapters": given}
        return Prompt(prompt).signal(75, Fraction(25), **how).head[:, 0]  # type: ignore[arg-type]

    assert np.array_equal(yaw(NEW, 0.0), yaw(NEW, None))
    turn, before, after = yaw(KNOWN, None)[-1], yaw(NEW, None)[-1], yaw(NEW, 1.0)[-1]
    assert abs(after - turn) < 0.5 * abs(before - turn)
    kept = yaw("he looks up", None), yaw("he looks up", 1.0)
    assert np.abs(kept[0] - kept[1]).max() < 0.3 * abs(turn)


def test_an_animator_takes_the_file_and_refuses_one_of_other_weights(data: Path, run: list[float]) -> None:
    nets = Animator.from_pretrained(adapters=[(data / "run", 1.0)]).nets
    assert nets.adapters == ((data / "run", 1.0),)
    read = Adapter.load(data / "run")
    Adapter("text", {"prompt": "0" * 16}, read.scale, read.tensors).save(data / "old.safetensors")
    with pytest.raises(UserError, match="made for other weights of prompt; fine-tune it again"):
        Animator.from_pretrained(adapters=[(data / "old.safetensors", 1.0)])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file; write"),
        ("[]", "holds no prompts"),
        ('[{"prompt": "a"}]', "not a list of prompt"),
    ],
)
def test_other_files_are_refused(text: str | None, message: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "words.json").write_text(text)
    with pytest.raises(UserError, match=message):
        text_adapter.main(words(tmp_path, tmp_path / "run"))
