"""Classify images, or DICOM files, with a trained network: `python -m hqcnn_lab.predict --help`."""

from collections.abc import Sequence

from hqcnn_lab.config.command import run_command
from hqcnn_lab.run.find_run import UNUSED
from hqcnn_lab.run.prediction import PredictError, check_prediction, predict

DESCRIPTION = """\
Classify an image, a DICOM file, or all of a folder, with the network of a run: the probability of each class, and on
request where the network looks. Images are read as in training, so a test image gets what the run's predictions.csv
has for it. Files that cannot be read are named and passed over. Not a diagnosis: docs/predict.md.

  python -m hqcnn_lab.predict run=latest input=scan.dcm                        the newest run that has finished
  python -m hqcnn_lab.predict run=runs/… input=folder out=answers.csv          or answers.json
  python -m hqcnn_lab.predict run=runs/… input=scan.png explain=true           pictures in scan_explained/
  python -m hqcnn_lab.predict run=runs/…/checkpoints/best.ckpt input=scan.dcm
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Predict what the command line asks for; a wrong one is answered in one line, with exit status 1."""
    run_command(
        "hqcnn_lab.predict",
        "predict",
        DESCRIPTION,
        predict,
        argv,
        check=check_prediction,
        unused=UNUSED,
        errors=(PredictError,),
    )


if __name__ == "__main__":
    main()
