"""Two and four gloo processes against one. Run as a script, this file starts them; the reference is plain code without Lightning."""

from __future__ import annotations

import multiprocessing
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import LightningModule, Trainer
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from clip2x.errors import InputError
from clip2x.losses import DepthPairLoss, TripletLoss
from clip2x.modules.gathering import gathered, gathered_objects
from clip2x.modules.triplet_pretraining import TripletPretraining
from clip2x.optim import Lamb

WORLDS = (2, 4)
PER_PROCESS, STEPS, WIDTH, NAMES = 3, 2, 8, 4
REPO = Path(__file__).resolve().parents[1]


def rows(step: int, rank: int) -> dict[str, Tensor]:
    """Make a process's part of a step's batch."""
    generator = torch.Generator().manual_seed(10 * step + rank)
    return {"views": torch.randn(PER_PROCESS, 2, 5, generator=generator), "image": torch.randn(PER_PROCESS, WIDTH, generator=generator),
            "text_id": torch.randint(NAMES, (PER_PROCESS,), generator=generator),
            "instance": torch.tensor([0, rank + 1, 0])}  # object 0 comes twice on each process


class Pairs(LightningModule):
    """The smallest module that uses the loss as `DepthPretraining` does."""

    def __init__(self, intra: bool) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.encoder = nn.Sequential(nn.Linear(5, 16), nn.GELU(), nn.Linear(16, WIDTH))
        for parameter in self.encoder.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) / 3
        self.loss = DepthPairLoss(intra=intra)
        self.seen: list[dict[str, Any]] = []

    def configure_optimizers(self) -> Lamb:
        return Lamb([parameter for parameter in self.parameters() if parameter.requires_grad], lr=0.02)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        assert isinstance(self.trainer.model, DistributedDataParallel)
        terms = self.loss(gathered(self, self.encoder(batch["views"])), gathered(self, batch["image"]))
        self.seen.append({"terms": {name: term.detach() for name, term in terms.items()}, "joined": gathered(self, batch["image"]),
                          "objects": gathered_objects(self, ["own"] * self.global_rank + [str(self.global_rank)])})
        loss: Tensor = terms["loss"]
        return loss

    def on_after_backward(self) -> None:
        self.seen[-1]["gradients"] = {name: parameter.grad.clone() for name, parameter in self.named_parameters() if parameter.grad is not None}

    def on_train_end(self) -> None:
        """Bring batches of unequal size, at last."""
        try:
            gathered(self, torch.zeros(2 + self.global_rank, 4))
        except InputError as error:
            self.seen.append({"error": str(error)})


