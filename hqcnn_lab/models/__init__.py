"""Networks, and the one LightningModule that trains any of them."""

from hqcnn_lab.models.classifier import ImageClassifier
from hqcnn_lab.models.hqcnn import HQCNN

__all__ = ["HQCNN", "ImageClassifier"]
