"""The statistics of a study, condition by condition, as one Markdown text: `statistics.md`."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from hqcnn_lab.analysis.arms import compare_arms, markdown_table
from hqcnn_lab.analysis.bootstrap import bootstrap_accuracy, bootstrap_difference
from hqcnn_lab.analysis.measure import ACCURACY, Measure
from hqcnn_lab.analysis.p_value import holm, p_text
from hqcnn_lab.analysis.paired import sign_flip_p
from hqcnn_lab.analysis.predictions import read_correct, read_groups
from hqcnn_lab.analysis.study import Row, blocks, common_seeds, near_best, seed_list, several_rates
from hqcnn_lab.analysis.survival import compare_times, time_to_level
from hqcnn_lab.record.run_folder import RunFolder

_UNITS = {False: "in points", True: "of losses, where the arm is better below 0, and of accuracies in points"}
_BY_LENGTH = (
    " An arm that is read along one run has one learning rate, chosen at the longest length; one that has a run of "
    "each length has a learning rate for each."
)


def study_statistics(
    rows: Sequence[Row], runs_dir: str | Path, level: float, reference: str, measure: Measure = ACCURACY
) -> str:
    """Every arm of a study against `reference`, under each condition; what is missing is said in a line.

    The `measure` that is tested first, test accuracy and training loss over seeds, test accuracy over other images,
    epochs to the validation accuracy `level` (a share), and how wide the range of good learning rates is. Where the
    final stage has several learning rates, none of them is an arm's own, so arms are compared by learning rate only.
    docs/statistics.md says what each test assumes.
    """
    arms = list(dict.fromkeys([reference, *(row["arm"] for row in rows)]))
    parts = [
        "# Statistics",
        f"Every arm against {reference}: **a difference is arm minus {reference}**, {_UNITS[measure.falls]}, a ratio "
        f"arm over {reference}. Primary test: paired t on {measure.words} over seeds, Holm over the arms of a "
        "condition. Learning rates are multiples of each arm's own; *near the best* is how far around the best one its "
        f"neighbours on the grid are within {measure.near_words} and never diverge, with ≥ where that ends with the "
        "grid.",
    ]
    if any(row.get("epochs") is not None for row in rows):
        parts[1] = parts[1].replace("of a condition", "of a condition at a length", 1) + _BY_LENGTH
    compared = list(dict.fromkeys([measure, ACCURACY]))
    for block in blocks(rows):
        final = [row for row in block.rows if row["stage"] == "final"]
        parts.append(f"## {block.title}")
        if not final:
            parts.append("No final run yet.")
        elif several_rates(final):
            for one in compared:
                parts += [f"### {one.words.capitalize()} by learning rate", learning_rates(final, arms, one)]
        else:
            for one in compared:
                heading = f"### {one.words.capitalize()} over seeds"
                parts += [heading, over_seeds(final, arms, one.key, one.scale, one.digits)]
            parts += ["### Training loss over seeds", over_seeds(final, arms, "train/loss")]
            if block.is_end(final):  # of a reading on the way there are no predictions
                parts += ["### Test accuracy on other images", _on_other_images(final, arms, Path(runs_dir))]
                parts += [f"### Epochs to {100 * level:g} % on validation", _times(final, arms, Path(runs_dir), level)]
        tuning = [row for row in block.rows if row["stage"] == "tune"]
        if several_rates(tuning):
            chosen_by = measure.validation
            heading = f"### {chosen_by.words.capitalize()} by learning rate (tuning seeds)"
            tuned = [arm for arm in arms if block.epochs is None or any(row["arm"] == arm for row in tuning)]
            parts += [heading, learning_rates(tuning, tuned, chosen_by)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def over_seeds(rows: Sequence[Row], arms: Sequence[str], score: str, scale: float = 1, digits: int = 4) -> str:
    """Each arm's `score` against that of the first, paired over the seeds that all finished; as `markdown_table`."""
    kept, notes = common_seeds(rows, arms)
    if (problem := _not_comparable(kept, arms[0])) is not None:
        return "\n\n".join([problem, *notes])
    seeds = [row["seed"] for row in kept[arms[0]]]
    if len(seeds) < 2:
        return "\n\n".join([f"Seeds that all arms finished: {len(seeds)}. A paired test takes 2 or more.", *notes])
    if any(row.get(score) is None for of_arm in kept.values() for row in of_arm):
        return f"Not known: a run's summary has no {score}."
    compared = compare_arms({arm: [row[score] for row in of_arm] for arm, of_arm in kept.items()}, arms[0])
    least = sign_flip_p(np.ones(len(seeds)))
    least_holm = min(len(compared) * least, 1.0)
    floor = (
        f"With {len(seeds)} seeds, the exact permutation test cannot give a p below {least:.3g} whatever the data, "
        f"{least_holm:.3g} after Holm (arms compared: {len(compared)}); nor can Wilcoxon's."
    )
    return "\n\n".join([f"Paired over {seed_list(seeds)}.", *notes, markdown_table(compared, scale, digits), floor])


