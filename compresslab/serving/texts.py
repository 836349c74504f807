"""Where texts become ids of tokens: MLServer takes strings and has the bundle's tokenizer; Triton's clients have it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from compresslab.errors import DataError
from compresslab.measure.text_preprocessing import as_texts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from compresslab.measure.artifact import Manifest
    from compresslab.measure.text_preprocessing import Texts
    from compresslab.serving.incoming import GivenTensor

TEXT = "text"
"""The one input of a model of texts at MLServer."""
BYTES = "BYTES"
"""What the Open Inference Protocol calls strings."""

AT_MLSERVER = (
    f'the server takes strings and makes them ids of tokens itself: `{{"inputs": [{{"name": "{TEXT}", "datatype": '
    f'"{BYTES}", "shape": [1], "data": ["a text of yours"]}}]}}`'
)


def reads_texts(manifest: Manifest, graph: str) -> bool:
    """Whether a graph takes ids of tokens, and the manifest says how texts become those."""
    return manifest.preprocessing_of(graph).kind == "text" and manifest.prepares(graph)


def at_triton(manifest: Manifest, graph: str) -> str:
    """What to say of a graph of texts there."""
    (tensor,) = manifest.graphs[graph].inputs
    how = manifest.preprocessing_of(graph)
    assert how.kind == "text", "asked for such graphs"
    return (
        f"the server takes ids of tokens, `{tensor.name}` INT64 [batch, sequence], and no strings: clients make them "
        f"with `{how.tokenizer}`, which lies beside the graph, as the README shows, filled up on the right with "
        f"{how.pad_id} to the longest of a request; the server gathers requests of one length only"
    )


def texts_of(given: Sequence[GivenTensor], max_batch: int) -> Texts:
    """The strings [n] of a request.

    Args:
        given: The inputs of a request: `text` and nothing else, BYTES [n] or [n, 1].
        max_batch: The most texts.

    Raises:
        DataError: It is another input, there are too many texts or another number than the shape says, or one is no
            UTF-8, no string, or empty.
    """
    if [tensor.name for tensor in given] != [TEXT]:
        names = ", ".join(f"`{tensor.name}`" for tensor in given) or "nothing"
        raise DataError(f"there must be one input, `{TEXT}` {BYTES} [n], but got {names}")
    (tensor,) = given
    if tensor.datatype != BYTES:
        raise DataError(f"the input `{TEXT}` must be {BYTES}, but got {tensor.datatype}; give the texts themselves")
    shape = list(tensor.shape)
    if len(shape) not in (1, 2) or shape[0] < 1 or shape[1:] not in ([], [1]):
        raise DataError(f"the input `{TEXT}` must have the shape [n] or [n, 1], but got {shape}")
    if shape[0] > max_batch:
        raise DataError(f"the input `{TEXT}` has {shape[0]} rows; at most {max_batch} are taken at once")
    if not isinstance(tensor.data, list) or len(tensor.data) != shape[0]:
        found = len(tensor.data) if isinstance(tensor.data, list) else "no list"
        raise DataError(f"the input `{TEXT}` of {shape} must have a list of {shape[0]} strings, but got {found}")
    return as_texts(_text(row, one) for row, one in enumerate(tensor.data))


def _text(row: int, given: Any) -> str:
    if isinstance(given, list) and len(given) == 1:  # nested as [n, 1] is
        (given,) = given
    try:
        if isinstance(given, bytes):
            given = given.decode()
        elif isinstance(given, str):
            given.encode()  # half of a surrogate pair is no text, though JSON can spell it
    except UnicodeError as error:
        raise DataError(f"`{TEXT}`, row {row}: is not UTF-8 ({error})") from error
    if not isinstance(given, str):
        raise DataError(f"`{TEXT}`, row {row}: must be a string, but is a {type(given).__name__}")
    if not given.strip():
        raise DataError(f"`{TEXT}`, row {row}: an empty text has no answer; leave it out")
    return given
