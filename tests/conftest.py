"""Fixtures shared by all tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from clip2x.cli import main
from clip2x.encoders.clip import ClipTowers
from clip2x.miniworld.write import SIZES, write_miniworld
from clip2x.stage_cli import run_stage

REPO = Path(__file__).resolve().parents[1]
BAD_FILES, FAULTS = pytest.StashKey[list[Any]](), pytest.StashKey[list[Any]]()  # lines of the tables that `make chaos` prints


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real samples that lie beside a checkout; tests that need them are marked `data` and skip without them."""
    folder = REPO.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real samples beside the checkout ({folder.name} folder of shared is absent)")
    return folder


@pytest.fixture(scope="session")
def tiny_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the smallest mini-world."""
    root = tmp_path_factory.mktemp("tiny") / "miniworld"
    write_miniworld(root, seed=5, size=SIZES["tiny"], workers=2)
    return root


@pytest.fixture(scope="session")
def tiny_clip(tiny_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train the small CLIP for two steps."""
    folder = tmp_path_factory.mktemp("pretrain_clip")
    run_stage(pretrain_arguments(tiny_world, folder, steps=2))
    return folder / "clip.safetensors"


@pytest.fixture(scope="session")
def tiny_pairs(tiny_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest mini-world with rendered pictures of its ShapeNet models; other files are links to it."""
    root = tmp_path_factory.mktemp("pairs") / "miniworld"
    shapenet = root / "shapenet"
    shapenet.mkdir(parents=True)
    for folder, source in ((root, tiny_world), (shapenet, tiny_world / "shapenet")):
        for item in source.iterdir():
            if item.name != "shapenet":
                (folder / item.name).symlink_to(item)
    assert main(["render-pairs", "--root", str(root), "--size", "64", "--supersample", "1", "--workers", "2"]) == 0
    return root


@pytest.fixture(scope="session")
def tiny_store(tiny_world: Path, tiny_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The triplets that are collected on the smallest mini-world; no recording of it belongs to the part that is held out."""
    folder = tmp_path_factory.mktemp("collect_proxies") / "store"
    run_stage(collect_arguments(tiny_world, tiny_clip, folder))
    return folder


@pytest.fixture(scope="session")
def named_store(tiny_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of random clouds with four names, two of its recordings held out; with the tiny CLIP's embeddings of the crops."""
    from triplet_runs import write_named_store

    return write_named_store(tmp_path_factory.mktemp("named") / "store", ClipTowers("clip2x-small", str(tiny_clip)))


@pytest.fixture(scope="session")
def disturbed_depth(tiny_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A depth encoder for the tiny CLIP, not far from its image tower."""
    from triplet_runs import write_depth_encoder

    return write_depth_encoder(tmp_path_factory.mktemp("depth") / "depth_encoder.safetensors", ClipTowers("clip2x-small", str(tiny_clip)))


def depth_arguments(world: Path, clip: Path, folder: Path, *, steps: int) -> list[str]:
    """Build the command line of stage pretrain_depth, mini profile, on a tiny mini-world with pictures."""
    return ["fit", "--config", "pretrain_depth", "--config", "mini/pretrain_depth", "--data.root", str(world), "--data.seed", "3",
            "--data.batch_size", "16", "--data.num_workers", "0", "--data.cache", str(folder / "cache"), "--model.clip.pretrained", str(clip),
            "--model.output", str(folder / "depth_encoder.safetensors"), "--model.image_feature_cache", "null", "--model.warmup_steps", "0",
            "--trainer.logger.save_dir", str(folder), "--trainer.max_steps", str(steps), "--trainer.val_check_interval", str(min(steps, 2)),
            "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false", "--trainer.log_every_n_steps", "1"]


def points_arguments(world: Path, clip: Path, store: Path, folder: Path, *, steps: int) -> list[str]:
    """Build the command line of stage pretrain_points, mini profile, on a tiny mini-world with pictures."""
    return ["fit", "--config", "pretrain_points", "--config", "mini/pretrain_points", "--data.root", str(world), "--data.seed", "3",
            "--data.train.stores", f"[{store}]", "--data.val.stores", f"[{store}]", "--data.train.min_score", "0", "--data.val.min_score", "0",
            "--data.train.objects.min_score", "0", "--data.val.objects.min_score", "0", "--data.batch_size", "8", "--data.num_workers", "0",
            "--data.cache", str(folder / "cache"), "--model.clip.pretrained", str(clip), "--model.output", str(folder / "point_encoder.safetensors"),
            "--model.image_feature_cache", str(folder / "features"), "--trainer.logger.save_dir", str(folder), "--trainer.max_steps", str(steps),
            "--trainer.val_check_interval", str(min(steps, 2)), "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false",
            "--trainer.log_every_n_steps", "1"]


def pretrain_arguments(world: Path, folder: Path, *, steps: int) -> list[str]:
    """Build the command line of stage pretrain_clip on a tiny mini-world."""
    return ["fit", "--config", "pretrain_clip", "--data.root", str(world), "--data.batch_size", "16",
            "--model.output", str(folder / "clip.safetensors"),
            "--trainer.logger.save_dir", str(folder), "--trainer.callbacks.dirpath", str(folder / "checkpoints"),
            "--trainer.max_steps", str(steps),
            "--trainer.val_check_interval", str(steps), "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]


def eval_arguments(world: Path, clip: Path, folder: Path, test: str = "modelnet10/off/test") -> list[str]:
    """Build the command line of stage eval_zeroshot, mini profile, on a tiny mini-world; an empty `test` leaves the stage's own test sets."""
    return ["test", "--config", "eval_zeroshot", "--config", "mini/eval_zeroshot", "--data.root", str(world), "--model.clip.pretrained", str(clip),
            "--model.output", str(folder), "--trainer.logger.save_dir", str(folder), "--trainer.accelerator", "cpu",
            "--trainer.enable_progress_bar", "false", "--data.cache", str(folder / "cache"), *(["--data.test", f"[{test}]"] if test else [])]


def collect_arguments(world: Path, clip: Path, store: Path) -> list[str]:
    """Build the command line of stage collect_proxies, mini profile, on a tiny mini-world."""
    boxes = ", ".join(str(world / "detections" / f"{name}_boxes.json") for name in ("nuscenes", "sunrgbd"))
    return ["predict", "--config", "collect_proxies", "--config", "mini/collect_proxies", "--data.root", str(world),
            "--data.cache", str(store.parent / "cache"), "--model.output", str(store), "--model.detector.proposals.files", f"[{boxes}]",
            "--model.detector.clip.pretrained", str(clip), "--model.detector.suppression.min_score", "0.0", "--model.embed.pretrained", str(clip),
            "--model.lifting_workers", "0", "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Say how many bad files and with which draws; `make chaos` asks for many."""
    parser.addoption("--bad-files", type=int, default=12, help="bad files that every reader is given; default 12")
    parser.addoption("--faults", type=int, default=1, help="faults of each kind; default 1")
    parser.addoption("--chaos-seed", type=int, default=0, help="of the draws of bad files and faults; default 0")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the tables of bad files and faults where many were asked for."""
    if config.getoption("--faults") > 1 or config.getoption("--bad-files") > 100:
        from tables import tables

        for line in tables(config.stash.get(BAD_FILES, []), config.stash.get(FAULTS, [])):
            terminalreporter.write_line(line)
