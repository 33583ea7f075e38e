"""Several processes together give what one gives."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("processes", [2, 4])
def test_shared_evaluation_equals_one_process(processes: int) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    program = str(Path(__file__).with_name("shared_run.py"))
    done = subprocess.run(
        [*command, program, str(processes)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
