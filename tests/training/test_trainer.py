"""The training loop: exact after a kill, exact in several parts, loud about what is wrong."""

import gc
import json
import multiprocessing
import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from tests.training import killable
from vidgen_lab.paths import code_version
from vidgen_lab.training.checkpoint import CheckpointError
from vidgen_lab.training.config import TrainingConfig
from vidgen_lab.training.optim import OptimizerConfig
from vidgen_lab.training.stream import BatchStream, explaining_dead_workers
from vidgen_lab.training.trainer import VideoModelTrainer

PLAIN = TrainingConfig(
    steps=6, precision="no", tensorboard=False, measure=False, log_every=1, checkpoint_every=2
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    assert killable.run(folder) == 0
    return killable.outcome(folder)


@pytest.mark.parametrize(
    ("workers", "kill"),
    [(0, ("step", 7)), (2, ("validation", 12)), (0, ("checkpoint", 22))],
)
def test_a_killed_run_ends_as_if_it_had_not_been(whole, tmp_path, workers, kill):
    assert killable.run(tmp_path, workers, kill=kill) == -9
    assert killable.run(tmp_path, workers) == 0
    assert killable.equal(killable.outcome(tmp_path), whole)


def test_another_seed_ends_elsewhere(whole, tmp_path):
    killable.trainer_in(tmp_path, seed=4).fit()
    assert not killable.equal(killable.outcome(tmp_path), whole)


def test_two_processes_do_what_one_does_with_twice_the_accumulation(tmp_path):
    for kill in (("step", 1), ("step", 8)):  # before the first checkpoint, and after
        assert killable.run(tmp_path / "two", processes=2, kill=kill) == -9
    assert killable.run(tmp_path / "two", processes=2) == 0
    killable.trainer_in(tmp_path / "one", accumulation=2).fit()
    two, one = (killable.outcome(tmp_path / name) for name in ("two", "one"))
    for name in (n for n in one[0] if n.startswith("ema.")):  # batch norm counts for itself
        assert torch.allclose(two[0][name], one[0][name], atol=1e-7), name
    losses = [[row["loss"] for row in rows if "loss" in row] for _, rows in (two, one)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


# an engineer's own model ------------------------------------------------------------------------


def regression(folder, config=PLAIN, model=None, size=4, dtype=torch.float32, **options):
    """The ten lines of the trainer's docstring."""
    torch.manual_seed(0)
    x = torch.randn(24, 5, dtype=dtype)
    data = TensorDataset(x, x.sin())
    model = model or nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 5)).to(dtype)

    def loss(model, batch, draw):
        return (model(batch[0]) - batch[1]).square().mean(1)

    options = {"optimizers": OptimizerConfig(learning_rate=0.01, warmup=0)} | options
    loader = options.pop("data", None) or DataLoader(data, size, shuffle=True)
    loss = options.pop("loss", loss)
    return VideoModelTrainer(model, loss, loader, folder, config, **options)


def weights(trainer):
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


def test_micro_batches_add_up_to_the_big_batch(tmp_path):
    order = torch.randperm(24, generator=torch.Generator().manual_seed(1))
    x = torch.randn(24, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))

    def cut(*sizes):
        ends = torch.tensor(sizes).cumsum(0).tolist()
        parts = [order[end - size : end] for size, end in zip(sizes, ends, strict=True)]
        return [(x[part], x[part].sin()) for part in parts]

    config = replace(PLAIN, ema_decay=0.9, steps=8)
    big = regression(tmp_path / "big", config, dtype=torch.float64, data=cut(12, 12))
    big.fit()
    uneven = replace(config, accumulation=3)
    parts = cut(1, 4, 7, 6, 2, 4)
    small = regression(tmp_path / "small", uneven, dtype=torch.float64, data=parts)
    small.fit()
    assert (weights(big) - weights(small)).abs().max() <= 1e-12
    for name, average in big.ema.shadow.items():
        assert (average - small.ema.shadow[name]).abs().max() <= 1e-12
    assert small.ema.updates == 8  # once a step, not once a micro-batch


