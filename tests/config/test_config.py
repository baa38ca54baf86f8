"""Wrong values are refused before anything is built, in one line that says what to do."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import tiny_config
from hypothesis import example, given
from hypothesis import strategies as st

from hqcnn_lab.config import check as rules
from hqcnn_lab.config.check import slow_precision
from hqcnn_lab.config.command_line import check_command_line
from hqcnn_lab.config.compose import compose
from hqcnn_lab.config.conf_files import CONFIG_DIR
from hqcnn_lab.config.override import as_override
from hqcnn_lab.config.train_line import read_train_line
from hqcnn_lab.error import ConfigError
from hqcnn_lab.run.training import train

WRONG = {
    # what is typed → what the answer must name
    "dataset=atlas": "dataset=atlas: there is no such choice; dataset is one of kaggle, phantom, rembrandt",
    "optim.lr=abc": "optim.lr=abc: must be a number",
    "optim.lr=-1": "optim.lr=-1: must be at least 0",
    "optim.lr=nan": "must be a finite number, at least 0",
    "optim.lrr=1": "optim.lrr: there is no such key; did you mean optim.lr?",
    "trainer.fast_dev_run=true": "trainer.fast_dev_run: there is no such key; conf/trainer/ leaves it out; Lightning's",
    "optmi.lr=1": "did you mean optim.lr?",
    "sweep=optimizers": "a sweep is `-m` with several values; a study is `python -m hqcnn_lab.study study=…`",
    "export=dicom": "a trained network's export is `python -m hqcnn_lab.export run=…`",
    "optim.zzz=1": "optim has lr, quantum_lr",
    "optim.momentum=1": "optim.momentum=1: must be above 0 and below 1",
    "trainer.precision=bf8": "must be one of 32-true, bf16-mixed",
    "optim.quantum_lr=abc": "optim.quantum_lr=abc: must be a finite number, at least 0",
    "circuit.n_wires=40": "circuit.n_wires=40: must be a whole number from 1 to",
    "circuit.n_wires=6": "model.kernel_size² = 4",
    "circuit.n_wires=0": "must be a whole number from 1",
    "circuit.n_layers=0": "circuit.n_layers=0: must be at least 1",
    "circuit.n_layers=1000000000": "must be at least 1 and at most 1,000",
    "model.widths=[100000000]": "each up to 65,536",
    "circuit.seed=99999999999": "circuit.seed=99999999999: must be at least 0 and below 2³²",
    "circuit.noise.bit_flip=2": "circuit.noise.bit_flip=2: must be between 0 and 1",
    "circuit.encoder=magic": "must be one of angle_y, angle_x",
    "circuit.readout=magic": "must be one of z, x, y",
    "circuit.shots=0": "circuit.shots=0: must be at least 1",
    "+circuit.noise.foo=1": "noise takes depolarizing",
    "circuit.ansatz=magic": "must be one of hardware_efficient, basic_entangler",
    "circuit.engine=magic": "must be one of auto, trig, statevector",
    "trainer.max_epochs=0.5": "trainer.max_epochs=0.5: must be a whole number",
    "trainer.max_epochs=-3": "trainer.max_epochs=-3: must be at least 1",
    "trainer.max_epochs=true": "must be a whole number",
    "dataset.batch_size=-8": "dataset.batch_size=-8: must be at least 1",
    "dataset.val_fraction=1.5": "between 0 and 1",
    "dataset.augment=5": "dataset.augment=5: must be a group of keys, or null",
    "dataset.augment.intensity=1": "dataset.augment.intensity=1: must be at least 0 and below 1",
    "dataset.augment.noise=-0.1": "must be at least 0 and below 1",
    "dataset.augment.cutout=1.2": "must be between 0 and 1",
    "dataset.augment.mixup=inf": "must be a finite number",
    "dataset.balance=weights": "dataset.balance=weights: must be one of sampler, loss",
    "model.widths=[8,-1]": "a list of positive whole numbers",
    "model.widths=8": "must be a list",
    "test_checkpoint=newest": "must be one of last, best",
    "seed=0,-1": "seed=-1: must be at least 0",
    "ckpt_path=nowhere.ckpt": "there is no such file",
    "trainer._target_=os.system": "trainer._target_=os.system: refused",
    "+optim.hook._target_=os.system": "optim.hook._target_=os.system: refused",
    "a=[": "a=[: not of the form key=value",
    "optim=null": "optim=null: there is no such choice",
    "scheduler=null": "scheduler is one of cosine, none",
    "~circuit": "every group is needed",
    "seed=99999999999": "below 2³²",
    "ckpt_path=5": "must be a path",
    "trainer.limit_val_batches=0": "must be a whole number of batches, or a share",
    "trainer.limit_train_batches=2.5": "must be a whole number of batches, or a share",
    "trainer.devices=0": "must be how many devices, at least 1",
    "trainer.devices=null": "trainer.devices=null: must be how many devices",
    "callbacks.early_stopping=true": "callbacks.early_stopping=True: must be a class",
    "monitor='a\nb'": "monitor=a\\nb: must be one of",
    "trainer.devices=[a]": "must be how many devices, at least 1, or a list of their numbers, none twice",
    "trainer.devices=[-1]": "or a list of their numbers, none twice",
    "trainer.devices=[0,0]": "or a list of their numbers, none twice",
    "trainer.devices=auto": "must be how many devices, at least 1",
    "trainer.strategy=fsdp": "must be one of auto, ddp",
    "resume=yes": "must be one of auto",
    "trainer.gradient_clip_val=-1": "must be a positive",
    "+scheduler.total_steps=7": "filled in, from trainer.max_epochs",
    "callbacks.convergence.levels=[90]": "shares between 0 and 1",
    "monitor=val/loss": "must be one of val/accuracy",
}


@pytest.mark.slow
@pytest.mark.parametrize("override", WRONG)
def test_wrong_value_is_refused_in_one_line(override: str) -> None:
    with pytest.raises(ConfigError) as error:
        check_command_line([override])
    assert WRONG[override] in str(error.value)
    assert "\n" not in str(error.value)


WRONG_OF_FILES = {
    "dataset.split=groups": "dataset.split=groups: must be one of official, random, grouped, patient, kfold",
    "dataset.split=5": "dataset.split=5: must be one of official",
    "dataset.fold=-1": "dataset.fold=-1: must be at least 0",
    "dataset.fold=1.5": "dataset.fold=1.5: must be a whole number",
    "dataset.n_folds=1": "dataset.n_folds=1: must be at least 2",
    "dataset.workers=0": "dataset.workers=0: must be at least 1",
    "dataset.manifest=5": "dataset.manifest=5: must be a path",
    "dataset.root=5": "dataset.root=5: must be a path",
    "dataset.splt=random": "dataset.splt: there is no such key; did you mean dataset.split",
    "dataset.split_seed=-1": "dataset.split_seed=-1: must be at least 0",
}
WRONG_OF_REMBRANDT = {
    "dataset.clinical=5": "dataset.clinical=5: must be a path",
    "dataset.clinical_id=5": "dataset.clinical_id=5: must be the name of a column",
    "dataset.clinical_class=5": "dataset.clinical_class=5: must be the name of a column",
    "dataset.clinic=a.csv": "dataset.clinic: there is no such key; did you mean dataset.clinical?",
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dataset", "override"),
    [
        *(("kaggle", override) for override in WRONG_OF_FILES),
        *(("rembrandt", override) for override in WRONG_OF_FILES | WRONG_OF_REMBRANDT),
    ],
)
def test_wrong_value_of_a_data_set_of_files_is_refused_in_one_line(dataset: str, override: str) -> None:
    with pytest.raises(ConfigError) as error:
        check_command_line([f"dataset={dataset}", override])
    assert (WRONG_OF_FILES | WRONG_OF_REMBRANDT)[override] in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["optim=qng", "optim.damping=0"], "optim.damping=0: must be a positive, finite number"),
        (["optim=spsa", "optim.c=0"], "optim.c=0: must be a positive, finite number"),
        (["optim=spsa", "optim.gamma=-1"], "optim.gamma=-1: must be at least 0"),
        (["optim=spsa", "optim.n_directions=0"], "optim.n_directions=0: must be at least 1"),
        (["optim=spsa", "optim.n_directions=1.5"], "optim.n_directions=1.5: must be a whole number"),
        (["optim=adabelief", "optim.betas=[0.9,1]"], "optim.betas=[0.9, 1]: must be two numbers"),
        (["optim=schedule_free_adamw", "optim.betas=[0,0.99]"], "optim.betas=[0, 0.99]: must be two numbers"),
        (["optim=schedule_free_sgd", "optim.momentum=0"], "optim.momentum=0: must be between 0 and 1, both excluded"),
        (["optim=schedule_free_sgd", "optim.warmup_steps=-1"], "optim.warmup_steps=-1: must be at least 0"),
    ],
)
def test_wrong_value_of_an_optimizer_is_refused_in_one_line(overrides: list[str], words: str) -> None:
    with pytest.raises(ConfigError) as error:
        check_command_line(overrides)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["circuit.encoder=reuploading", "circuit.engine=trig"], "circuit: engine='trig' needs an encoder that reads"),
        (["circuit.ansatz=pooling", "circuit.n_layers=3"], "circuit: ansatz='pooling' halves the wires"),
        (["circuit.encoder=amplitude", "circuit.shots=9", "circuit.shot_gradient=parameter_shift"], "straight_through"),
        (["circuit.engine=folded", "circuit.noise.bit_flip=0.1"], "circuit: engine='folded' knows no density matrix"),
    ],
)
def test_a_circuit_that_cannot_be_is_refused_in_one_line(overrides: list[str], words: str) -> None:
    with pytest.raises(ConfigError) as error:
        check_command_line(overrides)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_every_swept_value_is_checked_before_the_first_job() -> None:
    with pytest.raises(ConfigError, match=r"optim\.lr=-2"):
        check_command_line(["optim=gvco,adam", "optim.lr=1,-2"])
    with pytest.raises(ConfigError, match=r"optim\.tau: there is no such key"):
        check_command_line(["optim=gvco,adam", "optim.tau=2"])  # a key of one choice only


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["optim=gvco,adam,sgd", "seed=0,1,2"],
        ["optim=glob(*,exclude=none)"],
        ["seed=range(0,3)"],
        ["optim.lr=1", "trainer.limit_train_batches=5", "trainer.devices=[0]", "trainer.precision=bf16-mixed"],
        ["callbacks.weight_average=null", "dataset.augment=null", "+trainer.overfit_batches=1"],
        ["model=hqcnn_twin", "circuit.n_wires=6", "model.kernel_size=1"],
        ["hydra.sweep.dir=elsewhere", "~callbacks.progress"],
        ["dataset.balance=sampler,loss,null", "dataset.augment.mixup=1", "dataset.augment.cutout=0.25"],
        ["optim.quantum_lr=1e-3", "optim.tau=null"],
    ],
)
def test_right_values_pass(overrides: list[str]) -> None:
    check_command_line(overrides)


def test_several_values_need_a_sweep() -> None:
    with pytest.raises(ConfigError, match="several values need -m"):
        check_command_line(["seed=0,1"], multirun=False)


def test_a_batch_that_memory_cannot_hold_is_refused() -> None:
    wide = ["circuit.n_wires=16", "dataset.batch_size=4096", "model.n_circuits=256"]
    with pytest.raises(ConfigError, match=r"one batch needs about \d+ GiB and this machine has \d+"):
        check_command_line(wide)
    check_command_line([*wide, "model=hqcnn_twin"])


@pytest.mark.slow
def test_dataset_folder_is_looked_at(tmp_path: Path, kaggle_root: Path) -> None:
    check_command_line(["dataset=kaggle", f"dataset.root={kaggle_root}"])
    for root, words in {
        "null": "not set; give the folder that holds Training/ and Testing/",
        str(tmp_path / "missing"): "there is no such folder",
        str(kaggle_root / "Training"): "there is no Training/ in it",
        str(kaggle_root.parent): f"did you mean {kaggle_root}?",
    }.items():
        with pytest.raises(ConfigError) as error:
            check_command_line(["dataset=kaggle", f"dataset.root={root}"])
        assert words in str(error.value)
    for image in (kaggle_root / "Testing" / "glioma").iterdir():
        image.unlink()
    with pytest.raises(ConfigError, match=r"no images in Testing/\{glioma\}"):
        check_command_line(["dataset=kaggle", f"dataset.root={kaggle_root}"])


@pytest.mark.slow
def test_clinical_table_and_manifest_are_looked_at(tmp_path: Path, kaggle_root: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "1.dcm").touch()
    (tmp_path / "table.csv").write_text("SUBJECT_ID,KIND\nP1,GBM\n")
    (tmp_path / "manifest.csv").write_text("file,split\n")
    rembrandt = ["dataset=rembrandt", f"dataset.root={tmp_path / 'tree'}"]
    table = f"dataset.clinical={tmp_path / 'table.csv'}"
    check_command_line([*rembrandt, table, "dataset.clinical_class=kind"])
    for overrides, words in {
        ("dataset=rembrandt", "dataset.root=nowhere"): "dataset.root=nowhere: there is no such folder; it should be",
        ("dataset=rembrandt",): "dataset.root=None: not set; give the folder that NBIA Data Retriever wrote",
        tuple(rembrandt): "dataset.clinical=None: not set; give the clinical table",
        (*rembrandt, table): f"{table}: the clinical table has no column DISEASE_TYPE",
        (*rembrandt, table, "dataset.clinical_class=Type"): f"{table}: the clinical table has no column Type",
        ("dataset=kaggle", f"dataset.root={kaggle_root}", "dataset.manifest=no.csv"): "dataset.manifest=no.csv: no.csv",
        (
            *("dataset=kaggle", f"dataset.root={kaggle_root}", f"dataset.manifest={tmp_path / 'manifest.csv'}"),
        ): "manifest.csv line 1: the columns have to be file,frame,content",
    }.items():
        with pytest.raises(ConfigError) as error:
            check_command_line(list(overrides))
        assert words in str(error.value)
        assert "\n" not in str(error.value)


def test_truncated_and_foreign_checkpoints_are_refused(tmp_path: Path) -> None:
    whole, torn, pickled = tmp_path / "whole.ckpt", tmp_path / "torn.ckpt", tmp_path / "pickled.ckpt"
    torch.save({"state_dict": {"w": torch.zeros(1000)}}, whole)
    torn.write_bytes(whole.read_bytes()[:2000])
    torch.save({"state_dict": {}, "optimizer_states": [], "loops": {}, "x": Path("a planted object")}, pickled)
    for path, words in {
        torn: "not a readable",
        pickled: "not a readable",
        whole: "no weights, model, optimizer or loop state",
    }.items():
        with pytest.raises(ConfigError, match=words) as error:
            check_command_line([f"ckpt_path={path}"])
        assert "\n" not in str(error.value)


OF_HYDRA = {
    # what is typed after -m → what the answer must say
    "hydra=null": "hydra=null: cannot be used here",
    "hydra.job.chdir=abc": "hydra.job.chdir=abc: Value 'abc' is not a valid bool",
    "hydra.run=null": "hydra.run=null: field 'hydra.run' is not Optional",
    "hydra.job_logging=null": "hydra.job_logging=null: field",
    "hydra.job.env_copy=[NOSUCH]": "hydra.job.env_copy=[NOSUCH]: cannot be used here (there is no 'NOSUCH')",
    "+hydra.job.env_set={a=b:1}": "hydra.job.env_set",
    "hydra.sweeper.params={a:1}": "hydra.sweeper.params={a:1}: cannot be used here",
    "+hydra.sweeper.foo=1": "hydra.sweeper.foo: there is no such key; it has max_batch_size, params",
    "hydra.sweeper.max_batch_size=0": "hydra.sweeper.max_batch_size=0: must be a whole number from 1 on",
    "hydra.job_logging.root.level=FOO": "hydra.job_logging.root.level=FOO: must be one of DEBUG, INFO",
    "hydra.hydra_logging.root.level=FOO": "root.level=FOO: must be one of DEBUG, INFO",
    "hydra.verbose=[1]": "hydra.verbose=[1]: must be true, false or the name of a logger",
    "+experiment.foo=1": "+experiment.foo=1: there is no key experiment, and nothing would use it",
    "+optmi.lr=1": "+optmi.lr=1: there is no key optmi, and nothing would use it; did you mean optim?",
    "seed=range(0,0)": "seed=range(0,0): is of no value at all",
    "seed=range(5,0)": "seed=range(5,0): is of no value at all",
    "optim=glob(x*)": "optim=glob(x*): is of no value at all",
    "seed=range(0,9,0)": "seed=range(0,9,0): never comes to its end",
    "seed=range(0,1000000000)": "the sweep comes to 1,000,000,000 jobs; at most 10,000",
    "optim.lr=range(0.1,1,1e-300)": "jobs; at most 10,000",
    "seed=range(0,9),1": "seed=range(0,9),1: a sweep is of values, or of one range",
    "optim.weight_decay=inf": "optim.weight_decay=inf: must be a finite number",
}


@pytest.mark.slow
@pytest.mark.parametrize("override", OF_HYDRA)
def test_what_hydra_itself_would_choke_on_is_refused_in_one_line(override: str) -> None:
    # Regression: Hydra's first line alone, a traceback, or a sweep that began and came to no job.
    with pytest.raises(ConfigError) as error:
        check_command_line([override])
    assert OF_HYDRA[override] in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("hydra.sweeper.n_trials=0", "hydra.sweeper.n_trials=0: must be a whole number from 1 on"),
        ("hydra.sweeper.n_trials=abc", "hydra.sweeper.n_trials=abc: Value 'abc' of type 'str' could not be converted"),
        ("hydra.sweeper.n_jobs=0", "hydra.sweeper.n_jobs=0: must be a whole number from 1 on"),
        ("hydra.sweeper.direction=up", "hydra.sweeper.direction=up: must be one of maximize, minimize"),
        ("hydra.sweeper.max_failure_rate=5", "hydra.sweeper.max_failure_rate=5.0: must be between 0 and 1"),
        ("hydra.sweeper.storage=foo://bar", "hydra.sweeper.storage=foo://bar: must be such as sqlite:///"),
        ("hydra.sweeper.custom_search_space=os.system", "hydra.sweeper.custom_search_space=os.system: must be left"),
        ("+hydra.sweeper.sampler.foo=1", "hydra.sweeper.sampler: "),
        ("hydra.sweeper.sampler._target_=optuna.samplers.Foo", "hydra.sweeper.sampler: "),
        ("optim.lr=interval(1,0.1)", "optim.lr=interval(1,0.1): an interval goes from a smaller"),
        ("optim.lr=tag(log,interval(0,0.1))", "optim.lr=tag(log,interval(0,0.1)): on a logarithmic scale"),
        ("+hydra.sweeper.params={seedd:'choice(1,2)'}", "seedd: there is no such key; did you mean seed?"),
        ("+hydra.sweeper.params={seed:'choice(1,-2)'}", "seed=-2: must be at least 0"),
        ("hydra/launcher=joblib hydra.launcher.n_jobs=0", "hydra.launcher.n_jobs=0: must be how many at a time"),
        ("hydra/launcher=joblib hydra.launcher.pre_dispatch=foo", "hydra.launcher.pre_dispatch=foo: must be a number"),
        ("hydra/launcher=joblib +hydra.launcher.foo=1", "hydra.launcher.foo: there is no such key; it has n_jobs"),
    ],
)
def test_what_a_search_or_a_launcher_would_choke_on_is_refused_in_one_line(lines: str, words: str) -> None:
    # Regression: found out after half a minute, with the advice to run the very same again.
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher" if "joblib" in lines else "optuna")
    overrides = shlex.split(lines) if "joblib" in lines else ["search=optuna_gvco", lines]
    with pytest.raises(ConfigError) as error:
        check_command_line(overrides)
    assert str(error.value).startswith(words)
    assert "\n" not in str(error.value)


def test_options_may_follow_overrides(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    # Regression: `seed=0,1 -m logger=none` was answered by three lines of usage.
    monkeypatch.setattr(sys, "argv", ["train", "logger=none", "--cfg", "job", "-m", "seed=0,1"])
    arguments = read_train_line()
    assert (arguments.multirun, arguments.cfg, arguments.overrides) == (True, "job", ["logger=none", "seed=0,1"])
    assert sys.argv == ["train", "--cfg", "job", "-m", "logger=none", "seed=0,1"]
    monkeypatch.setattr(sys, "argv", ["train", "--foo"])
    with pytest.raises(SystemExit):
        read_train_line()
    assert capsys.readouterr().err == "error: unrecognized arguments: --foo (--help lists what there is)\n"


@pytest.mark.slow
def test_command_line_says_error_and_exits_without_a_traceback(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "hqcnn_lab.train", "optim.lrr=1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode != 0
    assert run.stderr == "error: optim.lrr: there is no such key; did you mean optim.lr?\n"
    assert list(tmp_path.iterdir()) == []  # refused before a run folder was made


ENTRY_POINTS = [
    "report",
    "study",
    "evaluate",
    "predict",
    "export",
    "prepare",
    "diagnose",
    "dashboard",
    "doctor",
    "train",
]  # the last is read


@pytest.mark.slow
def test_help_reads_well_and_needs_no_torch(tmp_path: Path) -> None:
    # Regression: --help took four times as long as it had to, by what was imported and by Hydra's own listing.
    code = (
        "import contextlib, sys, runpy\n"
        f"for name in {ENTRY_POINTS}:\n"
        "    sys.argv = [name, '--help']\n"
        "    with contextlib.suppress(SystemExit): runpy.run_module(f'hqcnn_lab.{name}', run_name='__main__')\n"
        "    slow = {'torch', 'lightning', 'wandb', 'scipy', 'pandas', 'sklearn', 'matplotlib', 'monai', 'plotly'}\n"
        "    assert not slow & set(sys.modules), (name, slow & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "optim: adabelief, adam, adamw, gvco, none, prodigy" in run.stdout
    assert "dataset.root=" in run.stdout
    assert "experiment: baseline_hqcnn" in run.stdout
    assert run.stdout.endswith("hydra.verbose=true logs more\n\n\n")
    assert run.stderr == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    "text", ["~/brain", "/data/Kö (2)", "/a&b", "/a#1", "/o'brien", '/"x"', "/a,b", "/a=b", "\\x", "[a]"]
)
def test_a_text_that_hydra_reads_as_something_else_is_answered_with_what_to_type(text: str) -> None:
    # Regression: the hint spoke of commas, whatever the character was.
    with pytest.raises(ConfigError) as error:
        check_command_line(["dataset=kaggle", f"dataset.root={text}"], multirun=False)
    if text in ("\\x", "[a]"):  # which Hydra takes, as a text and as a list
        return
    [typed] = shlex.split(str(error.value).partition("for this very text: ")[2])
    with pytest.raises(ConfigError) as error:
        check_command_line(["dataset=kaggle", typed], multirun=False)
    assert str(error.value).startswith(f"dataset.root={Path(text).expanduser()}: there is no such folder")


@pytest.mark.slow
@given(st.text(max_size=40))
@example("ends in \\")
@example("\\'\"")
def test_what_to_type_is_this_very_text(text: str) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    [typed] = shlex.split(shlex.quote(as_override("key", text)))
    value = OverridesParser.create().parse_override(typed).value()
    assert getattr(value, "text", value) == text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("hydra.searchpath=[file:///tmp]", "is not read; a choice is a file in "),
        ("hydra.sweep.subdir=x", "a job's folder is named by what it computes"),
        ("hydra.mode=MULTIRUN", "-m makes a sweep"),
        ("model._target_=mynet.MyNet", "one of your own goes into hqcnn_lab/models/"),
        ("dataset.n_train=1000000000", "dataset.n_train=1000000000: so many images need about 38,1"),
        ("dataset.n_test=1099511627776", "dataset.n_test=1099511627776: so many images need about "),
        ("dataset.n_test=2**40", "must be a whole number"),
        ("~seed", "Interpolation key 'seed' not found"),
        ("~trainer.devices", "~trainer.devices: is needed"),
        ("trainer.accelerator=mps", "torch finds no Apple GPU here"),
    ],
)
def test_what_would_be_passed_over_or_found_late_is_refused(override: str, words: str) -> None:
    if override.endswith("mps") and torch.backends.mps.is_available():
        pytest.skip("this is an Apple GPU")
    with pytest.raises(ConfigError) as error:
        check_command_line([override], multirun=False)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_process_for_each_core_is_the_most(monkeypatch: pytest.MonkeyPatch) -> None:
    # Regression: a thousand processes started, and the machine's load passed 90.
    monkeypatch.setattr(rules, "cores", lambda: 4)
    with pytest.raises(ConfigError, match=r"trainer\.devices=1000: .* this machine has 4 cores; that is the most"):
        check_command_line(["trainer.devices=1000", "trainer.accelerator=cpu"], multirun=False)
    check_command_line(["trainer.devices=4", "trainer.accelerator=cpu"], multirun=False)


def test_numbers_of_gpus_are_not_for_a_cpu() -> None:
    # Regression: refused by Lightning once the data was prepared.
    with pytest.raises(ConfigError, match=r"^trainer\.devices=\[5\]: a list is of the numbers of GPUs"):
        check_command_line(["trainer.devices=[5]", "trainer.accelerator=cpu"], multirun=False)


def test_a_process_of_several_that_is_alone_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")  # it would write nothing, and wait for the first one's word
    with pytest.raises(ConfigError, match=r"^LOCAL_RANK=1 is set in the environment, .* trainer\.devices=1; unset it"):
        check_command_line([], multirun=False)


@pytest.mark.slow
@pytest.mark.parametrize("experiment", sorted(p.stem for p in (CONFIG_DIR / "experiment").glob("*.yaml")))
def test_every_experiment_composes_and_passes(experiment: str, kaggle_root: Path) -> None:
    check_command_line([f"experiment={experiment}", f"dataset.root={kaggle_root}"])
    assert compose([f"experiment={experiment}"]).dataset._target_.endswith("KaggleDataModule")


def test_every_config_file_says_what_it_decides() -> None:
    for path in CONFIG_DIR.rglob("*.yaml"):
        comments = [line for line in path.read_text().split("\n")[:2] if line.startswith("# ")]
        assert any("@package" not in line for line in comments), f"{path.name} does not open with a comment"


@pytest.mark.slow
def test_a_precision_that_the_cpu_imitates_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Regression: on a CPU without bfloat16 units a study of an hour took a night, and nothing said why.
    lines = ["trainer.precision=bf16-mixed", "trainer.max_epochs=1"]
    for has, said in ((True, 0), (False, 1)):
        monkeypatch.setattr("hqcnn_lab.torch_private.has_bfloat16_units", lambda has=has: has)
        train(tiny_config(tmp_path / str(has), *lines))
        assert capsys.readouterr().out.count("add trainer.precision=32-true") == said
        config = tiny_config(tmp_path, "trainer.precision=16-mixed")  # which is bfloat16 there, too
        assert ("trainer.precision=16-mixed: " in str(slow_precision(config))) == bool(said)
    assert slow_precision(tiny_config(tmp_path, "trainer.precision=32-true")) is None
    assert slow_precision(tiny_config(tmp_path, *lines, "trainer.accelerator=gpu")) is None
