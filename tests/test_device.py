"""Where the nets run: what can be asked for, and what is there."""

import pytest
import torch

from avatar.device import DEVICES, pick_device
from avatar.errors import UserError

THERE = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}


def test_the_cpu_is_always_there() -> None:
    assert pick_device("cpu") == torch.device("cpu")


def test_auto_takes_the_fastest_that_is_there() -> None:
    assert pick_device("auto").type == ("cuda" if THERE["cuda"] else "mps" if THERE["mps"] else "cpu")


@pytest.mark.parametrize("name", ["gpu", "CPU", "cuda:0", ""])
def test_an_unknown_name_is_refused_with_the_list(name: str) -> None:
    with pytest.raises(UserError) as refused:
        pick_device(name)
    assert str(refused.value) == f"--device {name}: must be one of {', '.join(DEVICES)}"


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_what_is_not_there_is_refused_with_a_way_out(name: str) -> None:
    if THERE[name]:
        assert pick_device(name).type == name
        return
    with pytest.raises(UserError, match=f"^--device {name}: this machine has none; use --device cpu$"):
        pick_device(name)