def test_a_run_says_whether_it_is_new_and_goes_on_where_it_stopped(tmp_path, capsys):
    trainer = regression(tmp_path)
    assert trainer.fit().resumed_from == 0
    assert "a new run of 6 steps" in capsys.readouterr().out
    about = json.loads((tmp_path / "run.json").read_text())
    assert about["code"] == code_version() and about["settings"]["training"]["seed"] == PLAIN.seed
    again = regression(tmp_path, replace(PLAIN, steps=8))
    with pytest.raises(ValueError, match=r"training.steps: 6 -> 8"):
        again.fit()
    result = again.fit(allow=["training.steps"])
    assert (result.resumed_from, result.step) == (6, 8)
    assert "resumed at step 6 of 8" in capsys.readouterr().out
    assert [row["step"] for row in result.history] == list(range(1, 9))
    whole = regression(tmp_path / "whole", replace(PLAIN, steps=8))
    whole.fit()
    assert not torch.equal(weights(whole), torch.zeros_like(weights(whole)))


def test_a_run_tells_by_which_versions_of_the_code_it_was_trained(tmp_path, monkeypatch):
    for steps, code in enumerate(("abc1234", "abc1234+", "", "abc1234"), start=1):
        monkeypatch.setattr("vidgen_lab.training.checkpoint.code_version", lambda code=code: code)
        regression(tmp_path, replace(PLAIN, steps=steps)).fit(allow=["training.steps"])
    assert json.loads((tmp_path / "run.json").read_text())["code"] == "abc1234, abc1234+"


def test_a_learning_rate_that_was_changed_on_resuming_has_effect(tmp_path):
    regression(tmp_path, replace(PLAIN, steps=2)).fit()
    constant = OptimizerConfig(learning_rate=0.5, warmup=0, schedule="constant")
    changed = regression(tmp_path, replace(PLAIN, ema_decay=0.9, steps=3), optimizers=constant)
    allowed = ["training.steps", "training.ema_decay"]
    rows = changed.fit(allow=allowed).history
    assert rows[-1]["learning_rate"] == 0.5


def test_nothing_is_left_of_a_run_that_died_before_its_first_checkpoint(tmp_path):
    held_out, config = [(torch.ones(2, 5), torch.zeros(2, 5))], replace(PLAIN, validate_every=6)

    def broken(model, batch, draw):
        if model.training:
            raise RuntimeError("broke")
        return (model(batch[0]) * 3).square().mean(1)

    with pytest.raises(RuntimeError, match="broke"):
        regression(tmp_path, config, loss=broken, held_out=held_out).fit()
    again = replace(config, seed=1)  # another run altogether, so nothing to allow
    rows = regression(tmp_path, again, held_out=held_out).fit().history
    alone = regression(tmp_path / "alone", again, held_out=held_out).fit().history
    assert rows[0] == alone[0] and rows[0]["step"] == 0


