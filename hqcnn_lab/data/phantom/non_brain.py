"""Pictures of anything but brains, without a download: for a network that should say "this is no brain"."""

import numpy as np

# Pictures that scikit-image brings along; those of a set never lie on both sides. (Its "phantom" is a head.)
LEARNED = ("astronaut", "brick", "camera", "cell", "coffee", "grass", "hubble_deep_field", "moon", "page", "retina")
HELD_OUT = ("cat", "clock", "coins", "gravel", "horse", "immunohistochemistry", "rocket", "text")


def non_brain_images(n: int, side: int, seed: int, pictures: tuple[str, ...] = LEARNED) -> np.ndarray:
    """`[n, side, side]` float32 in [0, 1]: crops of pictures, and every fourth smoothed noise.

    Crops are of any size from a third of a picture on, turned by quarters and mirrored; each fills [0, 1], as images
    that are read do. `LEARNED` and `HELD_OUT` are photographs, textures, microscopy and a retina: far from MR slices.
    What is tried on them says nothing about other organs or other scanners' slices.
    """
    from scipy.ndimage import gaussian_filter
    from skimage import data
    from skimage.color import rgb2gray
    from skimage.transform import resize
    from skimage.util import img_as_float

    rng = np.random.default_rng(seed)
    loaded = [np.asarray(img_as_float(getattr(data, name)())) for name in pictures]
    gray = [np.asarray(rgb2gray(picture[..., :3])) if picture.ndim == 3 else picture for picture in loaded]
    small = [min(1.0, 4 * side / min(picture.shape)) for picture in gray]  # once: crops of large pictures take long
    shapes = [[round(scale * length) for length in picture.shape] for picture, scale in zip(gray, small, strict=True)]
    gray = [np.asarray(resize(p, shape, anti_aliasing=True)) for p, shape in zip(gray, shapes, strict=True)]
    images = np.empty((n, side, side), np.float32)
    for i in range(n):
        if i % 4 == 3:
            image = gaussian_filter(rng.standard_normal((side, side)), rng.uniform(0, side / 8))
        else:
            picture = gray[rng.integers(len(gray))]
            size = rng.integers(min(picture.shape) // 3, min(picture.shape) + 1)
            y, x = (rng.integers(length - size + 1) for length in picture.shape)
            image = np.rot90(picture[y : y + size, x : x + size], int(rng.integers(4)))[:: rng.choice([-1, 1])]
            image = np.asarray(resize(image, (side, side), anti_aliasing=True))
        low, high = image.min(), image.max()
        images[i] = (image - low) / max(high - low, 1e-6)
    return images
