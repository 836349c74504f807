"""The model card: what is known of a model, and nothing else. No sentence in it is there to be filled in."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from compresslab.bundle.snippet import FEATURES, IMAGE, answer_sample, open_graphs
from compresslab.report import figures
from compresslab.report.headline import comparison
from compresslab.report.lineage import names, path_to, point_by_id
from compresslab.report.markdown_syntax import bullets, code, escape, table
from compresslab.report.results import results
from compresslab.report.table import Column, Row, Table, machine_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from compresslab.measure.artifact import Manifest, TensorInfo
    from compresslab.measure.preprocessing import FeaturePreprocessing
    from compresslab.report import Point, Report
    from compresslab.report.schema import LatencyResult, PointResult

_MOST_SHOWN = 16


def model_card(point: Point, report: Report) -> str:
    """The card as Markdown."""
    found = results(report)
    told, manifest = point_by_id(found, point.id), point.artifact.manifest
    path, named = path_to(found, told), names(found)
    parts = [
        f"# {escape(report.pipeline)}: {escape(named[point.id])}",
        escape(comparison(found, told)),
        "## Use",
        *_use(manifest),
        "## Inputs and outputs",
        table(_signature(manifest)),
        escape(_preprocessing(manifest)),
        *_labels(manifest),
        "## Measured",
        table(_measured(told, manifest.target is None)),
        escape(_scope(told)),
        table(machine_table(report.machine)),
        "## How it was made",
        "\n".join(f"{index}. {_step(step, named)}" for index, step in enumerate(path, 1)),
        "## Files",
        table(_files(manifest)),
        "For programs, `manifest.json` holds signature, preprocessing, labels and where the model comes from.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _use(manifest: Manifest) -> list[str]:
    if len(manifest.graphs) == 1:
        intro = f"With onnxruntime, numpy and Pillow, in this folder, on an image of yours named `{IMAGE}`:"
        if manifest.preprocessing.kind == "features":
            intro = f"With onnxruntime and numpy, in this folder, on rows of features of yours in `{FEATURES}`:"
        return [intro, f"```python\n{answer_sample(manifest)}\n```"]
    return ["With onnxruntime, in this folder:", f"```python\n{open_graphs(manifest)}\n```"]


def _signature(manifest: Manifest) -> Table:
    columns = (Column("graph"), Column("direction"), Column("name"), Column("type"), Column("shape"))
    rows = []
    for name, info in manifest.graphs.items():
        rows += [_tensor(name, "input", one) for one in info.inputs]
        rows += [_tensor(name, "output", one) for one in info.outputs]
    return Table("A dimension with a name may have any size.", columns, tuple(rows))


def _tensor(graph: str, direction: str, tensor: TensorInfo) -> Row:
    return Row(graph, (graph, direction, tensor.name, tensor.dtype, " x ".join(map(str, tensor.shape))))


def _preprocessing(manifest: Manifest) -> str:
    how = manifest.preprocessing
    if how.kind == "features":
        return f"Inputs are {_features(how)}. {_outputs(manifest)}"
    colour = "grey" if how.channels == 1 else "RGB"
    share = f"the central {100 * how.crop:g} % of each side, " if how.crop < 1 else ""
    return (
        f"Inputs are {colour} images: {share}resized ({how.resize}) to {how.height} rows of {how.width} pixels, values "
        f"0 to 255 divided by 255, less {_numbers(how.mean)}, divided by {_numbers(how.std)}, channels first. "
        f"{_outputs(manifest)}"
    )


def _features(how: FeaturePreprocessing) -> str:
    rows = f"rows of {how.width} features, in the order of the training data, "
    if not how.mean:
        return f"{rows}as they are"
    if how.width > _MOST_SHOWN:
        return f"{rows}each less its mean, divided by its deviation; both are in manifest.json"
    return f"{rows}each less its mean ({_numbers(how.mean)}), divided by its deviation ({_numbers(how.std)})"


def _outputs(manifest: Manifest) -> str:
    if manifest.target is not None:
        return f"The output is {manifest.target}, in the units of the training data."
    return "Outputs are one score a class, before softmax."


def _labels(manifest: Manifest) -> list[str]:
    if not manifest.labels:
        return []
    return [
        "Classes, in the order of the outputs:",
        bullets(f"{index}: {name}" for index, name in enumerate(manifest.labels)),
    ]


def _measured(point: PointResult, is_classification: bool) -> Table:
    rows: list[tuple[str, str]] = []
    for split, qualities in (("validation", point["quality"]["validation"]), ("test", point["quality"]["test"])):
        for metric, quality in qualities.items():
            count = f", n={figures.count(quality['n'])}" if quality["n"] is not None else ""
            rows.append((f"{metric} on {split}", f"{figures.percent_interval(quality)} %{count}"))
    for metric, retained in point["retention"].items():
        rows.append((f"{metric}, retained of the teacher's", f"{figures.percent_interval(retained)} %"))
    if point["agreement_with_teacher"] is not None:
        what = "same answer as the teacher" if is_classification else "correlation with the teacher's answers"
        rows.append((what, f"{figures.percent(point['agreement_with_teacher'])} %"))
    rows += [_latency(latency) for latency in point["latency_ms"]]
    rows.append(("peak memory of a process that runs it", f"{figures.significant(point['peak_rss_mb'])} MB"))
    rows.append(("size", f"{figures.kilobytes(point['artifact']['bytes'])} kB"))
    rows.append(("parameters", figures.count(point["params"])))
    rows.append(("multiply-adds an example", figures.count(point["macs"])))
    if point["parity"] is not None:
        difference = f"at most {point['parity']['max_abs_diff']:.1e} over {point['parity']['n']} inputs"
        rows.append(("difference to the torch module", difference))
    integer = point["integer_operators"]
    rows.append(("operators that run in integers", f"{integer['integer']} of the {integer['eligible']} that could"))
    columns = (Column("what"), Column("value"))
    return Table("95 % intervals in brackets.", columns, tuple(Row(what, (what, value)) for what, value in rows))


def _latency(latency: LatencyResult) -> tuple[str, str]:
    what = f"latency ({latency['graph']}, batch {latency['batch']}, threads {latency['threads']})"
    low, high = figures.milliseconds(latency["p50_low"]), figures.milliseconds(latency["p50_high"])
    told = f"p50 {figures.milliseconds(latency['p50'])} ms [{low}, {high}]"
    for name, value in (("p90", latency["p90"]), ("p99", latency["p99"])):
        if value is not None:
            told += f", {name} {figures.milliseconds(value)} ms"
    return what, told if latency["session"] == "default" else f"{told}, session {latency['session']}"


def _scope(point: PointResult) -> str:
    """What the figures do not cover."""
    metrics = [*point["quality"]["validation"], *point["quality"]["test"]]
    benchmarks = sorted({metric.rsplit("/", 1)[0] for metric in metrics})
    if not benchmarks:
        return "Quality was not measured."
    return f"Quality was measured on {', '.join(benchmarks)} only, and speed on the machine below only."


def _step(step: PointResult, named: dict[str, str]) -> str:
    told = escape(named[step["id"]])
    for what, plain in (("settings", step["settings"]), ("decided", step["decisions"])):
        if plain:
            told += f"; {what}: {code(json.dumps(plain, ensure_ascii=False))}"
    return told


def _files(manifest: Manifest) -> Table:
    columns = (Column("graph"), Column("file"), Column("bytes", True), Column("opset", True), Column("SHA-256"))
    rows = tuple(
        Row(name, (name, info.file, figures.count(info.bytes), str(info.opset), info.sha256))
        for name, info in manifest.graphs.items()
    )
    return Table("The exported graphs.", columns, rows)


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
