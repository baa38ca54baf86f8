"""scikit-learn in a network's place: what is decided is what scikit-learn decides, and a checkpoint is data."""

import io
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

from hqcnn_lab.config.compose import compose
from hqcnn_lab.data.decode.features import cached_features
from hqcnn_lab.models import ImageClassifier
from hqcnn_lab.models.cnn_features import CNNFeatures
from hqcnn_lab.models.estimator import Estimator, Fitted, averaged
from hqcnn_lab.models.hog_svm import HOGSVM
from hqcnn_lab.models.knn import KNN
from hqcnn_lab.models.limits import CLASSIFIERS
from hqcnn_lab.models.linear import Linear
from hqcnn_lab.models.simple_cnn import SimpleCNN
from hqcnn_lab.run.training import train


def small_data(n_classes: int = 3, n: int = 60, side: int = 32) -> SimpleNamespace:
    """Noise with a bright bar whose place is the class's; the last third is left out of training."""
    rng = np.random.default_rng(0)
    labels = np.arange(n) % n_classes
    images = rng.uniform(0, 0.7, (n, side, side)).astype(np.float16)
    for image, label in zip(images, labels, strict=True):
        image[8 * label : 8 * label + 4] += 0.25
    train, test = np.split(np.arange(n), [2 * n // 3])
    return SimpleNamespace(images=images, labels=labels, split=SimpleNamespace(train=train, test=test))


def held_out(data: SimpleNamespace) -> torch.Tensor:
    return torch.from_numpy(data.images[data.split.test]).float().unsqueeze(1)


@pytest.mark.parametrize(
    ("model", "reference"),
    [
        (KNN(3, 32, n_neighbors=3), KNeighborsClassifier(3)),
        (Linear(3, 32, C=0.1), LogisticRegression(C=0.1, max_iter=2000)),
        (HOGSVM(3, 32), SVC(C=10.0)),
    ],
    ids=["knn", "linear", "hog_svm"],
)
def test_decides_as_scikit_learn_does_on_the_same_features(model: Estimator, reference: object) -> None:
    data = small_data()
    model.fit(data)
    train, test = data.split.train, data.split.test
    reference.fit(model.describe(data.images[train]), data.labels[train])
    expected = reference.predict(model.describe(data.images[test].astype(np.float32)))
    scores = model(held_out(data))
    assert scores.shape == (20, 3)
    assert scores.dtype == torch.float32
    assert torch.isfinite(scores).all()
    assert scores.argmax(1).tolist() == expected.tolist()
    assert (expected == data.labels[test]).mean() > 0.5  # by chance 0.33
    assert model.n_values > 0


@pytest.mark.slow
@pytest.mark.parametrize("make", [KNN, Linear, HOGSVM])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_state_goes_into_another_instance(make: type[Estimator], n_classes: int) -> None:
    data = small_data(n_classes)
    model, other = make(n_classes, 32), make(n_classes, 32)
    model.fit(data)
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    buffer.seek(0)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    scores = model(held_out(data))
    assert scores.shape == (len(data.split.test), n_classes)
    assert torch.equal(other(held_out(data)), scores)


def test_scores_of_two_classes_point_the_right_way() -> None:
    # A support vector machine of two classes has one decision value, not two.
    data = small_data(2)
    model = HOGSVM(2, 32)
    model.fit(data)
    train = torch.from_numpy(data.images[data.split.train]).float().unsqueeze(1)
    assert (model(train).argmax(1).numpy() == data.labels[data.split.train]).mean() > 0.9


def test_what_is_not_scikit_learns_is_refused() -> None:
    # A checkpoint may come from anybody. skops names each type; one that runs commands is no classifier's part.
    fitted = Fitted(KNeighborsClassifier(1))
    fitted.fit(np.eye(3), np.arange(3))
    with zipfile.ZipFile(io.BytesIO(fitted.get_extra_state().numpy().tobytes())) as whole:
        parts = {name: whole.read(name) for name in whole.namelist()}
    planted = parts["schema.json"].replace(b'"KNeighborsClassifier"', b'"system"')
    planted = planted.replace(b'"sklearn.neighbors._classification"', b'"os"')
    assert planted != parts["schema.json"]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as changed:
        for name, content in (parts | {"schema.json": planted}).items():
            changed.writestr(name, content)
    with pytest.raises(ValueError, match=r"its classifier is refused: Untrusted types found"):
        fitted.set_extra_state(torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8))
    assert isinstance(fitted.classifier, KNeighborsClassifier)


def test_classifier_of_another_type_is_refused() -> None:
    knn, linear = Fitted(KNeighborsClassifier(1)), Fitted(LogisticRegression())
    knn.fit(np.eye(3), np.arange(3))
    with pytest.raises(ValueError, match="a KNeighborsClassifier, not a LogisticRegression"):
        linear.set_extra_state(knn.get_extra_state())


def test_tree_that_leads_nowhere_is_refused() -> None:
    # scikit-learn follows a tree's indices without looking: one out of range reads foreign memory, or ends the process.
    features = np.random.default_rng(0).random((40, 3))
    forest = Fitted(RandomForestClassifier(2, random_state=0))
    forest.fit(features, (features[:, 0] > 0.5).astype(int))
    fresh = Fitted(RandomForestClassifier(2))
    fresh.set_extra_state(forest.get_extra_state())
    assert torch.equal(fresh(torch.from_numpy(features)), forest(torch.from_numpy(features)))
    tree = forest.classifier.estimators_[1].tree_
    tree.children_left[0] = 10**6  # a view of the tree's own memory
    with pytest.raises(ValueError, match="a tree of it is damaged"):
        fresh.set_extra_state(forest.get_extra_state())


@pytest.mark.slow
@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_classifier_takes_over_once_it_is_fitted(classifier: str) -> None:
    data = small_data()
    torch.manual_seed(0)
    model = CNNFeatures(3, 32, classifier, widths=[4, 8]).eval()
    images = held_out(data)
    as_network = model(images)
    assert torch.equal(as_network, SimpleCNN.forward(model, images))
    model.fit(data)
    with torch.no_grad():
        features = model.head[:-1](model.features((images - 0.2) / 0.25)).numpy()
    assert model(images).argmax(1).tolist() == model.fitted.classifier.predict(features).tolist()
    assert not torch.equal(model(images), as_network)
    other = CNNFeatures(3, 32, classifier, widths=[4, 8]).eval()
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(images), model(images))
    assert model.train()(images).requires_grad  # trained on, it is a network again


