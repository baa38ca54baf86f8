"""Look over a data set before training: which images there are, what occurs twice, what gives the class away."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hqcnn_lab.data.split.cut import Split
from hqcnn_lab.data.split.duplicates import Twins, count_pairs, group_twins, has_twin
from hqcnn_lab.data.split.shortcuts import shortcut_accuracy

_N_COMMON = 6  # sizes and modes that are listed


@dataclass(frozen=True)
class Copies:
    """How often images occur twice: `pairs`, and `images` that are in one.

    `pairs_across_halves` and `testing_in_training` (images of Testing/ with a copy in Training/) are of the published
    halves, the others of the chosen split: `pairs_within` each part, `test_in_training` images of the test part with a
    copy in the training *or validation* part, `val_in_train` images of the validation part with one in training.
    """

    pairs: int
    images: int
    pairs_across_halves: int
    testing_in_training: int
    pairs_within: dict[str, int]
    test_in_training: int
    val_in_train: int


@dataclass(frozen=True)
class Audit:
    """What was found, in numbers and names of classes and files: `dataclasses.asdict` makes JSON of it.

    `split` names the split's kind. `found` and `published` are images per half and class, `parts` per part and class.
    `exact` counts copies with the same pixels, `copies` these and the near-duplicates; `groups` are the groups of two
    or more, `conflicts` the files of those that have several labels. `kept` is what the split keeps together, where it
    does: `groups` of two or more, `images` in them, the `largest`, and how many are `mixed`, of several labels.
    `patients` per part is empty where none is known; `shared_patients` are those of val who are in train, and those of
    test who are in train or val. `shortcuts` and the nearest neighbour are accuracies on the test part,
    `neighbour_of_twinless` on its images without a copy elsewhere.
    """

    split: str
    found: dict[str, dict[str, int]]
    published: dict[str, dict[str, int]]
    parts: dict[str, dict[str, int]]
    n_sizes: int
    sizes: dict[str, int]
    modes: dict[str, int]
    exact: Copies
    copies: Copies
    groups: int
    largest_group: int
    conflicts: list[list[str]]
    kept: dict[str, int]
    patients: dict[str, int]
    shared_patients: dict[str, int]
    shortcuts: dict[str, float]
    nearest_neighbour: float
    neighbour_of_twinless: float | None


def audit(
    images: np.ndarray,
    labels: np.ndarray,
    halves: np.ndarray,
    patients: np.ndarray,
    heights: np.ndarray,
    widths: np.ndarray,
    files: Sequence[str],
    twins: Twins,
    split: Split,
    kind: str,
    classes: Sequence[str],
    published: Mapping[str, Mapping[str, int]] | None = None,
    modes: Sequence[str] = (),
    kept: np.ndarray | None = None,
) -> Audit:
    """Look over `images` `[n, H, W]` in [0, 1] with what is known of each (`[n]`, "" for no half and no patient).

    `kind` names the split; `published` holds counts per half and class to compare with; `modes` are the files' pixel
    formats; `kept` numbers the groups a split keeps together. A label of −1 is none; such an image is in no part. Every
    part has to hold images. No patient's id comes back: give as `files` pseudonyms where a path would name one.
    """

    def per_class(chosen: np.ndarray) -> dict[str, int]:
        labelled = labels[chosen][labels[chosen] >= 0]
        return dict(zip(classes, np.bincount(labelled, minlength=len(classes)).tolist(), strict=True))

    numbers = group_twins(twins)
    group_sizes = np.bincount(numbers)
    sizes = Counter(zip(widths.tolist(), heights.tolist(), strict=True))
    training = np.concatenate([split.train, split.val])
    ids = {part: set(patients[indices].tolist()) - {""} for part, indices in split._asdict().items()}
    accuracy, twinless = _neighbour_accuracy(images, labels, twins, training, split.test)
    return Audit(
        split=kind,
        found={half: per_class(halves == half) for half in sorted(set(halves.tolist()) - {""}, reverse=True)},
        published={half: dict(counts) for half, counts in (published or {}).items()},
        parts={part: per_class(indices) for part, indices in split._asdict().items()},
        n_sizes=len(sizes),
        sizes={f"{width}×{height}": n for (width, height), n in sizes.most_common(_N_COMMON)},
        modes=dict(Counter(modes).most_common(_N_COMMON)),
        exact=_count(twins._replace(near=twins.near[:0]), halves, split),
        copies=_count(twins, halves, split),
        groups=int((group_sizes > 1).sum()),
        largest_group=int(group_sizes.max(initial=0)),
        conflicts=_conflicts(numbers, labels, files),
        kept={} if kept is None else _kept(kept, labels, files),
        patients={part: len(of_part) for part, of_part in ids.items()} if any(ids.values()) else {},
        shared_patients={
            "val": len(ids["val"] & ids["train"]),
            "test": len(ids["test"] & (ids["train"] | ids["val"])),
        },
        shortcuts=shortcut_accuracy(images, heights, widths, labels, training, split.test),
        nearest_neighbour=accuracy,
        neighbour_of_twinless=twinless,
    )


def leak_note(audit: Audit) -> str | None:
    """Say in one line how far the test part was seen before, in training or validation; None where it was not.

    Belongs beside every score on that split.
    """
    n_test, reasons = sum(audit.parts["test"].values()), []
    if n_twins := audit.copies.test_in_training:
        reasons.append(f"{_percent(n_twins / n_test)} of test images have a twin in training")
    if n_shared := audit.shared_patients["test"]:
        reasons.append(f"{n_shared} of {audit.patients['test']} test patients are also in training")
    return f"{audit.split} split: {', '.join(reasons)}" if reasons else None


def describe(audit: Audit) -> list[str]:
    """The audit in lines for people."""
    lines = []
    for half, counts in audit.found.items():
        published = audit.published.get(half, {})
        cells = [f"{name} {n}" + (f" of {published[name]}" if name in published else "") for name, n in counts.items()]
        lines.append(f"{half}: {', '.join(cells)}{' published' if published else ''}")
    for part, counts in audit.parts.items():
        cells = [f"{name} {n}" for name, n in counts.items()]
        lines.append(f"{audit.split} split, {part}: {sum(counts.values())} images, {', '.join(cells)}")
    lines.append(f"sizes: {audit.n_sizes}, most often {_listed(audit.sizes)}")
    if audit.modes:
        lines.append(f"pixel formats: {_listed(audit.modes)}")
    for name, copies in (("the same pixels", audit.exact), ("the same pixels or nearly", audit.copies)):
        line = f"{name}: {copies.images} images in {copies.pairs} pairs"
        if "Testing" in audit.found:
            line += (
                f"; {copies.pairs_across_halves} across the published halves, "
                f"where {copies.testing_in_training} of Testing are in Training"
            )
        lines.append(line)
        lines.append(
            f"  in the {audit.split} split: pairs within {_listed(copies.pairs_within)}; "
            f"{copies.test_in_training} of test are in training or validation, {copies.val_in_train} of val in training"
        )
    lines.append(f"groups of copies: {audit.groups}, of {audit.largest_group} images at most")
    lines += [f"  a group with several labels: {', '.join(files)}" for files in audit.conflicts]
    if kept := audit.kept:
        lines.append(
            f"kept together by the {audit.split} split: {kept['images']} images in {kept['groups']} groups, "
            f"of {kept['largest']} at most, {kept['mixed']} of several classes"
        )
    if audit.patients:
        shared = audit.shared_patients
        lines.append(
            f"patients: {_listed(audit.patients)}; {shared['val']} of val are in train, "
            f"{shared['test']} of test in train or val"
        )
    lines.append(
        "told without looking at the brain: "
        + ", ".join(f"{name} {_percent(share, 1)}" for name, share in audit.shortcuts.items())
    )
    line = f"nearest neighbour: {_percent(audit.nearest_neighbour, 1)}"
    if audit.copies.test_in_training and audit.neighbour_of_twinless is not None:
        line += f", {_percent(audit.neighbour_of_twinless, 1)} of the test images without a twin"
    return [*lines, line, leak_note(audit) or f"{audit.split} split: no test image has a twin in training"]


def _kept(numbers: np.ndarray, labels: np.ndarray, files: Sequence[str]) -> dict[str, int]:
    sizes = np.bincount(numbers)
    several = sizes[sizes > 1]
    counts = {"groups": len(several), "images": int(several.sum()), "largest": int(sizes.max(initial=0))}
    return counts | {"mixed": len(_conflicts(numbers, labels, files))}


def _count(twins: Twins, halves: np.ndarray, split: Split) -> Copies:
    train, val, test = (np.isin(np.arange(len(halves)), indices) for indices in split)
    everywhere, first, second = np.ones(len(halves), dtype=bool), halves == "Training", halves == "Testing"
    return Copies(
        pairs=count_pairs(twins, everywhere, everywhere),
        images=int(has_twin(twins, everywhere).sum()),
        pairs_across_halves=count_pairs(twins, first, second),
        testing_in_training=int((has_twin(twins, first) & second).sum()),
        pairs_within={
            part: count_pairs(twins, mask, mask) for part, mask in zip(split._fields, (train, val, test), strict=True)
        },
        test_in_training=int((has_twin(twins, train | val) & test).sum()),
        val_in_train=int((has_twin(twins, train) & val).sum()),
    )


def _conflicts(numbers: np.ndarray, labels: np.ndarray, files: Sequence[str]) -> list[list[str]]:
    """The files of each group of copies whose images do not all have the same label, where they have one."""
    low = np.full(int(numbers.max(initial=-1)) + 1, labels.max(initial=0))
    high = np.zeros_like(low)
    labelled = labels >= 0
    np.minimum.at(low, numbers[labelled], labels[labelled])
    np.maximum.at(high, numbers[labelled], labels[labelled])
    mixed = np.flatnonzero(low < high)
    return [[files[i] for i in np.flatnonzero(numbers == number).tolist()] for number in mixed]


def _neighbour_accuracy(
    images: np.ndarray, labels: np.ndarray, twins: Twins, training: np.ndarray, test: np.ndarray
) -> tuple[float, float | None]:
    """The nearest neighbour's accuracy on the test part, and on its images that have no copy in `training`."""
    from hqcnn_lab.data.split.neighbour import nearest_neighbour_right  # torch: not needed to read an audit

    right = nearest_neighbour_right(images, labels, training, test)
    alone = ~has_twin(twins, np.isin(np.arange(len(labels)), training))[test]
    return float(right.mean()), float(right[alone].mean()) if alone.any() else None


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {n}" for name, n in counts.items())


def _percent(share: float, digits: int = 0) -> str:
    """With enough digits that a share of one image does not read 0 %."""
    return f"{100 * share:.{digits}f} %" if share == 0 or share >= 0.01 else f"{100 * share:.1g} %"
