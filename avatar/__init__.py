"""One picture and a driving signal become a video of that person."""

from importlib.util import find_spec

if find_spec("avatar.backbone") is None:
    raise ImportError("this is an uninstalled checkout: run `pip install -e .` in it, then import again")
