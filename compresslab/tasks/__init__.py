"""What networks are trained and measured on."""

from compresslab.tasks.image_classification import ImageClassification
from compresslab.tasks.objective import Classes, Objective, Score
from compresslab.tasks.regression import Regression
from compresslab.tasks.spec import TaskSpec
from compresslab.tasks.task import Split, Task
from compresslab.tasks.text_classification import TextClassification
from compresslab.tasks.text_regression import TextRegression

__all__ = [
    "Classes", "ImageClassification", "Objective", "Regression", "Score", "Split", "Task", "TaskSpec",
    "TextClassification", "TextRegression",
]  # fmt: skip
