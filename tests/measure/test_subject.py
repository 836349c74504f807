from __future__ import annotations

import numpy as np

from compresslab.measure.preprocessing import FeaturePreprocessing, ImagePreprocessing
from compresslab.measure.subject import EXAMPLES, made_up_samples


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
