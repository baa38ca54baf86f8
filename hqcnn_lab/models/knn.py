"""Nearest neighbours."""

from hqcnn_lab.models.estimator import PixelEstimator
from hqcnn_lab.models.limits import check_arguments


class KNN(PixelEstimator):
    """Give an image the label of the training image that looks most like it (Cover and Hart 1967).

    Use it to see how much of a score is memory: where slices of one patient, or copies, lie on both sides of a split,
    it does well without having learned anything. Not for publishing checkpoints: its own hold the training images.

    Images are averaged to `side`² pixels and compared by Euclidean distance; of `n_neighbors` the majority decides.
    """

    def __init__(self, n_classes: int, image_size: int, n_neighbors: int = 1, side: int = 32) -> None:
        check_arguments("KNN", locals())
        from sklearn.neighbors import KNeighborsClassifier

        super().__init__(KNeighborsClassifier(n_neighbors), side)

    @property
    def n_values(self) -> int:
        classifier = self.fitted.classifier
        return classifier.n_samples_fit_ * classifier.n_features_in_
