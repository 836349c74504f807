"""What a model's folder says of how it reads images: size and colours, how they are fitted, the scale of pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from compresslab.errors import ModelError
from compresslab.models.json_file import read_json
from compresslab.models.text_reading import told_of_tower
from compresslab.wheels import local_folder

if TYPE_CHECKING:
    from compresslab.models.spec import ModelSpec

PROCESSOR = "preprocessor_config.json"

# Pillow's numbers, as the file has them.
_FILTERS: Mapping[int, Literal["nearest", "bilinear", "bicubic"]] = {0: "nearest", 2: "bilinear", 3: "bicubic"}
_BYTE = 1 / 255
# What transformers takes for a part that the file leaves out.
_USUAL = {"do_resize": True, "do_center_crop": False, "do_rescale": True, "do_normalize": True, "resample": 3}


@dataclass(frozen=True)
class ImageReading:
    """What is known of it.

    Args:
        where: What to call the model in errors.
        size: Height and width that it takes; None where they differ, as the images do then.
        channels: 1 for grey, 3 for RGB.
        mean: Of each channel, on the 0..1 scale.
        std: As `mean`.
        resize: The filter.
        crop: The central share of each side that is kept.
        fit: `stretch` brings an image to the size whatever its sides are, `cover` cuts the longer one.
    """

    where: str
    size: int | None
    channels: Literal[1, 3]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: Literal["nearest", "bilinear", "bicubic"]
    crop: float
    fit: Literal["stretch", "cover"]


def image_reading(spec: ModelSpec) -> ImageReading | None:
    """What the folder of a dual encoder says of its image tower, or the run of which a checkpoint is a tower.

    None of any other network: the task's own images say how they are scaled.

    Raises:
        ModelError: There is no such folder or name, it is of no dual encoder, or its files are damaged.
        ArtifactError: The manifest of the run's stage is damaged.
    """
    if spec.checkpoint is not None:
        return _as_it_was_trained(Path(spec.checkpoint))
    if spec.hf is None:
        return None
    from compresslab.models.hf_net import fetched, read_config
    from compresslab.models.hf_towers import tower_config

    source = local_folder(spec.hf)
    config = tower_config(source, read_config(source), "image-tower")
    file = fetched(source, PROCESSOR)
    if file is None:
        raise ModelError(
            f"{source}: has no {PROCESSOR}, which says how its images are scaled; copy it from where the weights are "
            f'from, or write it: `CLIPImageProcessor(...).save_pretrained("{source}")` of transformers'
        )
    return _read(source, file, int(config["image_size"]), int(config["num_channels"]))


def _as_it_was_trained(folder: Path) -> ImageReading | None:
    how = told_of_tower(folder)
    if how is None or how.kind != "image":
        return None
    size = how.height if how.height == how.width else None
    return ImageReading(str(folder), size, how.channels, how.mean, how.std, how.resize, how.crop, how.fit)


def _read(source: str, file: Path, side: int, channels: int) -> ImageReading:
    found = read_json(file)
    if not isinstance(found, dict):
        raise ModelError(f"{file}: must hold an object, but holds a {type(found).__name__}; copy it again")
    plain: dict[str, Any] = {**_USUAL, **{key: value for key, value in found.items() if value is not None}}
    if not plain["do_resize"] or not plain["do_rescale"] or abs(plain.get("rescale_factor", _BYTE) - _BYTE) > 1e-9:
        raise ModelError(
            f"{file}: `do_resize` and `do_rescale` must be true and `rescale_factor` 1/255: images are read as pixels "
            "0..255 of one size, scaled to 0..1; correct the file if the network was trained so"
        )
    if plain["resample"] not in _FILTERS:
        raise ModelError(f"{file}: `resample` is {plain['resample']}; known are {', '.join(map(str, _FILTERS))}")
    size, cover = _size(file, plain.get("size", side))
    kept = _sides(file, plain.get("crop_size", side)) if plain["do_center_crop"] else size
    if kept > size or kept != side or channels not in (1, 3):
        raise ModelError(
            f"{file}: makes images of {kept} pixels a side out of {size}, but the network takes {side}, in {channels} "
            "channels; copy both from one place"
        )
    mean, std = (0.0,) * channels, (1.0,) * channels
    if plain["do_normalize"]:
        mean, std = (_numbers(file, plain, key, channels) for key in ("image_mean", "image_std"))
    return ImageReading(
        source, side, 1 if channels == 1 else 3, mean, std, _FILTERS[plain["resample"]], kept / size,
        "cover" if cover else "stretch",
    )  # fmt: skip


def _size(file: Path, size: Any) -> tuple[int, bool]:
    """The side that images are resized to, and whether it is that of the shorter one."""
    if isinstance(size, int):
        return size, True
    if isinstance(size, dict) and set(size) == {"shortest_edge"} and isinstance(size["shortest_edge"], int):
        return size["shortest_edge"], True
    return _sides(file, size), False


def _sides(file: Path, size: Any) -> int:
    sides = [size, size] if isinstance(size, int) else list(size.values()) if isinstance(size, dict) else []
    if len(sides) != 2 or sides[0] != sides[1] or not isinstance(sides[0], int) or sides[0] < 1:
        raise ModelError(
            f"{file}: sizes must be a number, `shortest_edge`, or the same `height` and `width`, but got {size}"
        )
    return sides[0]


def _numbers(file: Path, plain: Mapping[str, Any], key: str, channels: int) -> tuple[float, ...]:
    values = plain.get(key)
    numbers = [float(one) for one in values if isinstance(one, int | float)] if isinstance(values, list) else []
    if len(numbers) != channels or numbers != values:
        raise ModelError(f"{file}: `{key}` must have a number for each of {channels} channels, but is {values}")
    return tuple(numbers)
