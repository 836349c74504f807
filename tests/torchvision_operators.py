"""Lets torchvision be imported beside a torch that it was not built for; timm and transformers ask for it.

Its own operators are missing then, and importing it fails where it adds to two of them. Defined without a kernel they
are enough for all that classification needs. For tests alone: a product that did this would hide a broken installation.
"""

import sys

import torch

_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_kept = []


def define():
    """Once a process, before timm or transformers is asked for anything."""
    if _kept or "torchvision" in sys.modules:
        return
    try:
        import torchvision  # noqa: F401 - whether it can be
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        library = torch.library.Library("torchvision", "FRAGMENT")
        for operator in _OPERATORS:
            library.define(operator)
        _kept.append(library)  # what it defines is gone with it
