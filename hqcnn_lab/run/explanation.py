"""Where a network looks: a picture for each image, of what speaks for the class that it is taken for."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from hqcnn_lab.figures.heat_map import heat_map_figure
from hqcnn_lab.models.explain import NoGradient, integrated_gradients, occlusion
from hqcnn_lab.record.whole_file import whole_folder
from hqcnn_lab.run.how_far import with_progress

if TYPE_CHECKING:
    from hqcnn_lab.data.inputs import Inputs
    from hqcnn_lab.models.trained import TrainedModel

AT_A_TIME = 8  # images
_LONGEST_NAME = 255  # bytes


def explain(folder: Path, trained: "TrainedModel", inputs: "Inputs", probabilities: torch.Tensor) -> None:
    """Write a picture for each image into a new folder, which appears once it is whole."""
    classes = probabilities.argmax(1)
    print(f"explaining {len(classes)} image{'s' if len(classes) > 1 else ''}", file=sys.stderr, flush=True)
    batches = torch.arange(len(classes)).split(AT_A_TIME)
    with whole_folder(folder) as scratch:
        for index in with_progress(batches, [len(batch) for batch in batches], "explained"):
            images = torch.from_numpy(inputs.images[index.numpy()]).float().unsqueeze(1).to(trained.device)
            predicted = classes[index].to(trained.device)
            side = max(trained.image_size // 8, 2)  # of the square that occlusion covers
            try:
                looks = integrated_gradients(trained.net, images, predicted).cpu().numpy()
            except NoGradient:
                looks = [None] * len(images)
            falls = occlusion(trained.net, images, predicted, patch=side, stride=side // 2)
            for i, image, look, fall in zip(index.tolist(), images, looks, falls, strict=True):
                answer = f"{trained.classes[int(classes[i])]} ({100 * probabilities[i].max():.0f} %)"
                figure = heat_map_figure(image[0].cpu().numpy(), look, fall.cpu().numpy(), answer)
                path = scratch / picture_of(inputs.names[i], i)
                path.parent.mkdir(parents=True, exist_ok=True)
                figure.savefig(path, dpi=120)


def picture_of(name: str, number: int) -> Path:
    """The file of an image's picture: its own name, shortened where a file system would not take it."""
    path = Path(f"{name}.png")
    return path if len(os.fsencode(path.name)) <= _LONGEST_NAME else path.with_name(f"{path.name[:40]}…{number}.png")
