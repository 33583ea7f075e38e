"""What else is told of a run's figures: TensorBoard, W&B or trackio, through accelerate."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from avatar.errors import UserError
from avatar.recipes.settings import Settings

if TYPE_CHECKING:
    from accelerate import Accelerator

MODULES = {"tensorboard": "torch.utils.tensorboard", "wandb": "wandb", "trackio": "trackio"}


def check_trackers(settings: Settings) -> None:
    """Refuse trackers that can not be loaded: accelerate goes on without them and says nothing.

    Raises:
        UserError: a package is missing, or another version of it is needed.
    """
    for name in settings.trackers:
        try:
            import_module(MODULES[name])
        except ImportError as error:
            raise UserError(f"trackers: {name} can not be loaded ({error}); pip install {name}") from error


def begin_trackers(accelerator: Accelerator, settings: Settings) -> None:
    """Tell the trackers of a run's settings."""
    if settings.trackers:
        config = settings.model_dump(mode="json")
        accelerator.init_trackers("avatar", {name: _plain(value) for name, value in config.items()})


def _plain(value: Any) -> int | float | str:
    """A setting as TensorBoard takes it, which knows no lists and no nothing."""
    return value if isinstance(value, int | float | str) else str(value)
