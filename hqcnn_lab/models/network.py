"""A network from its description, of this lab's networks and no others."""

from collections.abc import Mapping
from typing import Any

from hqcnn_lab import models
from hqcnn_lab.build import BuildError, build

NETWORKS = tuple(f"hqcnn_lab.models.{name}" for name in models.__all__ if name != "ImageClassifier")
"""What `_target_` of a network may name; a checkpoint, which people pass around, holds one too."""


def build_network(spec: Mapping[str, Any], n_classes: int, image_size: int) -> Any:
    """Build a network inside another. Raises `BuildError` for what is not one of `NETWORKS`."""
    if (target := spec.get("_target_")) not in NETWORKS:
        raise BuildError(f"_target_={target} is refused: a network's part may only be a network of this lab")
    return build(spec, n_classes=n_classes, image_size=image_size)
