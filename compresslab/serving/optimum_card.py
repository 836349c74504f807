"""Python that runs a folder with Optimum, as its card shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from compresslab.serving.optimum_kinds import OptimumKind

_LEAVES_OUT = "optimization.disable_specified_optimizers"


def how_to_use(kind: OptimumKind, *, texts: bool, processor: bool, left_out: Sequence[str]) -> list[str]:
    """Sections of Markdown; the lines run in the folder.

    Args:
        kind: Which class loads it.
        texts: Whether it reads texts, and not images.
        processor: Whether transformers' image processors prepare its images.
        left_out: What ONNX Runtime is to leave out when it opens the graph.
    """
    opened = [f'model = {kind.loader}.from_pretrained(".")']
    needed = [f"from optimum.onnxruntime import {kind.loader}"]
    if left_out:
        needed.insert(0, "import onnxruntime")
        opened = [
            "options = onnxruntime.SessionOptions()",
            f'options.add_session_config_entry("{_LEAVES_OUT}", "{";".join(left_out)}")',
            f'model = {kind.loader}.from_pretrained(".", session_options=options)',
        ]
    if texts:
        needed.append("from transformers import AutoTokenizer")
        opened += [
            'tokenizer = AutoTokenizer.from_pretrained(".")',
            'texts = ["a text of yours", "and another one, which is longer"]',
            'inputs = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")',
        ]
    elif processor:
        needed += ["from PIL import Image", "from transformers import AutoImageProcessor"]
        opened += [
            'processor = AutoImageProcessor.from_pretrained(".", use_fast=False)',
            'inputs = processor(Image.open("image.png"), return_tensors="np")',
        ]
    else:
        opened.append(f"inputs = {{{kind.input!r}: images}}  # float32, as prepared above")
    told = ["```python", *needed, "", *opened, *_answer(kind, texts), "```"]
    return ["\n".join(told), *([_SEQUENCE.format(output=kind.output)] if kind.sequence else [])]


def _answer(kind: OptimumKind, texts: bool) -> list[str]:
    if kind.sequence is not None:
        return [f"embeddings = model(**inputs).{kind.sequence}[:, 0]"]
    scores = f"scores = model(**inputs).{kind.output}"
    if texts:
        return [scores, "print([model.config.id2label[int(best)] for best in scores.argmax(-1)], scores)"]
    return [scores, "print(model.config.id2label[int(scores.argmax())])"]


_SEQUENCE = (
    "That class reads `last_hidden_state` [batch, tokens, width] and no other output, so the graph gives the embedding "
    "there as well, pooled already, as a sequence of one. By its own name, `{output}` [batch, width], "
    "`ORTModelForCustomTasks` gives it."
)
