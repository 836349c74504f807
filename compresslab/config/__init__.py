"""Plain data -> Pipeline, and back: what a YAML file may say, and what it is told when it says something else."""

from compresslab.config.document import PipelineDocument, StageEntry
from compresslab.config.loading import dump_pipeline, load_pipeline, pipeline_schema

__all__ = ["PipelineDocument", "StageEntry", "dump_pipeline", "load_pipeline", "pipeline_schema"]
