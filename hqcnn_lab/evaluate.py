"""Score a trained network beyond its accuracy: `python -m hqcnn_lab.evaluate --help`."""

from collections.abc import Sequence

from hqcnn_lab.config.command import errors_in_one_line, read_overrides
from hqcnn_lab.run.evaluation import UNUSED, EvaluateError, evaluate

DESCRIPTION = """\
Score the network of a run on its own test images, or on those of another data set with the same classes: accuracy with
intervals, scores by class, calibration before and with a temperature that is fitted on validation, and the accuracy
left under noise, blur and rotation. Writes evaluation.json and figures into a new folder. What each says:
docs/predict.md.

  python -m hqcnn_lab.evaluate run=latest                                          the newest run that has finished
  python -m hqcnn_lab.evaluate run=runs/… checkpoint=best out=scores
  python -m hqcnn_lab.evaluate run=runs/… dataset.root=/data/brain                 its data set has moved
  python -m hqcnn_lab.evaluate run=runs/… dataset=kaggle dataset.root=/data/other  another data set's test part
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Score what the command line asks for; a wrong one is answered in one line, with exit status 1."""
    overrides = read_overrides("hqcnn_lab.evaluate", "evaluate", DESCRIPTION, argv, UNUSED)
    with errors_in_one_line(EvaluateError):
        evaluate(overrides)


if __name__ == "__main__":
    main()
