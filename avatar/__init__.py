"""One picture and a driving signal become a video of that person."""

import os
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from platformdirs import user_cache_dir

from avatar.errors import UserError
from avatar.version import __version__

if TYPE_CHECKING:
    from avatar.animator import Animator, Clip
    from avatar.drivers.audio_signal import AudioSignal
    from avatar.drivers.expression import ExpressionSignal
    from avatar.drivers.pose import PoseSignal
    from avatar.drivers.prompt import Prompt, PromptSignal
    from avatar.soundtrack import Score, Soundtrack

if find_spec("avatar.backbone") is None:
    raise ImportError("this is an uninstalled checkout: run `pip install -e .` in it, then import again")

# Compiled code goes to the user's cache: beside the sources it would outlive the package and then shadow it.
os.environ.setdefault("NUMBA_CACHE_DIR", user_cache_dir("avatar-toolkit"))

__all__ = [
    "Animator",
    "AudioSignal",
    "Clip",
    "ExpressionSignal",
    "PoseSignal",
    "Prompt",
    "PromptSignal",
    "Score",
    "Soundtrack",
    "UserError",
    "__version__",
]

LAZY = {
    "Animator": "avatar.animator",
    "AudioSignal": "avatar.drivers.audio_signal",
    "Clip": "avatar.animator",
    "ExpressionSignal": "avatar.drivers.expression",
    "PoseSignal": "avatar.drivers.pose",
    "Prompt": "avatar.drivers.prompt",
    "PromptSignal": "avatar.drivers.prompt",
    "Score": "avatar.soundtrack",
    "Soundtrack": "avatar.soundtrack",
}


def __getattr__(name: str) -> Any:
    """The names that need something heavy, imported when they are first used (PEP 562)."""
    if name not in LAZY:
        raise AttributeError(f"module 'avatar' has no attribute {name!r}")
    return getattr(import_module(LAZY[name]), name)