def accuracy_on_images(correct: Mapping[str, np.ndarray], groups: np.ndarray | None) -> str:
    """What other test images would say of these very networks; the first arm is the reference.

    `correct` holds for each arm bool `[n_seeds, n_images]`, images in the same order; `groups` as in
    `bootstrap_accuracy`.
    """
    reference = next(iter(correct))
    n_seeds, n_images = correct[reference].shape
    n_groups = n_images if groups is None else len(set(groups))
    if n_groups < 2:
        return f"All {n_images} test images are in one group: there is nothing to draw from."
    pool = f"{n_groups:,} groups of {n_images:,} test images" if groups is not None else f"{n_images:,} test images"
    head = f"Mean of {n_seeds} seed{'s' * (n_seeds > 1)}; 95 % intervals from drawing the {pool} again, 10,000 times."
    if n_groups < 20:
        head += " With so few groups the intervals are too narrow."
    lines = [["", "accuracy (95 % interval)", "difference (95 % interval)", "resamples where it is no better"]]
    for arm, right in correct.items():
        one = bootstrap_accuracy(right, groups)
        cells = [arm, f"{100 * one.estimate:.2f} ({100 * one.low:.2f} to {100 * one.high:.2f})", "–", "–"]
        if arm != reference:
            two = bootstrap_difference(right, correct[reference], groups)
            cells[2] = f"{100 * two.estimate:+.2f} ({100 * two.low:+.2f} to {100 * two.high:+.2f})"
            cells[3] = f"{100 * two.share_at_most_0:.1f} %"
        lines.append(cells)
    return f"{head}\n\n{_table(lines)}"


def times_to_level(times: Mapping[str, Sequence[float | None]], ends: Mapping[str, Sequence[float]]) -> str:
    """Each arm's epochs to the level against those of the first arm, seed by seed; None never got there.

    `ends` is how long each run was watched. The horizon is where the shortest of all runs ends.
    """
    reference, n = next(iter(times)), len(next(iter(times.values())))
    if n < 2:
        return f"Seeds that all arms ran: {n}. A curve takes 2 or more."
    horizon = float(min(min(lengths) for lengths in ends.values()))
    alone = {arm: time_to_level(times[arm], ends[arm], horizon) for arm in times}
    against = {arm: compare_times(times[arm], times[reference], horizon) for arm in times if arm != reference}
    log_rank, paired = (holm({arm: getattr(c, p) for arm, c in against.items()}) for p in ("p_log_rank", "p_paired"))
    titles = ["reached", "median (95 % interval)", "restricted mean ± s.e.", "ratio", "Holm p: log-rank", "paired"]
    lines = [["", *titles]]
    for arm, time in alone.items():
        median, low, high = ("–" if x is None else f"{x:g}" for x in (time.median, time.median_low, time.median_high))
        median += f" ({low} to {high})" if (low, high) != ("–", "–") else ""
        mean = f"{time.restricted_mean:.2f} ± {time.standard_error:.2f}"
        cells = [arm, f"{time.n_reached} of {time.n}", median, mean]
        if arm in against:
            cells += [f"{against[arm].ratio:.2f}", p_text(log_rank[arm]), p_text(paired[arm])]
        else:
            cells += ["–"] * 3
        lines.append(cells)
    head = f"Watched for {horizon:g} epochs; a ratio below 1 is faster; a run that diverged never got there."
    return f"{head}\n\n{_table(lines)}"


