"""The pictures of a report: circuits, and misclassified images with what the network looked at."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hqcnn_lab.analysis.predictions import Predictions
from hqcnn_lab.analysis.row import Row
from hqcnn_lab.figures.heat_map import image_jpeg
from hqcnn_lab.record.run_folder import RunFolder
from hqcnn_lab.reporting.groups import Group
from hqcnn_lab.reporting.wording import count

N_RUNS = 3  # whose mistakes are shown
N_IMAGES = 8  # of each
N_CIRCUITS = 6
MOST_GATES = 500  # of a circuit that is drawn, which takes a millisecond or two for each
MOST_MADE, MOST_SIDE = 50_000, 1024  # images of a data set that is made, or decoded, again; pixels
_CIRCUIT = ("n_wires", "n_layers", "ansatz", "encoder", "readout", "seed")


@dataclass
class Mistake:
    """A misclassified test image; `image` and `overlay` (where the network looks, if a gradient says) are data URIs."""

    label: str
    prediction: str
    probability: float
    image: str
    overlay: str | None


@dataclass
class Mistakes:
    """Of one run. `note` says why there are none, where the data or the network are not at hand."""

    group: str
    title: str
    n_wrong: int
    n_images: int
    note: str = ""
    shown: list[Mistake] = field(default_factory=list)


@dataclass
class CircuitPicture:
    """A circuit that groups (by id) have in common: a data URI, and the same as text."""

    title: str
    groups: list[str]
    image: str
    text: str


def circuits(groups: Sequence[Group]) -> tuple[list[CircuitPicture], list[str]]:
    """The circuits of the groups, each once, as many as a page holds; and in words, what is not drawn."""
    from hqcnn_lab.quantum.circuit import make_circuit
    from hqcnn_lab.quantum.draw import draw_figure, draw_text

    users: dict[tuple, list[str]] = {}
    for group in groups:
        wiring = {key: group.settings.get(f"circuit.{key}") for key in _CIRCUIT}
        has_circuits = group.settings.get("model.circuit.n_wires") and group.settings.get("model.kernel") != "classical"
        if has_circuits and None not in wiring.values():
            users.setdefault(tuple(wiring.items()), []).append(group.id)
    pictures, n_large, n_more = [], 0, 0
    for wiring, ids in users.items():
        try:
            of = dict(wiring)
            # A configuration may hold any number, and a layer has a gate on each wire.
            circuit = make_circuit(**of) if of["n_wires"] * of["n_layers"] <= MOST_GATES else None
            if circuit is None or len(circuit.gates) > MOST_GATES:
                n_large += 1
                continue
            if len(pictures) == N_CIRCUITS:
                n_more += 1
                continue
            buffer = io.BytesIO()
            draw_figure(circuit).savefig(buffer, format="png", dpi=110)
            text = draw_text(circuit)
        except (KeyError, TypeError, ValueError):  # a config may be of another version of the code
            continue
        title = f"{of['ansatz']}, {of['n_wires']} wires, {of['n_layers']} layers, encoder {of['encoder']}"
        pictures.append(CircuitPicture(title, ids, _uri(buffer.getvalue(), "png"), text))
    notes = [f"Not drawn: {count(n_large, 'circuit')} of more than {MOST_GATES} gates."] * bool(n_large)
    notes += [f"Drawn are {N_CIRCUITS} circuits of {N_CIRCUITS + n_more}."] * bool(n_more)
    return pictures, notes


class Gallery:
    """The surest mistakes of up to `N_RUNS` runs; a data set that several runs share is made once.

    The images are built again from a run's configuration, and scored again by its checkpoint; an image whose prediction
    comes out otherwise than the run wrote it is not shown.
    """

    def __init__(self, n_families: int) -> None:
        self.left = N_RUNS
        self.share = max(N_RUNS // n_families, 1)  # of each family
        self.data_sets: dict[str, Any] = {}

    def hang(self, groups: Sequence[Group], tests: Mapping[str, Predictions]) -> list[Mistakes]:
        """The mistakes of each group's best run on validation, as long as there is room."""
        hung: list[Mistakes] = []
        for group in groups:
            runs = [row for row in group.finished if row["folder"] in tests]
            if runs and self.left and len(hung) < self.share:
                self.left -= 1
                row = max(runs, key=lambda run: run.get("val/accuracy") or 0)
                hung.append(self._of_run(group, row, tests[row["folder"]]))
        return hung

    def _of_run(self, group: Group, row: Row, test: Predictions) -> Mistakes:
        wrong = np.flatnonzero(~test.correct)
        one = Mistakes(group.id, f"{group.name}, seed {row['seed']}", len(wrong), len(test.files))
        if not len(wrong):
            return one
        sure = test.probabilities[wrong, test.predicted[wrong]]
        chosen = wrong[np.argsort(-sure, kind="stable")][:N_IMAGES]
        try:
            one.shown = _explained(row, test, chosen, self.data_sets)
            if len(one.shown) < len(chosen):
                one.note = f"{len(chosen) - len(one.shown)} more are not shown: scored again, they came out otherwise."
        except Exception as error:  # old checkpoints, moved data, another version: the report goes on without
            one.note = f"Images are not shown: {_reason(error)}."
        return one


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "the data or the checkpoint are not where the run found them"
    return (" ".join(str(error).split()) or type(error).__name__)[:160].rstrip(".")