class Triplets(LightningModule):
    """The smallest module that uses the loss as `TripletPretraining` does, with its way of joining the batches."""

    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(2)
        self.encoder = nn.Linear(5, WIDTH)
        for parameter in self.encoder.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) / 3
        self.loss = TripletLoss(**options)
        self.texts = functional.normalize(torch.randn(NAMES, WIDTH, generator=generator), dim=-1)
        self.seen: list[dict[str, Any]] = []

    def configure_optimizers(self) -> Lamb:
        return Lamb([parameter for parameter in self.parameters() if parameter.requires_grad], lr=0.02)

    def parts(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
        """Embed a batch: points, texts, pictures where the loss needs them, and the texts' ids."""
        images = functional.normalize(batch["image"], dim=-1) if self.loss.image_weight else None
        return functional.normalize(self.encoder(batch["views"][:, 0]), dim=-1), self.texts[batch["text_id"]], images, batch["text_id"]

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        points, texts, images, ids = self.parts(batch)
        whole = TripletPretraining._whole(self, points, images, ids, batch["instance"])  # type: ignore[arg-type]
        terms = self.loss(points, texts, images, ids, whole, batch["instance"])
        self.seen.append({"terms": {name: term.detach() for name, term in terms.items()}})
        loss: Tensor = terms["loss"]
        return loss

    def on_after_backward(self) -> None:
        self.seen[-1]["gradients"] = {name: parameter.grad.clone() for name, parameter in self.named_parameters() if parameter.grad is not None}


TRIPLET_LOSSES: dict[str, dict[str, Any]] = {
    "both terms, two temperatures": {"learnable": True, "separate": True},
    "text only, one temperature": {"image_weight": 0.0, "learnable": True},
    "image only": {"text_weight": 0.0},
}


def train(folder: Path, rank: int, world: int, port: int) -> None:
    """Train as one of the processes: pairs with the intra term and without, triplets with each kind of loss."""
    torch.set_num_threads(1)
    os.environ |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    modules = {"True": Pairs(True), "False": Pairs(False), **{name: Triplets(options) for name, options in TRIPLET_LOSSES.items()}}
    for name, module in modules.items():
        data: Any = DataLoader([rows(step, rank) for step in range(STEPS)], batch_size=None)  # type: ignore[arg-type]
        Trainer(accelerator="cpu", devices=world, strategy="ddp", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
                enable_model_summary=False, use_distributed_sampler=False).fit(module, data)
        torch.save({"seen": module.seen, "weights": module.state_dict()}, folder / f"{name}-{rank}.pt")


def start_processes(folder: Path, world: int) -> int:
    """Fork before anything has run, so that the slow imports are paid once; returns the worse exit status."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [multiprocessing.get_context("fork").Process(target=train, args=(folder, rank, world, port)) for rank in range(world)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(timeout=120)
        process.kill()  # one that still waits for the other, which has failed
        process.join()
    return max(abs(process.exitcode or 0) for process in ranks)


@pytest.fixture(scope="module", params=WORLDS)
def processes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, range]:
    """What the processes of a run wrote, and their ranks."""
    folder, world = tmp_path_factory.mktemp("ranks"), int(request.param)
    run = subprocess.run([sys.executable, __file__, str(folder), str(world)], cwd=REPO, capture_output=True, text=True, timeout=300,
                         env={**os.environ, "CUDA_VISIBLE_DEVICES": ""}, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return folder, range(world)


@pytest.mark.parametrize("intra", [True, False])
def test_several_processes_equal_one(processes: tuple[Path, range], intra: bool) -> None:
    """Loss, every gradient (of s too) and the weights after two steps of LAMB."""
    folder, of = processes
    alone = Pairs(intra)
    optimizer = alone.configure_optimizers()
    ranks = [torch.load(folder / f"{intra}-{rank}.pt", weights_only=True) for rank in of]
    for step in range(STEPS):
        parts = [rows(step, rank) for rank in of]
        joined = {key: torch.cat([part[key] for part in parts]) for key in ("views", "image")}
        optimizer.zero_grad()
        terms = alone.loss(alone.encoder(joined["views"]), joined["image"])
        terms["loss"].backward()
        expected = {name: parameter.grad for name, parameter in alone.named_parameters() if parameter.grad is not None}
        assert ("loss.s" in expected) == intra
        for rank in ranks:
            seen = rank["seen"][step]
            assert torch.equal(seen["joined"], joined["image"])
            assert seen["objects"] == [item for rank in of for item in ["own"] * rank + [str(rank)]]
            torch.testing.assert_close(seen["terms"], {name: term.detach() for name, term in terms.items()}, rtol=1e-6, atol=1e-6)
            torch.testing.assert_close(seen["gradients"], expected, rtol=1e-6, atol=1e-6)
        optimizer.step()
    for rank in ranks:
        torch.testing.assert_close(rank["weights"], alone.state_dict(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", TRIPLET_LOSSES)
def test_several_processes_equal_one_on_triplets(processes: tuple[Path, range], name: str) -> None:
    """Each process has the loss of its own rows: the mean of all is that of the joined batch, and so are gradients and weights."""
    folder, of = processes
    alone = Triplets(TRIPLET_LOSSES[name])
    optimizer = alone.configure_optimizers()
    ranks = [torch.load(folder / f"{name}-{rank}.pt", weights_only=True) for rank in of]
    for step in range(STEPS):
        batches = [rows(step, rank) for rank in of]
        optimizer.zero_grad()
        joined = {key: torch.cat([batch[key] for batch in batches]) for key in batches[0]}
        terms = alone.loss(*alone.parts(joined), None, joined["instance"])
        terms["loss"].backward()
        expected = {name: parameter.grad for name, parameter in alone.named_parameters() if parameter.grad is not None}
        assert ("loss.log_scale" in expected) == TRIPLET_LOSSES[name].get("learnable", False)
        mean = {name: torch.stack([rank["seen"][step]["terms"][name] for rank in ranks]).mean() for name in terms}
        torch.testing.assert_close(mean, {name: term.detach() for name, term in terms.items()}, rtol=1e-6, atol=1e-6)
        for rank in ranks:
            torch.testing.assert_close(rank["seen"][step]["gradients"], expected, rtol=1e-6, atol=1e-6)
        optimizer.step()
    for rank in ranks:
        torch.testing.assert_close(rank["weights"], alone.state_dict(), rtol=1e-6, atol=1e-6)


def test_unequal_batches_are_refused_on_every_process(processes: tuple[Path, range]) -> None:
    folder, of = processes
    sizes = ", ".join(str(2 + rank) for rank in of)
    for rank in of:
        last = torch.load(folder / f"True-{rank}.pt", weights_only=True)["seen"][-1]
        assert last["error"].startswith(f"every process must bring a batch of the same size, found {sizes}; drop the last batch")


def test_one_process_has_its_own_back() -> None:
    module = LightningModule()
    module.trainer = Trainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    values, objects = torch.ones(2, 3, requires_grad=True), ["a"]
    assert gathered(module, values) is values
    assert gathered_objects(module, objects) is objects


if __name__ == "__main__":
    sys.exit(start_processes(Path(sys.argv[1]), int(sys.argv[2])))