def test_samples_are_written_and_shown_where_the_losses_are(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from vidgen_lab.video.clip import Clip
    from vidgen_lab.video.reader import probe_video

    seen = []

    def sample(model, step):
        assert not model.training and not torch.is_grad_enabled()
        seen.append((step, torch.rand(1).item()))
        return [Clip(np.full((4, 16, 16, 3), 40 * step, np.uint8), 8)]

    config = replace(PLAIN, sample_every=4, tensorboard=True)
    trainer = regression(tmp_path / "a", config, sample=sample)
    trainer.fit()
    assert [step for step, _ in seen] == [0, 4, 6] and len({value for _, value in seen}) == 1
    assert probe_video(tmp_path / "a/samples/step_00000004_0.mp4").num_frames == 4
    events = EventAccumulator(str(tmp_path / "a/tensorboard"), {"images": 0}).Reload()
    losses = [(event.step, event.value) for event in events.Scalars("loss")]
    rows = [row for row in trainer.run.history() if "loss" in row]
    assert losses == [(row["step"], pytest.approx(row["loss"])) for row in rows]
    assert "samples/0" in events.Tags()["images"] and "step" not in events.Tags()["scalars"]
    plain = regression(tmp_path / "b")
    plain.fit()
    assert torch.equal(weights(trainer), weights(plain))  # sampling left no trace


def test_an_interrupt_finishes_the_step_saves_and_leaves_usable_objects(tmp_path, capsys):
    def interrupting(row):
        if row["step"] == 3:
            os.kill(os.getpid(), signal.SIGINT)

    held_out = iter([(torch.ones(2, 5), torch.zeros(2, 5))])  # to be gone through twice
    config, before = replace(PLAIN, validate_every=6), signal.getsignal(signal.SIGINT)
    trainer = regression(tmp_path, config, on_log=interrupting, held_out=held_out)
    result = trainer.fit()
    assert result.interrupted and result.step in (3, 4)
    assert not any("held_out" in row for row in result.history[1:])  # nobody is kept waiting
    assert "run again to go on" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGINT) is before
    trainer.model(torch.zeros(1, 5))
    assert not trainer.fit().interrupted
    whole = regression(tmp_path / "whole")
    whole.fit()
    assert torch.equal(weights(trainer), weights(whole))


def test_a_step_that_broke_off_is_done_again(tmp_path):
    broken = []

    def loss(model, batch, draw):
        if draw.number == 3 and not broken:  # the second part of the second step
            broken.append(True)
            raise RuntimeError("broke")
        return (model(batch[0]) - batch[1]).square().mean(1)

    config = replace(PLAIN, accumulation=2)
    trainer = regression(tmp_path / "a", config, loss=loss)
    with pytest.raises(RuntimeError, match="broke"):
        trainer.fit()
    rows, whole = trainer.fit().history, regression(tmp_path / "b", config)
    losses = [(row["step"], row["loss"]) for row in whole.fit().history]
    assert torch.equal(weights(trainer), weights(whole))
    assert [(row["step"], row["loss"]) for row in rows] == losses


def test_two_runs_in_one_folder_are_refused(tmp_path):
    child = killable.start(killable.hold, tmp_path, tmp_path / "held")
    while not (tmp_path / "held").exists():
        child.join(0.1)
        assert child.is_alive()
    try:
        with pytest.raises(RuntimeError, match=f"another run .process {child.pid}. trains in"):
            regression(tmp_path).fit()
    finally:
        child.kill()
        child.join()
    assert regression(tmp_path).fit().step == 6


def test_the_held_out_loss_is_measured_from_step_0_and_always_alike(tmp_path):
    held_out = [(torch.randn(3, 5), torch.zeros(3, 5))]

    def loss(model, batch, draw):
        levels = draw.uniform(len(batch[0]))
        return (
            (model(batch[0] + draw.noise(batch[0]) * levels[:, None]) - batch[1]).square().mean(1)
        )

    config = replace(PLAIN, validate_every=3, noise_levels=(0.25, 0.75))
    frozen = OptimizerConfig(learning_rate=0.0, weight_decay=0.0)
    made = {"loss": loss, "held_out": held_out}
    rows = regression(tmp_path / "a", config, optimizers=frozen, **made).fit().history
    measured = [row for row in rows if "held_out" in row]
    assert [row["step"] for row in measured] == [0, 3, 6]
    assert len({row["held_out"] for row in measured}) == 1
    assert measured[0]["held_out_0.25"] != measured[0]["held_out_0.75"]
    without = regression(tmp_path / "b", PLAIN, loss=loss)
    without.fit()
    beside = regression(tmp_path / "c", config, **made)
    beside.fit()
    assert torch.equal(weights(without), weights(beside))  # the training does not notice
    assert {"loss_band_0", "loss_band_3"} <= set(without.run.history()[0])