def learning_rates(rows: Sequence[Row], arms: Sequence[str], measure: Measure) -> str:
    """Each arm's mean score over seeds at each learning rate, and how many decades of them are near its best."""
    factors = sorted({row["factor"] for row in rows})
    lines = [["", *(f"×{factor:g}" for factor in factors), "near the best, decades"]]
    for arm in arms:
        means, cells = {}, []
        for factor in factors:
            group = [row for row in rows if (row["arm"], row["factor"]) == (arm, factor)]
            scores = [x for row in group if row["status"] == "finished" and (x := row.get(measure.key)) is not None]
            n_lost = sum(row["status"] == "diverged" for row in group)
            if n_lost:
                cells.append("diverged" if n_lost == len(group) == 1 else f"{n_lost} of {len(group)} diverged")
            elif scores:
                means[factor] = math.fsum(scores) / len(scores)
                short = f" ({len(scores)} of {len(group)})" if len(scores) < len(group) else ""
                cells.append(f"{measure.text(means[factor])}{short}")
            else:
                cells.append("–")
        tried = sorted({row["factor"] for row in rows if row["arm"] == arm})  # a grid may have been extended for one
        lines.append([arm, *cells, _span_text(near_best(means, tried, measure), tried)])
    seeds = sorted({row["seed"] for row in rows})
    return f"Mean over {seed_list(seeds)}.\n\n{_table(lines)}"


def _on_other_images(rows: Sequence[Row], arms: Sequence[str], runs_dir: Path) -> str:
    kept, notes = common_seeds(rows, arms)
    if arms[0] not in kept or not kept[arms[0]]:
        return "\n\n".join([f"No seed that {arms[0]} and every other arm finished.", *notes])
    correct: dict[str, np.ndarray] = {}
    reference_run = runs_dir / kept[arms[0]][0]["run"]
    try:
        reference_files, _ = read_correct(reference_run)
        for arm, of_arm in kept.items():
            read = [read_correct(runs_dir / row["run"]) for row in of_arm]
            if any(files != reference_files for files, _ in read):
                return f"The runs of {arm} were tested on other images than those of {arms[0]}: not compared."
            correct[arm] = np.stack([right for _, right in read])
        groups = read_groups(reference_run, reference_files)
    except (OSError, KeyError, ValueError) as error:
        return f"Not known: {error}."
    return accuracy_on_images(correct, groups)


def _times(rows: Sequence[Row], arms: Sequence[str], runs_dir: Path, level: float) -> str:
    name = f"convergence/epochs_to_{100 * level:g}"
    kept, notes = common_seeds(rows, arms, ("finished", "diverged"))
    if arms[0] not in kept or not kept[arms[0]]:
        return "\n\n".join([f"No seed that {arms[0]} and every other arm ran.", *notes])
    whole = [row for of_arm in kept.values() for row in of_arm if row["status"] == "finished"]
    if not whole:
        return "Every run diverged."
    if any(name not in row for row in whole):
        return f"Not known: the runs did not note it; add {level:g} to callbacks.convergence.levels."
    try:
        lengths = {row["run"]: _epochs(runs_dir / row["run"]) for row in whole}
    except (OSError, KeyError, ValueError) as error:
        return f"Not known: {type(error).__name__}: {error}."
    full = max(lengths.values())  # where a diverged run would have ended
    times = {arm: [row[name] if row["status"] == "finished" else None for row in rs] for arm, rs in kept.items()}
    ends = {
        arm: [lengths[row["run"]] if row["status"] == "finished" else full for row in rs] for arm, rs in kept.items()
    }
    return "\n\n".join([times_to_level(times, ends), *notes])


def _epochs(run: Path) -> int:
    return RunFolder(run).summary["epochs"]


def _not_comparable(kept: Mapping[str, Sequence[Row]], reference: str) -> str | None:
    if reference not in kept:
        return f"{reference}, the reference, has no finished run: nothing to compare with."
    if len(kept) < 2:
        return f"No arm but {reference} has finished: nothing to compare."
    return None


def _span_text(span: tuple[float, float] | None, factors: Sequence[float]) -> str:
    if span is None:
        return "–"
    low, high = span
    open_ended = low == min(factors) or high == max(factors)
    where = f"×{low:g} to ×{high:g}" if high > low else f"×{low:g} alone"
    return f"{'≥ ' * open_ended}{math.log10(high / low):.1f} ({where})"


def _table(lines: Sequence[Sequence[str]]) -> str:
    head, *body = lines
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *body])
