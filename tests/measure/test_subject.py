from __future__ import annotations

from pathlib import Path

import numpy as np

from compresslab.measure.preprocessing import FeaturePreprocessing, ImagePreprocessing
from compresslab.measure.subject import EXAMPLES, made_up_samples
from compresslab.measure.text_preprocessing import TextPreprocessing
from tests.texts import train_tokenizer


def test_made_up_samples_are_what_the_preprocessing_takes() -> None:
    """Features of the training data's size, as denormals or huge values would be timed otherwise."""
    image = ImagePreprocessing(height=2, width=3, channels=3, mean=(0.5,) * 3, std=(0.5,) * 3)
    assert image.normalize(made_up_samples(image)).shape == (EXAMPLES, 3, 2, 3)
    far = FeaturePreprocessing(width=4, mean=(1e6, 0.0, -3.0, 2.0), std=(1e3, 1e-6, 1.0, 5.0))
    for features in (far, FeaturePreprocessing(width=4)):
        prepared = features.normalize(made_up_samples(features))
        assert prepared.shape == (EXAMPLES, 4)
        assert np.abs(prepared.mean(axis=0)).max() < 0.8
        assert 0.5 < prepared.std(axis=0).min() < prepared.std(axis=0).max() < 1.6
        np.testing.assert_array_equal(made_up_samples(features), made_up_samples(features))


def test_made_up_texts_are_not_too_long_where_long_ones_are_refused(tmp_path: Path) -> None:
    """Verifying or exporting such a model would fail on texts that nobody gave."""
    file = train_tokenizer(tmp_path)
    cut, refused = (TextPreprocessing.of(file, pad_id=0, max_length=8, truncate=truncate) for truncate in (True, False))
    assert cut.lengths(made_up_samples(cut)).max() > 8
    texts = made_up_samples(refused)
    assert refused.normalize(texts).shape[0] == EXAMPLES
    assert all(texts)
