"""What networks are trained and measured on."""

from compresslab.tasks.benchmark import Benchmark
from compresslab.tasks.embedding import EmbeddingTask, embedding_task
from compresslab.tasks.image_classification import ImageClassification
from compresslab.tasks.objective import Classes, Embeddings, Objective, Score
from compresslab.tasks.regression import Regression
from compresslab.tasks.spec import TaskSpec
from compresslab.tasks.task import Split, Task
from compresslab.tasks.text_classification import TextClassification
from compresslab.tasks.text_embedding import TextEmbedding
from compresslab.tasks.text_regression import TextRegression

__all__ = [
    "Benchmark",
    "Classes",
    "EmbeddingTask",
    "Embeddings",
    "ImageClassification",
    "Objective",
    "Regression",
    "Score",
    "Split",
    "Task",
    "TaskSpec",
    "TextClassification",
    "TextEmbedding",
    "TextRegression",
    "embedding_task",
]
