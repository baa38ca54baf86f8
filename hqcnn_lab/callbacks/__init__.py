"""What watches a run: one small file each."""

from hqcnn_lab.callbacks.averaged_point import AveragedPoint
from hqcnn_lab.callbacks.best_checkpoint import BestCheckpoint
from hqcnn_lab.callbacks.convergence import Convergence
from hqcnn_lab.callbacks.epoch_seed import EpochSeed
from hqcnn_lab.callbacks.gradient_variance import GradientVariance
from hqcnn_lab.callbacks.kept_epochs import KeptEpochs
from hqcnn_lab.callbacks.metrics_first import MetricsFirst
from hqcnn_lab.callbacks.optimizer_state import OptimizerState
from hqcnn_lab.callbacks.progress import Progress
from hqcnn_lab.callbacks.resume_state import ResumeState
from hqcnn_lab.callbacks.step_size import StepSize
from hqcnn_lab.callbacks.stop_checkpoint import StopCheckpoint
from hqcnn_lab.callbacks.weight_average import WeightAverage

__all__ = [
    "AveragedPoint",
    "BestCheckpoint",
    "Convergence",
    "EpochSeed",
    "GradientVariance",
    "KeptEpochs",
    "MetricsFirst",
    "OptimizerState",
    "Progress",
    "ResumeState",
    "StepSize",
    "StopCheckpoint",
    "WeightAverage",
]
