"""Trainings that are told to stop, lose a process or their disk: what they keep, how they end, how they go on."""

from __future__ import annotations

import errno
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import depth_arguments, points_arguments, pretrain_arguments
from safetensors.torch import load_file
from triplet_runs import scalars

from clip2x.cli import main
from clip2x.data.shapenet_pairs import ShapeNetPairs
from clip2x.errors import BadFileError
from clip2x.modules.checkpoint_files import AtomicCheckpointIO, damage
from clip2x.modules.depth_pretraining import DepthPretraining
from clip2x.signals import TERMINATED

REPO = Path(__file__).resolve().parents[1]
NAME = "depth_encoder.safetensors"


def equal_weights(first: Path, second: Path) -> bool:
    one, other = load_file(first), load_file(second)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def run_with(fault: str, arguments: list[str], timeout: float = 240) -> subprocess.CompletedProcess[str]:
    """Run a stage with a fault in processes of its own, in their own group."""
    command = [sys.executable, str(REPO / "tests" / "faulty_run.py"), fault, *arguments]
    return subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=timeout, start_new_session=True, check=False,
                          env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPO)})


def two(arguments: list[str]) -> list[str]:
    return [*arguments, "--trainer.devices", "2", "--trainer.strategy", "ddp"]


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGUSR1], ids=lambda number: number.name)
def test_a_stopped_training_saves_its_step_and_goes_on_to_the_same_weights(
        signum: int, tiny_pairs: Path, tiny_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """At a step that is no validation's; the checkpoint is of that step, not of the last validation."""
    def arguments(name: str) -> list[str]:
        return [*depth_arguments(tiny_pairs, tiny_clip, tmp_path / name, steps=8), "--trainer.val_check_interval", "4"]

    assert main(arguments("straight")) == 0
    step = DepthPretraining.training_step

    def stopping(self: DepthPretraining, *batch: Any) -> torch.Tensor:
        if self.global_step == 5:
            os.kill(os.getpid(), signum)
        return step(self, *batch)

    monkeypatch.setattr(DepthPretraining, "training_step", stopping)
    before = signal.getsignal(signum)
    assert main(arguments("stopped")) == TERMINATED == 143
    last = tmp_path / "stopped" / "checkpoints" / "last.ckpt"
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said == f"stopped by {signal.Signals(signum).name} after step 6 of 8; the same command goes on from {last}"
    assert torch.load(last, weights_only=True)["global_step"] == 6 and not (tmp_path / "stopped" / NAME).exists()
    assert signal.getsignal(signum) == before, "handlers are put back"
    monkeypatch.undo()
    assert main(arguments("stopped")) == 0
    assert equal_weights(tmp_path / "straight" / NAME, tmp_path / "stopped" / NAME)
    kept = [torch.load(tmp_path / name / "checkpoints" / "best.ckpt", weights_only=True) for name in ("straight", "stopped")]
    assert kept[0]["global_step"] == kept[1]["global_step"], "validations came at the same steps"


@pytest.mark.parametrize("stage", ["pretrain_clip", "pretrain_points"])
def test_other_trainings_stop_likewise(stage: str, tiny_world: Path, tiny_pairs: Path, tiny_clip: Path, named_store: Path, tmp_path: Path,
                                       monkeypatch: pytest.MonkeyPatch) -> None:
    from clip2x.modules.clip_pretraining import ClipPretraining
    from clip2x.modules.triplet_pretraining import TripletPretraining

    kind, name = {"pretrain_clip": (ClipPretraining, "clip.safetensors"), "pretrain_points": (TripletPretraining, "point_encoder.safetensors")}[stage]

    def arguments(folder: Path) -> list[str]:
        if stage == "pretrain_clip":
            return [*pretrain_arguments(tiny_world, folder, steps=4), "--ckpt_path", "last"]
        return [*points_arguments(tiny_pairs, tiny_clip, named_store, folder, steps=4), "--data.watch", "[]", "--trainer.val_check_interval", "4"]

    assert main(arguments(tmp_path / "straight")) == 0
    step = kind.training_step

    def stopping(self: Any, *batch: Any) -> torch.Tensor:
        if self.global_step == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        loss: torch.Tensor = step(self, *batch)
        return loss

    monkeypatch.setattr(kind, "training_step", stopping)
    assert main(arguments(tmp_path / "stopped")) == TERMINATED
    assert torch.load(tmp_path / "stopped" / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 2
    monkeypatch.undo()
    assert main(arguments(tmp_path / "stopped")) == 0
    assert equal_weights(tmp_path / "straight" / name, tmp_path / "stopped" / name)


def test_before_the_first_step_it_ends_at_once(tiny_pairs: Path, tiny_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                               capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(DepthPretraining, "on_fit_start", lambda self: os.kill(os.getpid(), signal.SIGTERM))
    assert main(depth_arguments(tiny_pairs, tiny_clip, tmp_path, steps=4)) == TERMINATED
    assert "stopped by SIGTERM" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.ckpt"))


def test_other_commands_end_in_143_and_clean_up(tiny_pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from clip2x.data import check

    def interrupted(*unused: Any, **options: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    monkeypatch.setattr(check, "check_data", interrupted)
    assert main(["check-data", "modelnet10", "--root", str(tmp_path)]) == TERMINATED
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["SIGTERM@3@0", "SIGTERM@3@1", "SIGTERM@3@all", "group:SIGTERM@3@1"])
def test_two_processes_stop_at_the_same_step(fault: str, tiny_pairs: Path, tiny_clip: Path, tmp_path: Path) -> None:
    """Whichever process is told; with reader processes, which get the signal too when it goes to all of a job."""
    arguments = two([*depth_arguments(tiny_pairs, tiny_clip, tmp_path / "run", steps=6), "--data.num_workers", "1"])
    stopped = run_with(fault, arguments)
    assert stopped.returncode == TERMINATED, stopped.stderr[-3000:]
    assert stopped.stderr.count("stopped by SIGTERM after step 4 of 6") == 1
    assert torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 4
    assert run_with("SIGTERM@99@0", arguments).returncode == 0
    straight = two([*depth_arguments(tiny_pairs, tiny_clip, tmp_path / "straight", steps=6), "--data.num_workers", "1"])
    assert run_with("SIGTERM@99@0", straight).returncode == 0
    assert equal_weights(tmp_path / "run" / NAME, tmp_path / "straight" / NAME)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_when_a_process_dies_all_end_within_a_minute(rank: int, tiny_pairs: Path, tiny_clip: Path, tmp_path: Path) -> None:
    start = time.monotonic()
    run = run_with(f"SIGKILL@3@{rank}", two(depth_arguments(tiny_pairs, tiny_clip, tmp_path, steps=50)), timeout=120)
    assert run.returncode not in (0, TERMINATED)
    assert time.monotonic() - start < 100, "start-up included"
    if rank == 1:
        reasons = ("-9", "Connection closed by peer", "Connection reset by peer")  # Lightning's, and the two that gloo has for it
        assert any(reason in run.stderr for reason in reasons), run.stderr[-2000:]
    time.sleep(2)
    left = subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True, text=True, check=False).stdout
    assert not left, f"processes of the run are left: {left}"
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 2


def test_a_reader_process_that_dies_is_one_line(tiny_pairs: Path, tiny_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                capsys: pytest.CaptureFixture[str]) -> None:
    read = ShapeNetPairs.__getitem__

    def dying(self: ShapeNetPairs, key: Any) -> Any:
        if torch.utils.data.get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return read(self, key)

    monkeypatch.setattr(ShapeNetPairs, "__getitem__", dying)
    assert main([*depth_arguments(tiny_pairs, tiny_clip, tmp_path, steps=2), "--data.num_workers", "1"]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("error: a reader process has ended") and "data.num_workers" in line


def test_a_disk_that_fills_up_leaves_the_last_good_checkpoint(tiny_pairs: Path, tiny_clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit on the size of files stands in for it: it stops writing in the middle, as a full disk does."""
    arguments = depth_arguments(tiny_pairs, tiny_clip, tmp_path, steps=4)
    step, last = DepthPretraining.training_step, tmp_path / "checkpoints" / "last.ckpt"
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)

    def filling(self: DepthPretraining, *batch: Any) -> torch.Tensor:
        if self.global_step == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (last.stat().st_size // 2, most))
        return step(self, *batch)

    monkeypatch.setattr(DepthPretraining, "training_step", filling)
    try:
        assert main(arguments) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    assert "make room and give the same command again" in capsys.readouterr().err.strip().splitlines()[-1]
    assert torch.load(last, weights_only=True)["global_step"] == 2 and damage(last) is None
    assert not [path for path in last.parent.iterdir() if path.name.startswith(".")], "nothing half-written is left"
    monkeypatch.undo()
    assert main(arguments) == 0


def test_writing_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, path = AtomicCheckpointIO(), tmp_path / "last.ckpt"
    files.save_checkpoint({"step": 1, "weights": torch.arange(1000)}, path)

    def failing(content: Any, stream: Any) -> None:
        stream.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", failing)
    with pytest.raises(OSError, match="No space"):
        files.save_checkpoint({"step": 2}, path)
    assert files.load_checkpoint(path)["step"] == 1 and [item.name for item in tmp_path.iterdir()] == ["last.ckpt"]


def test_every_changed_byte_of_the_weights_is_noticed(tmp_path: Path) -> None:
    """Cut or changed anywhere: refused, or read with the same content (the archive's padding holds none)."""
    files, path = AtomicCheckpointIO(), tmp_path / "last.ckpt"
    content = {"step": 7, "weights": torch.arange(2000.0), "name": "x" * 100}
    files.save_checkpoint(content, path)
    whole, rng, refused = path.read_bytes(), random.Random(0), 0
    for trial in range(300):
        place = rng.randrange(len(whole))
        changed = bytearray(whole)
        changed[place] ^= 1 << rng.randrange(8)
        path.write_bytes(whole[:place] if trial % 3 == 0 else bytes(changed))
        try:
            read = files.load_checkpoint(path)
        except BadFileError as error:
            refused += 1
            assert str(path) in str(error) and "delete the folder" in str(error) and "\n" not in str(error)
        else:
            assert read["step"] == 7 and read["name"] == content["name"] and torch.equal(read["weights"], content["weights"]), place
    assert refused > 200


def test_a_damaged_checkpoint_is_named_with_the_other_one(tiny_pairs: Path, tiny_clip: Path, tmp_path: Path,
                                                          capsys: pytest.CaptureFixture[str]) -> None:
    arguments = depth_arguments(tiny_pairs, tiny_clip, tmp_path, steps=2)
    assert main(arguments) == 0
    last = tmp_path / "checkpoints" / "last.ckpt"
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes(bytes(content))
    assert main([*arguments, "--trainer.max_steps", "4"]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith(f"error: {last}: is damaged") and f"--ckpt_path {last.with_name('best.ckpt')}" in line


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def start(command: list[str], environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, cwd=REPO, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPO), **environment})


def slurm(node: int, port: str) -> dict[str, str]:
    """The environment that SLURM's srun gives the only task of one of two nodes."""
    return {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "clip2x", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "1", "SLURM_PROCID": str(node),
            "SLURM_LOCALID": "0", "SLURM_NODEID": str(node), "SLURM_NNODES": "2", "SLURM_NODELIST": "127.0.0.1", "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port}


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["torchrun", "slurm"])
def test_two_machines_learn_what_one_process_does(launcher: str, tiny_pairs: Path, tiny_clip: Path, tmp_path: Path) -> None:
    """Two nodes of one process each on this machine: by torchrun, and with the environment that SLURM's srun gives."""
    exact = ["--trainer.precision", "32-true"]
    arguments = [*depth_arguments(tiny_pairs, tiny_clip, tmp_path / "two", steps=3), "--trainer.devices", "1", "--trainer.num_nodes", "2",
                 "--trainer.strategy", "ddp", *exact]
    port, stages = free_port(), ["-m", "stages", *arguments]
    processes = []
    for node in (0, 1):
        if launcher == "torchrun":
            command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", "--node-rank", str(node),
                       "--master-addr", "127.0.0.1", "--master-port", port, *stages]
            processes.append(start(command, {}))
        else:
            processes.append(start([sys.executable, *stages], slurm(node, port)))
    outputs = [process.communicate(timeout=240)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(outputs)[-4000:]
    assert "global batch 16 over 2 processes" in outputs[0]
    assert main([*depth_arguments(tiny_pairs, tiny_clip, tmp_path / "one", steps=3), *exact]) == 0
    one, both = (scalars(tmp_path / name) for name in ("one", "two"))
    for key in ("train/loss", "train/cross", "train/intra", "train/s"):
        assert both[key] == pytest.approx(one[key], abs=5e-6), key
    assert both["val/top1"] == one["val/top1"]


@pytest.mark.slow
def test_slurm_stops_every_process_at_the_same_step(tiny_pairs: Path, tiny_clip: Path, tmp_path: Path) -> None:
    """`#SBATCH --signal=TERM@300` reaches all tasks of a job; each ends with 143, by which the job script knows to requeue."""
    arguments = [*depth_arguments(tiny_pairs, tiny_clip, tmp_path, steps=6), "--trainer.devices", "1", "--trainer.num_nodes", "2",
                 "--trainer.strategy", "ddp"]
    port = free_port()
    processes = []
    for node in (0, 1):
        processes.append(start([sys.executable, str(REPO / "tests" / "faulty_run.py"), "SIGTERM@3@all", *arguments], slurm(node, port)))
    outputs = [process.communicate(timeout=240)[0] for process in processes]
    assert [process.returncode for process in processes] == [TERMINATED, TERMINATED], "\n".join(outputs)[-4000:]
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 4
