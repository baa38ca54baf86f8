"""A vote of trained networks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hqcnn_lab.models.limits import check_arguments
from hqcnn_lab.models.network import build_network

if TYPE_CHECKING:
    from hqcnn_lab.data import ImageDataModule

# What the mean of probabilities weighs beside a whole vote: it decides ties and nothing else.
_TIE = 1e-3


class Ensemble(nn.Module):
    """Let the networks of several runs vote (Gulcer and Namli 2024, reference [12] of the paper).

    `voting="soft"`: the mean of their probabilities. `"hard"`: a vote each, for its own likeliest class; where classes
    tie, the one with the higher mean probability wins, and of equal ones the first. Use it on runs that differ, by
    seed, network or optimizer; copies of one run agree on their mistakes. Costs what its members cost together.

    Nothing is trained: `fit` takes the networks from `runs` and a checkpoint then holds them, so that it needs the
    folders no more. `[B, 1, H, W]` in [0, 1] → logarithms of probabilities (soft) or of shares of votes (hard).
    """

    def __init__(self, n_classes: int, image_size: int, runs: list[str], voting: str = "soft") -> None:
        check_arguments("Ensemble", locals())
        super().__init__()
        self.n_classes, self.image_size, self.runs, self.voting = n_classes, image_size, runs, voting
        self.specs: list[dict[str, Any]] = []
        self.members = nn.ModuleList()

    def fit(self, data: ImageDataModule) -> None:
        """Load the members. Raises `UnusableData` for a run that saw other images, classes or another split.

        A run of another split may have been trained on images that are tested here.
        """
        from hqcnn_lab.data.datamodule import UnusableData
        from hqcnn_lab.data.split.manifest import manifest_hash, read_manifest
        from hqcnn_lab.models.trained import UnusableRun, load_run

        split, members = manifest_hash(data.manifest_text()), []
        for run in self.runs:
            try:
                member = load_run(run)
            except UnusableRun as error:
                raise UnusableData(f"model.runs: {run}: {error}") from None
            if member.classes != list(data.classes):
                raise UnusableData(
                    f"model.runs: {run}: its classes are {', '.join(member.classes)}, those here "
                    f"{', '.join(data.classes)}, in this order; they have to be the same"
                )
            if member.image_size != self.image_size:
                raise UnusableData(
                    f"model.runs: {run}: sees {member.image_size} pixels, not dataset.image_size={self.image_size}"
                )
            try:
                rows = read_manifest(Path(run) / "split_manifest.csv")
            except ValueError as error:
                raise UnusableData(f"model.runs: {error}") from None
            if member.config is None or manifest_hash(rows) != split:
                raise UnusableData(
                    f"model.runs: {run}: its images, or their split, are not those asked for here: it may have been "
                    "trained on what is tested now"
                )
            members.append(member)
        self._take([member.config["model"] for member in members])
        for mine, member in zip(self.members, members, strict=True):
            mine.load_state_dict(member.net.state_dict())

    def _take(self, specs: list[dict[str, Any]]) -> None:
        nets = [build_network(spec, self.n_classes, self.image_size) for spec in specs]
        self.specs, self.members = specs, nn.ModuleList(nets).requires_grad_(False).train(self.training)

    @property
    def n_values(self) -> int:
        return sum(p.numel() for p in self.parameters())

    def forward(self, images: Tensor) -> Tensor:
        probabilities = torch.stack([member(images).float().softmax(1) for member in self.members])
        mean = probabilities.mean(0)
        if self.voting == "soft":
            return mean.clamp(min=1e-12).log()
        votes = nn.functional.one_hot(probabilities.argmax(2), self.n_classes).float().mean(0)
        return ((votes + _TIE * mean) / (1 + _TIE)).clamp(min=1e-12).log()

    # What the members are travels with their weights; read first, so that there is something to load these into.
    def get_extra_state(self) -> Tensor:
        return torch.tensor(list(json.dumps(self.specs).encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        self._take(json.loads(bytes(state.cpu().tolist())))