def _explained(row: Row, test: Predictions, chosen: np.ndarray, data_sets: dict[str, Any]) -> list[Mistake]:
    folder = Path(row["folder"])
    which = "best" if row.get("config/test_checkpoint") == "best" else "last"
    checkpoint = folder / "checkpoints" / f"{which}.ckpt"
    if not checkpoint.is_file():
        raise FileNotFoundError(checkpoint)
    import torch

    from hqcnn_lab.models import ImageClassifier
    from hqcnn_lab.models.explain import NoGradient, integrated_gradients

    data = _data_of(folder, data_sets)
    at = data.split.test[chosen]
    if len(data.split.test) != len(test.files) or [data.names[i] for i in at] != [test.files[i] for i in chosen]:
        raise ValueError("the data are not those that the run was tested on")
    model = ImageClassifier.load_from_checkpoint(checkpoint, map_location="cpu", weights_only=True).eval()
    images = torch.from_numpy(np.asarray(data.images[at], dtype=np.float32)).unsqueeze(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # shots are drawn
        predicted = torch.from_numpy(test.predicted[chosen])
        with torch.no_grad():
            same = model(images).argmax(1) == predicted
        try:
            maps = integrated_gradients(model, images, predicted).clamp(min=0)
            maps = (maps / maps.amax((1, 2), keepdim=True).clamp(min=1e-6)).numpy()
        except NoGradient:
            maps = None
    shown = []
    for i, index in enumerate(chosen):
        if same[i]:
            label, prediction = (test.classes[values[index]] for values in (test.labels, test.predicted))
            probability = float(test.probabilities[index, test.predicted[index]])
            pixels = images[i, 0].numpy()
            image = _uri(image_jpeg(pixels), "jpeg")
            overlay = None if maps is None else _uri(image_jpeg(pixels, maps[i]), "jpeg")
            shown.append(Mistake(label, prediction, probability, image, overlay))
    return shown


def _data_of(folder: Path, data_sets: dict[str, Any]) -> Any:
    """The run's data set, made once for all runs of the same."""
    from hqcnn_lab.build import build

    run = RunFolder(folder)
    spec = dict(run.config["dataset"])
    for name in ("seed", "workers"):  # of shuffling; of that machine
        spec.pop(name, None)
    had = sum(run.summary.get(f"images/{part}") or 0 for part in ("train", "val", "test"))
    if "n_train" in spec and spec["n_train"] + spec["n_test"] != had:  # before as many are made
        raise ValueError("the data are not those that the run was trained on")
    if had > MOST_MADE or spec["image_size"] > MOST_SIDE:
        raise ValueError("the data set is too large to be made again for a report")
    key = repr(sorted((name, value) for name, value in spec.items() if name not in ("augment", "batch_size")))
    if key not in data_sets:
        root = spec.get("root")
        if root is not None and not Path(root).expanduser().exists():
            raise FileNotFoundError(root)
        data = build(spec)
        data.prepare_data()
        data.setup()
        data_sets[key] = data
    return data_sets[key]


def _uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
