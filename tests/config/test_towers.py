"""Pipelines of two towers as YAML: what is for both, what for one, and what is refused."""

from pathlib import Path

import pytest
import yaml

from compresslab.config import dump_pipeline, load_pipeline
from compresslab.errors import ConfigError
from compresslab.pipeline import of_tower, task_with_transfer
from compresslab.stages import Distill, Prune, Quantize

HEAD = """\
task: {cross_modal: {pairs: pairs.csv, benchmarks: {shop: queries.csv}, size: 16}}
model:
  image: {residual: {widths: [16, 32]}, weights: image.safetensors}
  text: {mlp: {widths: [32]}, weights: text.safetensors}
"""
TEXT = (
    HEAD
    + """\
stages:
  - distill:
      student: {image: {residual: {widths: [8, 16]}}, text: {from_teacher: {layers: [0, 5, 11]}}}
      transfer: [{images: catalogue/}, {text: queries.txt}]
      losses: [{feature_mse: {weight: 2000}}, {similarity_kl: {weight: 1}}]
      epochs: 1
  - image: {prune: {ratio: 0.3}}
  - image: {quantize: {mode: qat}}
    text: {quantize: {backend: dynamic}}
bench: {points: [{graph: text, batch: 1}, {graph: image, batch: 32}]}
budget: {text: {p90_ms: 8}, retention: {shop/recall@10: 0.95}}
"""
)


