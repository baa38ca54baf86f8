"""A study of two arms, for tests of what runs and reads one."""

# Of the study `optimizers`, two arms; the runs are tiny.
TWO_ARMS = ["~study.conditions.shots_8", *(f"~study.arms.{arm}" for arm in ("sgd", "adamw", "adabelief", "radam"))]
