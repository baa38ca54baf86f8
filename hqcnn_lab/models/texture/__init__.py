"""Image operations without weights: denoising, segmentation and texture, of whole batches at a time."""

from hqcnn_lab.models.texture.adaptive_filter import adaptive_filter
from hqcnn_lab.models.texture.fuzzy_c_means import enhanced_fuzzy_c_means
from hqcnn_lab.models.texture.lbglcm import (
    HARALICK_FEATURES,
    OFFSETS,
    banded_lbglcm,
    glcm,
    haralick,
    lbglcm,
    local_binary_pattern,
)

__all__ = [
    "HARALICK_FEATURES",
    "OFFSETS",
    "adaptive_filter",
    "banded_lbglcm",
    "enhanced_fuzzy_c_means",
    "glcm",
    "haralick",
    "lbglcm",
    "local_binary_pattern",
]
