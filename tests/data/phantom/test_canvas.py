"""The phantom's canvas: what is left out, or done in another way to be quick, changes no bit of any image."""

import pytest
import torch
from torch.nn.functional import avg_pool2d

from hqcnn_lab.data.phantom.canvas import Canvas, smoothed
from hqcnn_lab.data.phantom.generate import generate


@pytest.mark.parametrize("size", [16, 64])
def test_painting_only_the_images_that_show_it_changes_no_bit(monkeypatch, size):
    images, labels = generate(64, seed=5, size=size)
    where = Canvas.where
    monkeypatch.setattr(Canvas, "where", lambda canvas, mask: where(canvas, torch.ones_like(mask)))
    every_image, same_labels = generate(64, seed=5, size=size)
    assert (images == every_image).all()
    assert (labels == same_labels).all()


def test_all_images_are_painted_where_pixels_are_left_over(monkeypatch):
    n_painted = []
    paint = Canvas.paint
    monkeypatch.setattr(
        Canvas, "paint", lambda canvas, pictures, mine: (n_painted.append(len(mine)), paint(canvas, pictures, mine))
    )
    generate(32, seed=0, size=20)
    assert set(n_painted) == {32}


@pytest.mark.parametrize("size", [(5, 16, 16), (2, 33, 20)])
def test_smoothing_is_average_pooling_to_the_bit(size):
    pictures = torch.rand(size, generator=torch.Generator().manual_seed(0))
    assert torch.equal(smoothed(pictures), avg_pool2d(pictures[:, None], 3, 1, 1)[:, 0])
