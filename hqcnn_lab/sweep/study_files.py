"""What a study writes: its declaration, its tables, its statistics and its figures."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from hqcnn_lab.analysis.measure import MEASURES
from hqcnn_lab.analysis.study import epochs_text
from hqcnn_lab.error import first_line
from hqcnn_lab.record.csv_text import csv_of_mappings
from hqcnn_lab.record.whole_file import whole_file
from hqcnn_lab.sweep.declaration import Run
from hqcnn_lab.sweep.rate_choice import Choice
from hqcnn_lab.sweep.study_tables import Row, commits, markdown_table, rows_of


def write_study(config: DictConfig, runs: list[Run], choices: list[Choice], runs_dir: Path) -> None:
    """Write everything that is known by now into `config.out`; each file is whole or as it was before."""
    out = Path(config.out).expanduser()
    out.mkdir(parents=True, exist_ok=True)
    rows = [row for run in runs for row in rows_of(run) if row["status"] != "absent"]
    declared: dict[str, Any] = {key: config[key] for key in ("study", "scale", "overrides", "threads")}
    edges = [f"{_place(choice)} ({choice.edge})" for choice in choices if choice.edge]
    table = [f"# {config.study.name} on {config.scale.name}", config.study.question]
    table += [markdown_table(rows, config.scale.level, MEASURES[config.study.score])]
    table += [f"Chosen at the edge of the grid: {', '.join(edges)}."] if edges else []
    table += [f"Code: {', '.join(commits(run.job.folder for run in runs)) or 'unknown'}."]
    files = {
        "study.yaml": OmegaConf.to_yaml(OmegaConf.create(declared), resolve=False),
        "runs.csv": csv_of_mappings(rows),
        "chosen.csv": csv_of_mappings([choice._asdict() for choice in choices], Choice._fields),
        "table.md": "\n\n".join(part.strip() for part in table) + "\n",
    }
    for name, text in files.items():
        with whole_file(out / name) as scratch:
            scratch.write_text(text, encoding="utf-8", errors="backslashreplace")
    try:
        _write_analysis(config, rows, runs_dir, out)
    except Exception as error:  # an error here does not end a study
        print(f"statistics and figures: not all of them written ({first_line(error)})", flush=True)
    print(f"written to {out}", flush=True)


def _place(choice: Choice) -> str:
    length = "" if choice.epochs is None else f", {epochs_text(choice.epochs)}"
    return f"{choice.arm} under {choice.condition}{length}"


def _write_analysis(config: DictConfig, rows: list[Row], runs_dir: Path, out: Path) -> None:
    from hqcnn_lab.figures.study import study_figures
    from hqcnn_lab.reporting.study_statistics import study_statistics

    level, measure = config.scale.level, MEASURES[config.study.score]
    text = study_statistics(rows, runs_dir, level, reference=next(iter(config.study.arms)), measure=measure)
    with whole_file(out / "statistics.md") as scratch:
        scratch.write_text(text, encoding="utf-8")
    (out / "figures").mkdir(exist_ok=True)
    for name, figure in study_figures(rows, runs_dir, level, measure).items():
        with whole_file(out / "figures" / f"{name}.png") as scratch:
            figure.savefig(scratch, format="png", dpi=120)