# what goes wrong --------------------------------------------------------------------------------


def test_what_is_not_finite_is_named_or_left_out(tmp_path):
    x = torch.ones(2, 5)
    batches = [
        {"x": x, "id": ["a", "b"]}, {"x": x * torch.nan, "id": ["c", "d"]}, {"x": x, "id": ["e"]}
    ]  # fmt: skip

    def loss(model, batch, draw):
        return (model(batch["x"]) * draw.uniform(len(batch["x"]))[:, None]).square().mean(1)

    options = {"loss": loss, "data": batches}
    with pytest.raises(FloatingPointError, match=r"step 1 .*clips \['c', 'd'\], noise levels \["):
        regression(tmp_path / "a", **options).fit()
    skipping = replace(PLAIN, on_nonfinite="skip", ema_decay=0.5)
    trainer = regression(tmp_path / "b", skipping, **options)
    trainer.fit()
    assert (trainer.step, trainer.updates, trainer.ema.updates) == (6, 4, 4)
    ids_first = [{"id": ["a", "b"], "scale": torch.tensor(2.0), "x": x}]  # no tensors of a batch
    assert regression(tmp_path / "d", loss=loss, data=ids_first).fit().step == 6
    assert weights(trainer).isfinite().all()
    with pytest.raises(FloatingPointError, match="not finite at step 9"):
        regression(tmp_path / "c", replace(skipping, steps=20), loss=loss, data=batches[1:2]).fit()


def test_half_precision_skips_a_step_that_overflows_and_the_schedule_waits(tmp_path):
    factors = []
    config = replace(PLAIN, precision="fp16", steps=5)

    def schedule(step):
        factors.append(step)
        return 1.0

    trainer = regression(tmp_path, config, schedule=schedule)
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40, growth_interval=100)
    trainer.fit()
    assert trainer.step == 5 and trainer.updates < 5
    assert factors[:2] == [0, 0] and trainer.scaler.get_scale() < 2.0**40


