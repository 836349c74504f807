"""What may be said of a timm network: names and arguments, checked before timm is imported."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import JsonValue

_NAME = re.compile(r"\w+(\.\w+)?")
# These read files or the network, or are said elsewhere.
_REFUSED = ("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir", "features_only")
_TASK = ("num_classes", "in_chans")


def require_local(name: str, arguments: Mapping[str, JsonValue]) -> None:
    """Checks that building this reads nothing but code: timm can also fetch, and load pickles, by name or argument.

    Raises:
        ValueError: It might; the message says by what.
    """
    if _NAME.fullmatch(name) is None:
        raise ValueError(f"`timm` must be the name of one of its networks, such as `resnet50`, but got `{name}`")
    refused = next((argument for argument in arguments if argument in _REFUSED), None)
    if refused is not None:
        raise ValueError(f"`{refused}` cannot be an argument of a `timm` network; give trained weights by `weights`")
    said = next((argument for argument in arguments if argument in _TASK), None)
    if said is not None:
        raise ValueError(f"`{said}` comes from the task; leave it out of `arguments`")
