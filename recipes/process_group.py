"""The end of the group of processes of a run: a thread of gloo that lets go of a tensor while Python exits
aborts the process (PyTorch issue 190489), so the group's threads end before.
"""

from __future__ import annotations

import atexit
import gc
from importlib import import_module

from torch import distributed

if distributed.is_available():
    # What DDP imports late has defaults that hold the group of that time, and so its threads, for good.
    import_module("torch.distributed.nn.functional")


def end_with_program() -> None:
    """End the group when the program ends; for runs that succeed, since a group can not end while some of its
    processes wait for others."""
    atexit.unregister(_end)
    atexit.register(_end)


def _end() -> None:
    gc.collect()  # what DDP wraps is in cycles and holds the group
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