def test_a_torn_or_foreign_checkpoint_is_refused_and_the_one_before_is_used(tmp_path):
    trainer = regression(tmp_path / "a")
    trainer.fit()
    last = tmp_path / "a/checkpoints/step_00000006"
    data = bytearray((last / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (last / "model.safetensors").write_bytes(data)
    (tmp_path / "a/checkpoints/notes.txt").write_text("latest chokes on such a file elsewhere")
    with pytest.warns(UserWarning, match="model.safetensors is missing, cut or altered"):
        assert regression(tmp_path / "a").fit().resumed_from == 4
    regression(tmp_path / "b", replace(PLAIN, steps=4)).fit()
    (tmp_path / "b/checkpoints/step_00000004").rename(tmp_path / "a/checkpoints/step_00000009")
    with pytest.warns(UserWarning, match="belongs to another run"):
        assert regression(tmp_path / "a").fit().resumed_from == 6
    wider = nn.Sequential(nn.Linear(5, 9), nn.Linear(9, 5))
    with pytest.warns(UserWarning), pytest.raises(CheckpointError, match="of another model"):
        regression(tmp_path / "a", model=wider).fit()


def test_a_full_disk_costs_a_checkpoint_not_the_run(tmp_path, monkeypatch, capsys):
    from vidgen_lab.training import checkpoint

    write, full = checkpoint.write_files, []

    def write_files(files):
        name = str(next(iter(files)))
        if "optimizer" in name and not full:
            full.append(True)
            raise OSError(28, "No space left on device")
        write(files)

    monkeypatch.setattr(checkpoint, "write_files", write_files)
    assert regression(tmp_path).fit().step == 6
    assert "step 2 was not written: [Errno 28]" in capsys.readouterr().out
    assert not list((tmp_path / "checkpoints").glob(".*"))


def test_a_full_disk_costs_a_line_of_the_log_not_the_run(tmp_path, monkeypatch, capsys):
    trainer, make, full = regression(tmp_path), Path.mkdir, []
    log = trainer.run.log

    def mkdir(path, *args, **options):
        if path.suffix == ".part" and not full:
            full.append(True)
            raise OSError(28, "No space left on device")
        make(path, *args, **options)

    def torn(row):
        if row["step"] == 3:
            with trainer.run.log_file.open("a") as file:
                file.write('{"step": 3, "lo\n')
            raise OSError(28, "No space left on device")
        log(row)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    monkeypatch.setattr(trainer.run, "log", torn)
    assert [row["step"] for row in trainer.fit().history] == [1, 2, 4, 5, 6]
    said = capsys.readouterr().out
    assert "step 2 was not written" in said and "step 3 has no line in the log: [Errno 28]" in said


def test_a_damaged_checkpoint_does_not_push_out_the_good_ones(tmp_path):
    config = replace(PLAIN, keep_last=1)
    regression(tmp_path, config).fit()
    checkpoints = tmp_path / "checkpoints"
    shutil.copytree(checkpoints / "step_00000006", checkpoints / "step_00000099")
    (checkpoints / "step_00000099/model.safetensors").write_bytes(b"torn")
    longer = replace(config, steps=8)
    with pytest.warns(UserWarning, match="is damaged"):
        regression(tmp_path, longer).fit(allow=["training.steps"])
    kept = {path.name for path in checkpoints.iterdir()}
    assert kept == {"step_00000008", "step_00000099"}
    (tmp_path / "run.json").unlink()
    with pytest.raises(ValueError, match=r"holds checkpoints, but .*run\.json is not there"):
        regression(tmp_path, longer).fit()
    assert {path.name for path in checkpoints.iterdir()} == kept


def test_a_changed_run_goes_on_or_says_why_not(tmp_path):
    regression(tmp_path, replace(PLAIN, steps=2)).fit()
    about = (tmp_path / "run.json").read_text()
    allow = ["training.steps", "training.precision"]
    with pytest.raises(ValueError, match="batch size changed since"):
        regression(tmp_path, size=6).fit(allow)

    def sgd(model):
        return {"sgd": torch.optim.SGD(model.parameters(), 0.1)}

    with pytest.raises(CheckpointError, match="has no optimizer_sgd"):
        regression(tmp_path, optimizers=sgd).fit(allow)
    assert (tmp_path / "run.json").read_text() == about  # so the run goes on as it was
    with pytest.raises(ValueError, match="processes times training.accumulation"):
        regression(tmp_path, replace(PLAIN, steps=2, accumulation=2)).fit()
    one = regression(tmp_path / "one", optimizers=lambda m: torch.optim.SGD(m.parameters(), 0.1))
    assert one.fit().step == PLAIN.steps  # a function may build one optimizer, without a name
    half = replace(PLAIN, steps=4, precision="fp16")  # which scales losses, and before it did not
    assert regression(tmp_path, half).fit(allow).resumed_from == 2


def test_the_last_ones_and_the_best_are_kept(tmp_path):
    held_out = [(torch.ones(1, 5), torch.zeros(1, 5))]
    config = replace(PLAIN, steps=8, keep_last=2, validate_every=2)
    rate = OptimizerConfig(learning_rate=0.05, warmup=0)
    trainer = regression(tmp_path, config, held_out=held_out, optimizers=rate)
    rows = [r for r in trainer.fit().history if "held_out" in r and r["step"]]
    best = min(rows, key=lambda r: r["held_out"])["step"]
    assert trainer.run.best_step() == best
    kept = {int(p.name[5:]) for p in (tmp_path / "checkpoints").iterdir()}
    assert kept == {6, 8, best}


def test_a_gpu_that_is_not_there_and_no_data_are_one_clear_line(tmp_path):
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="device=cuda, but PyTorch finds no GPU"):
            regression(tmp_path, replace(PLAIN, device="cuda"))
    with pytest.raises(ValueError, match="no batch to train on"):
        VideoModelTrainer(nn.Linear(1, 1), print, [], tmp_path, PLAIN).fit()
    with pytest.raises(ValueError, match="there were 2 batches and no more"):  # a generator ends
        twice = ((torch.ones(4, 5), torch.ones(4, 5)) for _ in range(2))
        regression(tmp_path / "ends", data=twice).fit()
    with pytest.raises(TypeError, match="a loss gives a tensor.* not float"):
        regression(tmp_path / "loss", loss=lambda model, batch, draw: 3.0).fit()
    with pytest.raises(ValueError, match="nothing to train"):
        regression(tmp_path, model=nn.Linear(5, 5).requires_grad_(False))
    with pytest.raises(ValueError, match="steps must be 1 or more"):
        replace(PLAIN, steps=0)
    for wrong in ({"max_grad_norm": -1.0}, {"checkpoint_every": -1}, {"noise_levels": ()}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            replace(PLAIN, **wrong)


def test_workers_end_with_a_training_that_is_killed(tmp_path):
    child = killable.start(killable.load_for_ever, tmp_path)
    while len(pids := [int(file.name) for file in tmp_path.iterdir()]) < 2:
        child.join(0.1)
        assert child.is_alive()
    child.kill()
    child.join()
    for _ in range(600):
        if not any(killable.is_running(pid) for pid in pids):
            break
        time.sleep(0.1)
    else:
        pytest.fail(f"{pids} are still there")


def test_workers_do_not_outlive_a_training(tmp_path):
    before, x = multiprocessing.active_children(), torch.zeros(24, 5)
    loader = DataLoader(TensorDataset(x, x), 4, num_workers=2)
    trainer = regression(tmp_path, data=loader)
    trainer.fit()
    assert multiprocessing.active_children() == before and trainer.stream.position == 6


def test_workers_end_at_once_with_a_stream_that_is_dropped(tmp_path):
    """Found by the garbage collector among other garbage they were waited for, 5 s each."""
    stream = BatchStream(DataLoader(killable.Noted(tmp_path), 4, num_workers=1))
    next(stream)
    (worker,) = tmp_path.iterdir()
    gc.disable()
    try:
        del stream
        assert not killable.is_running(int(worker.name))
    finally:
        gc.enable()


def test_workers_leave_ctrl_c_to_the_training(tmp_path):
    stream = BatchStream(DataLoader(killable.Noted(tmp_path), 4, num_workers=1))
    next(stream)
    (worker,) = tmp_path.iterdir()
    os.kill(int(worker.name), signal.SIGINT)
    for _ in range(6):
        next(stream)
    assert [path.name for path in tmp_path.iterdir()] == [worker.name]


def test_a_worker_that_dies_is_reported(tmp_path):
    class Dying(TensorDataset):
        def __getitem__(self, index):
            if index == 20:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().__getitem__(index)

    x = torch.zeros(24, 5)
    loader = DataLoader(Dying(x, x), 4, num_workers=1)
    with pytest.raises(RuntimeError, match="a process that loads data died"):
        regression(tmp_path, data=loader).fit()
    # which step it surfaces in is the operating system's affair
    assert regression(tmp_path, data=loader).run.latest().step in (2, 4)


def test_a_worker_whose_death_is_told_twice_is_reported_once():
    def late(*_):
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")

    before = signal.signal(signal.SIGALRM, late)
    try:
        told = pytest.raises(RuntimeError, match="data died .Connection reset")
        with told, explaining_dead_workers():
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            raise ConnectionResetError("Connection reset by peer")
        time.sleep(0.2)
    finally:
        signal.signal(signal.SIGALRM, before)
