"""What networks are trained and measured on."""

from compresslab.tasks.image_classification import ImageClassification
from compresslab.tasks.spec import TaskSpec
from compresslab.tasks.task import Split, Task

__all__ = ["ImageClassification", "Split", "Task", "TaskSpec"]
