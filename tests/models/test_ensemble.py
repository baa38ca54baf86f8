"""A vote: how it is counted, and whose votes are taken."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import TINY, tiny_config
from torch import Tensor, nn

from hqcnn_lab.build import BuildError
from hqcnn_lab.config.compose import compose
from hqcnn_lab.data.datamodule import UnusableData
from hqcnn_lab.models.ensemble import Ensemble
from hqcnn_lab.models.trained import load_run
from hqcnn_lab.models.two_stage import TwoStage
from hqcnn_lab.run.training import train


class Says(nn.Module):
    """A member that gives these probabilities to every image."""

    def __init__(self, *probabilities: float) -> None:
        super().__init__()
        self.scores = torch.tensor(probabilities).log()

    def forward(self, images: Tensor) -> Tensor:
        return self.scores.expand(len(images), -1)


def vote(voting: str, *members: nn.Module) -> Tensor:
    ensemble = Ensemble(3, 16, [], voting)
    ensemble.members = nn.ModuleList(members)
    return ensemble(torch.zeros(1, 1, 16, 16))[0].exp()


def test_soft_vote_is_the_mean_of_probabilities() -> None:
    mean = vote("soft", Says(0.6, 0.3, 0.1), Says(0.2, 0.3, 0.5))
    torch.testing.assert_close(mean, torch.tensor([0.4, 0.3, 0.3]))


def test_hard_vote_counts_heads() -> None:
    # Two weak votes for 0 beat one strong vote for 1, where the mean would be for 1.
    members = (Says(0.4, 0.35, 0.25), Says(0.4, 0.35, 0.25), Says(0.01, 0.98, 0.01))
    assert vote("hard", *members).argmax() == 0
    assert vote("soft", *members).argmax() == 1
    torch.testing.assert_close(vote("hard", *members), torch.tensor([2 / 3, 1 / 3, 0.0]), atol=2e-3, rtol=0)


@pytest.mark.parametrize(
    ("members", "winner"),
    [
        ((Says(0.5, 0.3, 0.2), Says(0.1, 0.8, 0.1)), 1),  # a vote each; 1 has more of the mean
        ((Says(0.8, 0.1, 0.1), Says(0.2, 0.5, 0.3)), 0),
        ((Says(0.6, 0.2, 0.2), Says(0.2, 0.6, 0.2)), 0),  # equal in everything: the first
        # Classes 0 and 1 tie; 2 has the highest mean of all, and no vote.
        ((Says(0.51, 0.0, 0.49), Says(0.0, 0.51, 0.49)), 0),
    ],
)
def test_ties_go_to_the_higher_mean_among_those_that_tie(members: tuple[nn.Module, ...], winner: int) -> None:
    assert vote("hard", *members).argmax() == winner


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Of one split: a network and a nearest neighbour."""
    folder = tmp_path_factory.mktemp("members")
    train(tiny_config(folder / "a"))
    keep = ["dataset.image_size=16", "dataset.n_train=80", "dataset.n_test=24", "dataset.batch_size=16"]
    train(compose(["model=knn", *keep, "logger=none", "figures=false", "name=tiny", f"paths.output_dir={folder}/b"]))
    return [folder / "a", folder / "b"]


def ensemble_config(folder: Path, runs: list[Path], *overrides: str) -> list[str]:
    data = [line for line in TINY if line.startswith(("dataset.", "figures"))]
    runs_ = f"model.runs=[{','.join(map(str, runs))}]"
    base = ["model=ensemble", runs_, *data, "dataset.n_train=80", "dataset.n_test=24", "logger=none", "name=tiny"]
    return compose([*base, f"paths.output_dir={folder}", *overrides])


@pytest.mark.slow
def test_ensemble_of_runs_is_tested_and_needs_them_no_more(two_runs: list[Path], tmp_path: Path) -> None:
    members = [shutil.copytree(run, tmp_path / run.name) for run in two_runs]
    train(ensemble_config(tmp_path / "vote", members))
    for run in members:
        shutil.rmtree(run)
    images = torch.rand(5, 16, 16, generator=torch.Generator().manual_seed(0)).numpy()
    found = load_run(tmp_path / "vote").logits(images).exp()
    expected = torch.stack([load_run(run).logits(images).softmax(1) for run in two_runs]).mean(0)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["dataset.n_train=88"], "its images, or their split, are not those asked for here"),
        (["dataset.split_seed=1"], "its images, or their split, are not those asked for here"),
        (["dataset.image_size=24"], "sees 16 pixels, not dataset.image_size=24"),
    ],
)
def test_run_of_other_images_or_another_split_is_refused(
    overrides: list[str], message: str, two_runs: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(UnusableData, match=message):
        train(ensemble_config(tmp_path / "vote", two_runs, *overrides))


@pytest.mark.parametrize("target", ["os.system", "lightning.pytorch.Trainer", "hqcnn_lab.data.PhantomDataModule"])
def test_members_that_are_no_networks_are_refused(target: str) -> None:
    # What the members are comes out of a checkpoint, which anybody may have made.
    planted = torch.tensor(list(json.dumps([{"_target_": target}]).encode()), dtype=torch.uint8)
    with pytest.raises(BuildError, match="may only be a network of this lab"):
        Ensemble(3, 16, []).set_extra_state(planted)
    with pytest.raises(BuildError, match="may only be a network of this lab"):
        TwoStage(3, 16, {"_target_": target})


def test_run_of_another_order_of_classes_is_refused(two_runs: list[Path], tmp_path: Path) -> None:
    other = shutil.copytree(two_runs[0], tmp_path / "other")
    path = other / "checkpoints" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    content["hyper_parameters"]["classes"] = content["hyper_parameters"]["classes"][::-1]
    torch.save(content, path)
    with pytest.raises(UnusableData, match=r"other: its classes are pituitary, .*, in this order"):
        train(ensemble_config(tmp_path / "vote", [two_runs[1], other]))
