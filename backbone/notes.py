"""What torchao logs while it is imported, by us or by transformers, kept back."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_torchao_notes() -> Iterator[None]:
    """Keep back what is logged while torchao is imported.

    It warns of kernels that do not load here, all for CUDA devices of one kind and none used for weights
    alone, and PyTorch of how torchao registers its types.
    """
    loggers = [logging.getLogger(name) for name in ("torchao", "torch.utils._pytree")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
