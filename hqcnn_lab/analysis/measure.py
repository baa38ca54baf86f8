"""What a study compares by: test loss or test accuracy, which way is better, and how it is written."""

from dataclasses import dataclass

_EQUAL = 1e-6  # scores are float32


@dataclass(frozen=True)
class Measure:
    """A score of a run's summary, such as `test/loss`: its `key`, and whether lower is better.

    `scale` and `digits` are how it is written: accuracies in percent points. `near_words` says what still counts as
    near the best.
    """

    key: str
    words: str
    falls: bool
    scale: float
    digits: int
    near_words: str

    @property
    def validation(self) -> "Measure":
        """The same of validation images, which learning rates are chosen by."""
        kind = self.key.partition("/")[2]
        return Measure(f"val/{kind}", f"validation {kind}", self.falls, self.scale, self.digits, self.near_words)

    @property
    def axis(self) -> str:
        """What an axis of a picture is called."""
        return self.words if self.falls else f"{self.words} (%)"

    def merit(self, value: float) -> float:
        """The value, turned so that more is better."""
        return -value if self.falls else value

    def is_near(self, value: float, best: float) -> bool:
        """Whether a value is within a point of accuracy, or a tenth of the loss, of the best one."""
        return value <= 1.1 * best + _EQUAL if self.falls else value >= best - 0.01 - _EQUAL

    def is_best(self, value: float, best: float) -> bool:
        """Whether a value is the best one, but for rounding."""
        return self.merit(value) >= self.merit(best) - _EQUAL

    def text(self, value: float) -> str:
        """The value as a table has it."""
        return f"{self.scale * value:.{self.digits}f}"


ACCURACY = Measure("test/accuracy", "test accuracy", False, 100, 2, "1 point")
LOSS = Measure("test/loss", "test loss", True, 1, 4, "10 % of its loss")
MEASURES = {measure.key: measure for measure in (ACCURACY, LOSS)}
