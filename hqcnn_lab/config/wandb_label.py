"""What W&B takes for the labels of a run: its client or its server would refuse others after the data is prepared."""

from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from hqcnn_lab.error import ConfigError, shown

# What is to be W&B's: the key, how many characters it takes, and which it does not take.
_WANDB = (
    ("project", 128, r"/\#?%:"),
    ("entity", 128, r"/\#?%: "),
    ("id", 128, r":;,#?/'\%"),
    ("version", 128, r":;,#?/'\%"),  # another word for id
    ("name", 128, ""),
    ("group", 128, ""),
    ("job_type", 64, ""),
)


def check_wandb_labels(config: DictConfig, key: str) -> None:
    """Raise `ConfigError` for what W&B's client or its server would refuse, once the data is prepared or later."""

    def given(name: str) -> Any:
        value = OmegaConf.select(config, f"{key}.{name}", throw_on_resolution_failure=False)
        return list(value) if isinstance(value, ListConfig) else value

    if (tags := given("tags")) is not None and not isinstance(tags, list):
        raise ConfigError(f"{key}.tags={shown(str(tags))}: must be a list, such as [paper,draft]")
    for tag in tags or []:
        _check_label(f"{key}.tags", tag, 64)
    for name, longest, forbidden in _WANDB:
        if (value := given(name)) is not None:
            _check_label(f"{key}.{name}", str(value) if name == "name" else value, longest, forbidden)
            if name in ("id", "version") and value != value.strip():
                raise ConfigError(f"{key}.{name}={shown(value)}: W&B takes no space at its ends")
    if (notes := given("notes")) is not None and not isinstance(notes, str):
        raise ConfigError(f"{key}.notes={notes}: must be text; put a number in quotes")


def _check_label(key: str, text: Any, longest: int, forbidden: str = "") -> None:
    wrong = ""
    if not isinstance(text, str):
        wrong = "must be text; put a number in quotes"
    elif not 0 < len(text.strip()) <= len(text) <= longest:
        wrong = f"W&B takes 1 to {longest} characters, this is of {len(text)}"
    elif not text.isprintable():
        wrong = "has a line break or another character that cannot be seen"
    elif character := next((letter for letter in text if letter in forbidden), ""):
        wrong = f"W&B takes no {character.replace(' ', 'space')} in it"
    if wrong:
        raise ConfigError(f"{key}={shown(str(text))}: {wrong}")
