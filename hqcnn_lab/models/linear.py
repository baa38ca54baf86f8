"""Logistic regression."""

from hqcnn_lab.models.estimator import PixelEstimator
from hqcnn_lab.models.limits import check_arguments


class Linear(PixelEstimator):
    """Logistic regression on pixels, averaged to `side`² of them: whether a task needs more than a weighted sum.

    Multinomial, with an L2 penalty of inverse strength `C`; the optimum, found by L-BFGS, depends on no seed.
    """

    def __init__(self, n_classes: int, image_size: int, C: float = 1.0, side: int = 32) -> None:
        check_arguments("Linear", locals())
        from sklearn.linear_model import LogisticRegression

        super().__init__(LogisticRegression(C=C, max_iter=2000), side)

    @property
    def n_values(self) -> int:
        return self.fitted.classifier.coef_.size + self.fitted.classifier.intercept_.size
