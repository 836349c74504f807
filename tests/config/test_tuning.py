"""`{tune: [...]}`: every choice is a document of its own, checked like any other. Its errors are in golden/config."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from compresslab.config import dump_pipeline, load_pipeline, pipeline_schema
from compresslab.config.tuning import MAX_VARIANTS
from compresslab.errors import ConfigError
from compresslab.models import ModelSpec, Residual
from compresslab.stages import Distill, Quantize, Train, Tuned

PLAIN: dict[str, Any] = {
    "task": {"image_classification": {"npz": "images.npz"}},
    "model": {"checkpoint": "teacher"},
    "stages": [
        {"train": {"epochs": 4}},
        {"distill": {"epochs": 8, "student": {"residual": {"widths": [8]}}}},
        {"prune": {"ratio": 0.4}},
        {"distill": {"epochs": 2}},
    ],
}
TRAIN, DISTILL, PRUNE, AGAIN = range(4)


def written(folder: Path, plain: Any, name: str = "x.yaml") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(yaml.safe_dump(plain, sort_keys=False), encoding="utf-8")
    return path


def with_settings(stage: int, **settings: Any) -> dict[str, Any]:
    plain = copy.deepcopy(PLAIN)
    (entry,) = plain["stages"][stage].values()
    entry.update(settings)
    return plain


def tune(*values: Any) -> dict[str, Any]:
    return {"tune": list(values)}


def tuned(path: Path, stage: int = DISTILL) -> Tuned:
    found = load_pipeline(path).stages[stage]
    assert isinstance(found, Tuned)
    return found


def test_one_setting_is_a_variant_a_value_in_their_order(tmp_path: Path) -> None:
    found = tuned(written(tmp_path, with_settings(DISTILL, temperature=tune(4, 1, 8.5))))
    assert (found.kind, found.version) == ("distill", Distill.version)
    expected = [
        Distill(epochs=8, student=ModelSpec(residual=Residual(widths=(8,))), temperature=t) for t in (4.0, 1.0, 8.5)
    ]
    assert [variant.stage for variant in found.variants] == expected
    assert [variant.choice for variant in found.variants] == [{("temperature",): t} for t in (4.0, 1.0, 8.5)]
    assert found.first == expected[0]


def test_several_settings_are_every_combination(tmp_path: Path) -> None:
    plain = with_settings(DISTILL, temperature=tune(1, 4), kd_weight=tune(0.5, 0.9, 1.0))
    for order in (("temperature", "kd_weight"), ("kd_weight", "temperature")):
        settings = plain["stages"][DISTILL]["distill"]
        for name in order:
            settings[name] = settings.pop(name)
        found = [(one.stage.kd_weight, one.stage.temperature) for one in tuned(written(tmp_path, plain)).variants]
        assert found == [(k, t) for k in (0.5, 0.9, 1.0) for t in (1.0, 4.0)], "whatever stands first in the file"


def test_the_backend_of_a_quantizer_may_be_tuned(tmp_path: Path, schema: jsonschema.Draft202012Validator) -> None:
    plain = {**PLAIN, "stages": [{"quantize": {"samples": 8, "backend": tune("own", "onnxruntime", "dynamic")}}]}
    found = tuned(written(tmp_path, plain), 0)
    assert [one.stage for one in found.variants] == [
        Quantize(samples=8, backend=name) for name in ("own", "onnxruntime", "dynamic")
    ]
    schema.validate(plain)
    dumped = dump_pipeline(load_pipeline(written(tmp_path, plain)))
    assert tuned(written(tmp_path, dumped, "again.yaml"), 0) == found


def test_a_backend_that_cannot_train_is_refused_where_training_is_asked_for(tmp_path: Path) -> None:
    plain = {**PLAIN, "stages": [{"quantize": {"mode": "qat", "backend": tune("own", "dynamic")}}]}
    with pytest.raises(
        ConfigError, match=r"x\.yaml:\d+: stages\[0\]\.quantize: `mode: qat` trains.*which only `backend: own`"
    ):
        load_pipeline(written(tmp_path, plain))


def test_stages_are_tuned_apart(tmp_path: Path) -> None:
    plain = with_settings(DISTILL, temperature=tune(1, 4))
    plain["stages"][TRAIN]["train"]["learning_rate"] = tune(0.1, 0.2)
    stages = load_pipeline(written(tmp_path, plain)).stages
    assert [type(stage) for stage in stages] == [Tuned, Tuned, type(stages[PRUNE]), Distill]
    assert [one.stage for one in stages[TRAIN].variants] == [Train(epochs=4, learning_rate=r) for r in (0.1, 0.2)]
    assert len(stages[DISTILL].variants) == 2


def test_a_setting_inside_others(tmp_path: Path) -> None:
    plain = with_settings(
        DISTILL,
        losses=[{"kd": {"temperature": tune(2, 4)}}, {"task": {"weight": tune(0.1, 1)}}],
        student={"residual": {"widths": [8, tune(16, 32)]}},
    )
    found = tuned(written(tmp_path, plain))
    assert len(found.variants) == 8
    seen = {
        (
            one.stage.losses[0].kd.temperature,
            one.stage.losses[1].task.weight,
            one.stage.student.residual.widths,
        )
        for one in found.variants
    }
    assert seen == {(t, w, (8, width)) for t in (2.0, 4.0) for w in (0.1, 1.0) for width in (16, 32)}


def test_arguments_of_the_users_own_function_are_left_alone(tmp_path: Path) -> None:
    own = {"python": "mine:network", "arguments": {"depth": {"tune": [1, 2]}}}
    (stage,) = load_pipeline(written(tmp_path, with_settings(DISTILL, student=own))).stages[DISTILL : DISTILL + 1]
    assert isinstance(stage, Distill)
    assert stage.student is not None
    assert stage.student.arguments == {"depth": {"tune": [1, 2]}}


# -- and back --------------------------------------------------------------------------------------------------------

TUNED = {
    "one": {"temperature": tune(1, 2, 4, 8)},
    "two": {"temperature": tune(1, 2), "kd_weight": tune(0.5, 0.9)},
    "null": {"clip": tune(None, 1), "views": tune(None, 2)},
    "boolean and text": {"control": tune(True, False), "optimizer": tune("adamw", "sgd")},
    "inside": {
        "losses": [{"kd": {"temperature": tune(1, 2)}}, {"task": {"weight": 0.1}}],
        "cache": {"dtype": tune("float32", "float16")},
    },
    "whole networks": {"student": tune({"checkpoint": "small"}, {"residual": {"widths": [16]}})},
    "whole losses": {"losses": tune([{"kd": {"temperature": 2}}], [{"dist": {}}, {"task": {}}])},
    "a path": {"student": {"checkpoint": tune("small", "sub/large")}},
}


@pytest.mark.parametrize("name", TUNED)
def test_a_lock_file_means_the_same_wherever_it_lies(tmp_path: Path, name: str) -> None:
    """A lock lists every setting in another order, and lies in another folder than the file it was made of."""
    pipeline = load_pipeline(written(tmp_path, with_settings(DISTILL, **TUNED[name])))
    plain = dump_pipeline(pipeline)
    assert json.loads(json.dumps(plain)) == plain
    again = load_pipeline(written(tmp_path / "runs" / "x", {"lock_version": 1, "pipeline": plain}, "lock.yaml"))
    assert again == pipeline
    assert dump_pipeline(again) == plain


@pytest.mark.parametrize("name", TUNED)
def test_the_settings_of_a_tuned_stage_are_plain_and_name_every_value(tmp_path: Path, name: str) -> None:
    """They are part of the key of what the stage makes: other values must give another key."""
    found = tuned(written(tmp_path, with_settings(DISTILL, **TUNED[name])))
    settings = found.model_dump(mode="json")
    text = json.dumps(settings)
    assert text.count('"tune"') == len(found.variants[0].choice)
    assert set(settings) == set(found.first.model_dump())


def test_the_same_values_are_the_same_settings(tmp_path: Path) -> None:
    one, other = (
        tuned(written(tmp_path, with_settings(DISTILL, temperature=values))) for values in (tune(1, 2), tune(1.0, 2.0))
    )
    assert one == other
    assert one.model_dump(mode="json") == other.model_dump(mode="json")
    assert json.dumps(one.model_dump(mode="json")) == json.dumps(other.model_dump(mode="json"))


def test_an_override_may_tune(tmp_path: Path) -> None:
    path = written(tmp_path, PLAIN)
    given = load_pipeline(path, ["stages[1].temperature={tune: [1, 2]}", "stages.train.clip={tune: [null, 1.0]}"])
    plain = with_settings(DISTILL, temperature=tune(1, 2))
    plain["stages"][TRAIN]["train"]["clip"] = tune(None, 1.0)
    assert given == load_pipeline(written(tmp_path, plain))
    one = load_pipeline(written(tmp_path, plain), ["stages[1].temperature=3", "stages.train.clip=2"])
    assert not any(isinstance(stage, Tuned) for stage in one.stages), "and an override may end it"


# -- limits ----------------------------------------------------------------------------------------------------------


def test_as_many_variants_as_allowed(tmp_path: Path) -> None:
    path = written(tmp_path, with_settings(DISTILL, temperature=tune(*range(1, MAX_VARIANTS + 1))))
    assert len(tuned(path).variants) == MAX_VARIANTS
    path = written(tmp_path, with_settings(DISTILL, temperature=tune(*range(1, MAX_VARIANTS + 2))))
    with pytest.raises(ConfigError, match=rf"x\.yaml:\d+: stages\[1\]: `tune` makes {MAX_VARIANTS + 1} combinations"):
        load_pipeline(path)


def test_a_million_combinations_are_counted_not_made(tmp_path: Path) -> None:
    many = {name: tune(*(index / 100 for index in range(1, 100))) for name in ("temperature", "kd_weight", "clip")}
    with pytest.raises(ConfigError, match="`tune` makes 970299 combinations; at most 32 are tried"):
        load_pipeline(written(tmp_path, with_settings(DISTILL, **many)))


def test_a_value_that_only_a_later_variant_has_is_checked_too(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"x\.yaml:\d+: stages\[1\]\.distill: `kd_weight >= 0` must hold, but got -1"):
        load_pipeline(written(tmp_path, with_settings(DISTILL, temperature=tune(1, 2), kd_weight=tune(0.5, -1))))


# -- what editors are told -------------------------------------------------------------------------------------------

REFUSED = {
    "a task": {"task": {"image_classification": {"npz": "a.npz", "size": tune(8, 16)}}},
    "a model": {"model": {"residual": {"widths": tune([8], [16])}, "weights": "w.pt"}},
    "a reference": {"references": [{"distill": {"epochs": 2, "temperature": tune(1, 2)}}]},
    "another stage": {"stages": [{"prune": {"ratio": tune(0.4, 0.5)}}]},
    "a recovery": {"stages": [{"prune": {"ratio": 0.4, "recover": {"epochs": 2, "temperature": tune(1, 2)}}}]},
    "a whole stage": {"stages": [{"distill": tune({"epochs": 1}, {"epochs": 2})}]},
    "the epochs": {"stages": [{"distill": {"epochs": tune(1, 2)}}]},
    "one value": {"stages": [{"distill": {"epochs": 1, "temperature": tune(1)}}]},
    "one value twice": {"stages": [{"distill": {"epochs": 1, "temperature": tune(1, 1.0)}}]},
    "a wrong value": {"stages": [{"distill": {"epochs": 1, "temperature": tune(1, 0)}}]},
    "another key beside": {"stages": [{"distill": {"epochs": 1, "temperature": {**tune(1, 2), "by": 1}}}]},
    "tune in tune": {"stages": [{"distill": {"epochs": 1, "temperature": tune(1, tune(2, 3))}}]},
    "a seed": {"seed": tune(0, 1)},
}


@pytest.fixture(scope="module")
def schema() -> jsonschema.Draft202012Validator:
    plain = pipeline_schema()
    jsonschema.Draft202012Validator.check_schema(plain)
    return jsonschema.Draft202012Validator(plain)


@pytest.mark.parametrize("name", TUNED)
def test_the_schema_takes_a_tune_where_the_loader_does(
    tmp_path: Path, schema: jsonschema.Draft202012Validator, name: str
) -> None:
    plain = with_settings(DISTILL, **TUNED[name])
    schema.validate(plain)
    schema.validate(dump_pipeline(load_pipeline(written(tmp_path, plain))))


@pytest.mark.parametrize("name", REFUSED)
def test_the_schema_and_the_loader_refuse_a_tune_alike(
    tmp_path: Path, schema: jsonschema.Draft202012Validator, name: str
) -> None:
    plain = {**PLAIN, **REFUSED[name]}
    assert not schema.is_valid(plain)
    with pytest.raises(ConfigError, match=r"x\.yaml:\d+: "):
        load_pipeline(written(tmp_path, plain))


def test_the_schema_takes_what_is_not_tuned(schema: jsonschema.Draft202012Validator) -> None:
    schema.validate(PLAIN)
    schema.validate({**PLAIN, "stages": [{"quantize": None}, {"mutual": {"epochs": 1, "peers": []}}][:1]})
    assert not schema.is_valid({**PLAIN, "stages": [{"distil": {"epochs": 1}}]})
    assert not schema.is_valid({**PLAIN, "stages": [{"distill": {"epochs": 0}}]})
    assert not schema.is_valid({**PLAIN, "stages": [{"distill": {"epochs": 1, "temprature": 1}}]})