@pytest.mark.slow
def test_a_run_that_goes_on_is_judged_by_its_network_until_it_is_fitted_again(tmp_path: Path) -> None:
    # Regression: the classifier of the earlier end went on judging features that had changed.
    base = ["model=cnn_features", "model.widths=[4,8]", "dataset.image_size=32", "dataset.n_train=80", "name=tiny"]
    base += ["dataset.n_test=8", "dataset.batch_size=16", "logger=none", "figures=false", "trainer.log_every_n_steps=1"]
    train(compose([*base, "trainer.max_epochs=1", f"paths.output_dir={tmp_path}/a"]))
    seen: list[bool] = []
    step = ImageClassifier.validation_step

    def watched(self: ImageClassifier, *batch: object) -> None:
        seen.append(self.net.fitted.is_fitted)
        step(self, *batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ImageClassifier, "validation_step", watched)
        more = [f"ckpt_path={tmp_path}/a/checkpoints/last.ckpt", f"paths.output_dir={tmp_path}/b"]
        train(compose([*base, "trainer.max_epochs=2", *more]))
    assert seen == [False, True]


def test_averaged_pixels() -> None:
    images = np.arange(32, dtype=np.float16).reshape(2, 4, 4)
    assert averaged(images, 2)[0].tolist() == [2.5, 4.5, 10.5, 12.5]
    assert averaged(images, 64).tolist() == images.reshape(2, 16).tolist()  # nothing is made up


def test_features_are_computed_once(tmp_path: Path) -> None:
    images, calls = np.random.default_rng(0).random((5, 4, 4)), []

    def describe(pixels: np.ndarray) -> np.ndarray:
        calls.append(len(pixels))
        return pixels.reshape(len(pixels), -1)

    first = cached_features(describe, images, "flat", tmp_path)
    assert np.array_equal(cached_features(describe, images, "flat", tmp_path), first)
    assert calls == [5]
    cached_features(describe, images, "other", tmp_path)
    cached_features(describe, images + 1e-9, "flat", tmp_path)
    assert calls == [5, 5, 5]
    assert len(list(tmp_path.iterdir())) == 3
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:50])  # torn by a kill
    assert np.array_equal(cached_features(describe, images, "flat", tmp_path), first)
    cached_features(describe, images, "flat", None)
    assert calls == [5, 5, 5, 5, 5]
