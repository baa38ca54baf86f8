"""The phantom: what it returns, what it depends on, that its tumours sit where they should, that it is not easy."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from hqcnn_lab.data import PhantomDataModule
from hqcnn_lab.data.datamodule import UnusableData
from hqcnn_lab.data.phantom.generate import generate
from hqcnn_lab.data.source.layout import CLASSES


@pytest.fixture(scope="module")
def phantom():
    return generate(1400, seed=0)


@pytest.mark.slow
def test_shapes_types_and_range(phantom):
    images, labels = phantom
    assert images.shape == (1400, 64, 64)
    assert images.dtype == np.float32
    assert labels.shape == (1400,)
    assert labels.dtype == np.int64
    assert np.all(images.min((1, 2)) == 0)
    assert np.all(images.max((1, 2)) == 1)


@pytest.mark.parametrize("size", [32, 96])
def test_other_sizes(size):
    images, _ = generate(3, seed=0, size=size)
    assert images.shape == (3, size, size)
    assert np.isfinite(images).all()


@pytest.mark.parametrize("n_images", [0, 1, 5, 31, 32, 33])
def test_an_image_depends_on_seed_and_index_alone(phantom, n_images):
    images, labels = generate(n_images, seed=0)
    np.testing.assert_array_equal(images, phantom[0][:n_images])
    np.testing.assert_array_equal(labels, phantom[1][:n_images])


def test_global_random_state_is_neither_read_nor_written(phantom):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    np.testing.assert_array_equal(generate(8, seed=0)[0], phantom[0][:8])
    assert torch.equal(torch.get_rng_state(), before)


def test_seeds_and_images_differ(phantom):
    other = generate(64, seed=1)[0]
    both = np.concatenate([phantom[0][:64], other]).reshape(128, -1)
    distance = np.abs(both[:, None, ::8] - both[None, :, ::8]).mean(-1) + np.eye(128)
    assert distance.min() > 0.01


@pytest.mark.parametrize("n_images", [1, 6, 50, 1400])
def test_every_prefix_is_balanced(phantom, n_images):
    counts = np.bincount(phantom[1][:n_images], minlength=len(CLASSES))
    assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("arguments", [(-1, 0), (1, -1), (1, 0, 8)])
def test_bad_arguments_are_named(arguments):
    with pytest.raises(ValueError, match="n_images >= 0"):
        generate(*arguments)


def test_tumours_sit_where_they_should(phantom):
    """Against the mean normal slice: a pituitary mass brightens the centre most, a meningioma the rim."""
    images, labels = phantom
    axis = np.abs(np.arange(64) - 31.5) / 32
    radius = np.hypot(axis[:, None], axis)
    centre, rim = radius < 0.2, (radius > 0.4) & (radius < 0.7) & (np.arange(64)[:, None] < 36)
    mean = [images[labels == k].mean(0) for k in range(4)]
    excess = {name: mean[k] - mean[CLASSES.index("notumor")] for k, name in enumerate(CLASSES)}
    assert max(excess, key=lambda name: excess[name][centre].mean()) == "pituitary"
    assert max(excess, key=lambda name: excess[name][rim].mean()) == "meningioma"


@pytest.mark.slow
def test_a_linear_model_stays_under_80_percent(phantom):
    """The phantom's reason to exist: pixels must not be enough. The best penalty on the test set counts."""
    images, labels = (torch.from_numpy(array) for array in phantom)
    x = images.flatten(1)
    x = (x - x[:1000].mean(0)) / (x[:1000].std(0) + 1e-3)
    train, test, target = x[:1000], x[1000:], labels[:1000]
    scores = []
    for penalty in (0.03, 0.3):
        weight = torch.zeros(x.shape[1] + 1, 4, requires_grad=True)
        optimizer = torch.optim.LBFGS([weight], max_iter=30, line_search_fn="strong_wolfe")

        def loss(weight=weight, optimizer=optimizer, penalty=penalty):
            optimizer.zero_grad()
            value = functional.cross_entropy(train @ weight[:-1] + weight[-1], target)
            value = value + penalty * weight[:-1].square().sum()
            value.backward()
            return value

        optimizer.step(loss)
        scores.append(((test @ weight[:-1] + weight[-1]).argmax(1) == labels[1000:]).float().mean().item())
    assert 0.4 < max(scores) < 0.8  # under 0.4 the linear model itself would be broken


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"n_images": 10**9}, "1000000000 images of 64×64 pixels need 15,2"),
        ({"n_images": 2**40}, "need 16,777,2"),
        ({"n_images": 10**400}, "need "),
        ({"n_images": 1, "size": 10**6}, "1 images of 1000000×1000000 pixels need "),
        ({"n_images": -1}, "need n_images >= 0"),
        ({"n_images": 1, "size": 15}, "size >= 16"),
    ],
)
def test_more_than_the_memory_holds_is_refused_in_a_line(arguments, words):
    # Regression: a traceback of numpy's, or an hour of drawing before the system ended the process.
    with pytest.raises(ValueError, match=words) as error:
        generate(seed=0, **arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("argument", ["n_train", "n_test"])
@pytest.mark.parametrize("n", [10**9, 2**40, -1])
def test_the_data_set_names_the_argument(argument, n):
    with pytest.raises(UnusableData, match=rf"^dataset\.{argument}\b.*{n}"):
        PhantomDataModule(**({"n_train": 40, "n_test": 8, "image_size": 16} | {argument: n})).setup()
