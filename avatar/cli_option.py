"""Options of the command line that say what their model says of them."""

from __future__ import annotations

from typing import Any

import typer

from avatar.options import Options


def described(kind: type[Options], name: str, *flags: str) -> Any:
    """The option of a field; its flag is its name, unless others are given."""
    given = flags or (f"--{name.replace('_', '-')}",)
    return typer.Option(*given, help=kind.model_fields[name].description)