def loaded(tmp_path, text, name="towers.yaml"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return load_pipeline(path)


def test_each_tower_has_its_own_stages(tmp_path):
    pipeline = loaded(tmp_path, TEXT)
    distill, prune, quantize = pipeline.stages
    assert [stage.kind for stage in pipeline.stages] == ["distill", "prune", "quantize"]
    assert distill.towers["image"].student.residual.widths == (8, 16)
    assert distill.towers["text"].student.from_teacher.layers == (0, 5, 11)
    assert {one.epochs for one in distill.inside} == {1}, "what is said once is for both"
    assert list(prune.towers) == ["image"]
    assert (quantize.towers["image"].mode, quantize.towers["text"].backend) == ("qat", "dynamic")
    assert pipeline.budget.graphs["text"].p90_ms == 8


def test_a_towers_pipeline_is_an_ordinary_one(tmp_path):
    pipeline = of_tower(loaded(tmp_path, TEXT), "text")
    assert [type(stage) for stage in pipeline.stages] == [Distill, Quantize]
    assert pipeline.model.mlp is not None
    assert [(point.graph, point.batch) for point in pipeline.bench.points] == [("model", 1)]
    image = of_tower(loaded(tmp_path, TEXT), "image")
    assert [type(stage) for stage in image.stages] == [Distill, Prune, Quantize]
    assert [point.batch for point in image.bench.points] == [32]


def test_what_a_stage_gives_as_transfer_is_the_tasks(tmp_path):
    task = task_with_transfer(loaded(tmp_path, TEXT)).cross_modal
    assert [(one.images, one.text) for one in task.transfer] == [
        (str(tmp_path / "catalogue"), None), (None, str(tmp_path / "queries.txt")),
    ]  # fmt: skip


def test_it_comes_back_the_same(tmp_path):
    pipeline = loaded(tmp_path, TEXT)
    again = loaded(tmp_path, yaml.safe_dump(dump_pipeline(pipeline), sort_keys=False), "again.yaml")
    assert again == loaded(tmp_path, yaml.safe_dump(dump_pipeline(again), sort_keys=False), "again.yaml")
    assert again.stages == pipeline.stages
    assert again.bench == pipeline.bench


def test_a_frozen_tower_is_left_out_of_every_stage(tmp_path):
    frozen = loaded(tmp_path, TEXT + "freeze: text\n")
    assert all(list(stage.towers) == ["image"] for stage in frozen.stages)
    again = loaded(tmp_path, yaml.safe_dump(dump_pipeline(frozen), sort_keys=False), "again.yaml")
    assert (again.freeze, again.stages) == (("text",), frozen.stages)


def test_points_that_name_no_graph_are_of_both(tmp_path):
    pipeline = loaded(tmp_path, HEAD + "stages: [{quantize: {}}]\nbench: {points: [{batch: 4}]}\n")
    assert [(point.graph, point.batch) for point in pipeline.bench.points] == [("image", 4), ("text", 4)]
    pipeline = loaded(tmp_path, HEAD + "stages: [{quantize: {}}]\nbench: {points: [{graph: text, batch: 4}]}\n")
    assert [(point.graph, point.batch) for point in pipeline.bench.points] == [("text", 4), ("image", 1)]


@pytest.mark.parametrize(
    ("stages", "told"),
    [
        (
            "[{distill: {student: {residual: {widths: [8]}}, epochs: 1}}]",
            r"stages\[0\].distill: `student` must say for which",
        ),
        ("[{quantize: {mode: auto}}]", r"`mode: auto` is for one network; give `ptq` or `qat`"),
        ("[{train: {epochs: 1}}]", r"`train` brings one tower into the space of the other"),
        (
            "[{mutual: {peers: [{residual: {widths: [8]}}, {residual: {widths: [8]}}], epochs: 1}}]",
            r"`mutual` is for one",
        ),
        (
            "[{image: {prune: {ratio: 0.1}}, text: {quantize: {}}}]",
            r"the same kind of stage to its towers, but got prune and",
        ),
        (
            "[{image: {quantize: {}}, prune: {ratio: 0.1}}]",
            r"`image` says what is done to one tower, and `prune` what is",
        ),
        ("[{quantize: {}}, {image: {prune: {ratio: 0.1}}}]", r"image tower: nothing may follow `quantize`"),
        ("[{text: {prune: {raito: 0.1}}}]", r"unknown key `raito`; did you mean `ratio`"),
        ("[{quantize: {}}]\nfreeze: [image, text]", r"every tower that it is for is frozen|both towers are frozen"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, stages, told):
    with pytest.raises(ConfigError, match=told):
        loaded(tmp_path, f"{HEAD}stages: {stages}\n")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("model: {image: {residual: {widths: [8]}, weights: a.pt}}\n", r"model: there is no `text` tower"),
        (
            "model: {residual: {widths: [8]}, weights: a.pt, text: {mlp: {widths: [8]}}}\n",
            r"so `residual` and `weights` can",
        ),
        ("model: {onnx: a.onnx, text: {mlp: {widths: [8]}}}\n", r"so `onnx` cannot stand beside them"),
        (
            "model: {image: {onnx: a.onnx}, text: {mlp: {widths: [8]}}}\n",
            r"`image.onnx`: an ONNX file cannot be one of two towers",
        ),
        (
            "model: {image: {mlp: {widths: [8]}}, text: {hf: words, head: new}}\n",
            r"`text.head`: a tower embeds, and a head of its own is for labels",
        ),
    ],
)
def test_a_model_of_one_tower_is_none(tmp_path, text, told):
    head = HEAD.splitlines(keepends=True)[0]
    with pytest.raises(ConfigError, match=told):
        loaded(tmp_path, f"{head}{text}stages: [{{quantize: {{}}}}]\n")


def test_teachers_of_towers_are_networks_and_nothing_beside(tmp_path):
    with pytest.raises(ConfigError, match=r"teacher.*`text.onnx`: an ONNX file cannot be one of two towers"):
        loaded(tmp_path, TEXT + "teacher: {image: {checkpoint: a}, text: {onnx: a.onnx}}\n")
    with pytest.raises(ConfigError, match=r"teacher.*so `predictions` cannot stand beside them"):
        loaded(tmp_path, TEXT + "teacher: {image: {checkpoint: a}, text: {checkpoint: b}, predictions: a.npz}\n")


def test_towers_are_for_models_that_have_them(tmp_path):
    one = "task: {image_classification: {npz: a.npz}}\nmodel: {residual: {widths: [8]}, weights: a.pt}\n"
    for rest, told in (
        ("stages: [{image: {quantize: {}}}]\n", "for one of two towers"),
        ("stages: [{quantize: {}}]\nfreeze: text\n", "the model is one network"),
        ("stages: [{distill: {epochs: 1, transfer: [{images: a}]}}]\n", "for one of two towers"),
    ):
        with pytest.raises(ConfigError, match=told):
            loaded(tmp_path, one + rest)


def test_the_shipped_pipelines_of_emoji_are_such():
    folder = Path(__file__).parents[2] / "pipelines"
    teacher, student = (load_pipeline(folder / f"emoji_{name}.yaml") for name in ("teacher", "retrieval"))
    assert [list(stage.towers) for stage in teacher.stages] == [["image"]]
    assert [stage.kind for stage in student.stages] == ["distill", "prune", "quantize"]


CLIP = """\
task: {cross_modal: {pairs: pairs.parquet}}
model: {hf: openai/clip-vit-base-patch32}
stages:
  - distill:
      student: {image: {timm: mobilenetv3_large_100}, text: {from_teacher: {layers: [0, 5, 11]}}}
  - quantize: {mode: qat}
"""


def test_a_clip_is_two_towers(tmp_path):
    pipeline = loaded(tmp_path, CLIP)
    assert {name: one.hf for name, one in pipeline.model.towers.items()} == dict.fromkeys(
        ("image", "text"), "openai/clip-vit-base-patch32"
    )
    assert pipeline.model.hf is None
    # Each tower's own pipeline is of one network, and not taken apart once more.
    for name in ("image", "text"):
        assert of_tower(pipeline, name).model.hf == "openai/clip-vit-base-patch32"
    again = loaded(tmp_path, yaml.safe_dump(dump_pipeline(pipeline), sort_keys=False), "again.yaml")
    assert again.model == pipeline.model
    assert again.stages == pipeline.stages
    assert pipeline.stages[0].towers["image"].epochs == 30, "what `distill` takes where nothing is said"


def test_a_clip_teaches_and_learns(tmp_path):
    text = CLIP.replace("{image: {timm: mobilenetv3_large_100}, text: {from_teacher: {layers: [0, 5, 11]}}}", "{hf: b}")
    pipeline = loaded(tmp_path, f"{text}teacher: {{hf: owner/large}}\n")
    assert {one.hf for one in pipeline.teacher.towers.values()} == {"owner/large"}
    assert [stage.student.hf for stage in pipeline.stages[0].inside] == ["b", "b"]


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("{hf: a/clip, head: new}", r"model: `head` is for one network, and `hf` is two here"),
        ("{hf: a/clip, pooling: cls}", r"model: `pooling` is for one network, and `hf` is two here"),
    ],
)
def test_what_is_of_one_network_is_refused_beside_a_clip(tmp_path, model, told):
    with pytest.raises(ConfigError, match=told):
        loaded(tmp_path, CLIP.replace("{hf: openai/clip-vit-base-patch32}", model))
