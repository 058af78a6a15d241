"""The LightningCLI behind `python -m stages` and `clip2x fit|validate|test|predict`: YAML files and overrides in, a finished stage out."""

from __future__ import annotations

import argparse
import difflib
import logging
import sys
import warnings
from inspect import signature
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning import LightningModule, Trainer
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningCLI, SaveConfigCallback

import clip2x.data.augmentations
import clip2x.data.clouds
import clip2x.data.pictures
import clip2x.data.shapenet_pairs
import clip2x.data.triplets.dataset
import clip2x.data.triplets.joined
import clip2x.encoders.points
import clip2x.losses
import clip2x.modules.adapter_sweep
import clip2x.modules.averaging
import clip2x.modules.clip_pretraining
import clip2x.modules.depth_pretraining
import clip2x.modules.few_shot
import clip2x.modules.gdpa_tuning
import clip2x.modules.proxy_collection
import clip2x.modules.triplet_pretraining
import clip2x.modules.zero_shot
import clip2x.optim
import clip2x.proxies.objects
import clip2x.proxies.transformers_detectors  # noqa: F401  imported, so that YAML files can name the classes shortly
from clip2x.data.datamodule import Clip2xDataModule
from clip2x.errors import Clip2xError, DataNotFoundError, InputError
from clip2x.manifest import shipped_folder
from clip2x.modules.checkpoint_files import AtomicCheckpointIO
from clip2x.modules.stopping import StopOnSignal


class SaveConfig(SaveConfigCallback):
    """Write `config.yaml` once a training has accepted the checkpoint that it goes on with: a refused run leaves the file of the one before."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write it at once where nothing is trained; what predict stores holds its own configuration."""
        if stage in ("validate", "test"):
            super().setup(trainer, pl_module, stage)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write it: checkpoints are read by now."""
        super().setup(trainer, pl_module, "fit")


class Clip2xCLI(LightningCLI):
    """LightningCLI that chooses the precision where none is set and hands the resolved configuration to the trainer."""

    def before_instantiate_classes(self) -> None:
        """Set `trainer.precision` where it is not set: bf16 where the hardware computes it, else 32 bits."""
        config = self.config[self.subcommand]
        if config.trainer.precision is None:
            config.trainer.precision = "bf16-mixed" if _has_bf16(str(config.trainer.accelerator)) else "32-true"

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """Build the trainer and keep the configuration on it for the results; checkpoints are written atomically, bars shown on terminals only."""
        if self.config[self.subcommand].trainer.enable_progress_bar is None and not (sys.stdout.isatty() or sys.stderr.isatty()):
            kwargs["enable_progress_bar"] = False
        trainer: Any = super().instantiate_trainer(**kwargs)
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:  # not one that was asked for
            trainer.strategy.checkpoint_io = AtomicCheckpointIO()
        trainer.clip2x_config = yaml.safe_load(self.parser.dump(self.config, skip_none=True))[self.subcommand]
        return trainer


def run_stage(args: list[str]) -> None:
    """Run `fit|validate|test|predict --config ... [overrides]`.

    Raises:
        Clip2xError: One line for anything that is wrong with the arguments, the data or the weights, or a reader process that has died.
    """
    _quiet_lightning()
    if len(args) == 1:
        known = ", ".join(sorted(path.stem for path in stage_folder().glob("*.yaml")))
        raise InputError(f"which stage? clip2x {args[0]} --config STAGE; stages that come with clip2x: {known} (and mini/STAGE behind it).")
    arguments = [args[0], *_resolved_configs(args[1:])] if args else ["--help"]
    try:
        Clip2xCLI(LightningModule, Clip2xDataModule, subclass_mode_model=True,
                  save_config_callback=SaveConfig, save_config_kwargs={"overwrite": True},
                  seed_everything_default=0,
                  trainer_defaults={"use_distributed_sampler": False, "callbacks": [StopOnSignal()]},
                  parser_kwargs={"allow_abbrev": False, "exit_on_error": False}, args=arguments)
    except argparse.ArgumentError as error:
        raise InputError(_one_line(error)) from error
    except MisconfigurationException as error:
        raise InputError(" ".join(str(error).split())) from error
    except ValueError as error:
        raise _user_error(error) or error from error
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise InputError(f"a reader process has ended ({' '.join(str(error).split())}); is memory short? Lower data.num_workers or data.prefetch, "
                         "then give the same command again: a training goes on from its last checkpoint.") from error
    except (FileNotFoundError, IsADirectoryError) as error:
        raise DataNotFoundError(f"{error.strerror or error}: {error.filename or ''}") from error


def stage_folder() -> Path:
    """Return where the stage YAMLs lie."""
    return shipped_folder("stage_configs", "stages")


def _resolved_configs(args: list[str]) -> list[str]:
    """Let `--config` name a file or a stage that comes with the package, e.g. `eval_zeroshot` or `mini/eval_zeroshot`."""
    resolved: list[str] = []
    for argument in [part for text in args for part in (text.split("=", 1) if text.startswith("--config=") else [text])]:
        if resolved and resolved[-1] == "--config" and not Path(argument).is_file():
            inside = stage_folder() / f"{argument.removeprefix('stages/').removesuffix('.yaml')}.yaml"
            if not inside.is_file():
                known = sorted(str(path.relative_to(stage_folder()).with_suffix("")) for path in stage_folder().rglob("*.yaml"))
                raise DataNotFoundError(f"--config {argument}: no such file; stages that come with clip2x: {', '.join(known)}.")
            argument = str(inside)
        resolved.append(argument)
    return resolved


def _has_bf16(accelerator: str) -> bool:
    if accelerator in ("gpu", "cuda", "auto") and torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported())


def _user_error(error: BaseException) -> Clip2xError | None:
    """Find our own error inside what the argument parser made of it."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, Clip2xError):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None


def _one_line(error: argparse.ArgumentError) -> str:
    """Shorten the parser's message to one line, with the nearest known option where one is unknown."""
    message = str(error)
    if "unrecognized arguments" in message:
        unknown = next((word for word in message.split() if word.startswith("--")), "").split("=")[0]
        near = difflib.get_close_matches(unknown.lstrip("-"), _known_options(), n=1)
        return f"unknown option {unknown}" + (f"; did you mean --{near[0]}?" if near else "; see --help and the stage's YAML.")
    noise = ("Does not validate", "Subtypes:", "Errors:", "Given value type", "- Expected a <class 'NoneType'>", "Given value: NestedArg")
    lines = [line.strip() for line in message.splitlines()]
    return " ".join(line for line in lines if line and not line.startswith(noise))


def _known_options() -> list[str]:
    trainer = [f"trainer.{name}" for name in signature(Trainer.__init__).parameters if name != "self"]
    return trainer + [f"data.{name}" for name in signature(Clip2xDataModule.__init__).parameters if name != "self"] + [
        "config", "seed_everything", "ckpt_path", "model", "data", "trainer"]


def _quiet_lightning() -> None:
    """Keep advertisements and notes that do not concern us from the terminal."""

    class NoTips(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            noise = ("💡", "TPU available", "`weights_only` was not set")  # the last: checkpoints are read as data only, always
            return not any(part in record.getMessage() for part in noise)

    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.pytorch", "lightning.fabric.utilities.rank_zero",
                 "lightning.pytorch.trainer.connectors.checkpoint_connector"):
        logging.getLogger(name).addFilter(NoTips())
    for pattern in (".*args parameter is intended.*", ".*does not have many workers.*", ".*save_hyperparameters.*", ".*exists and is not empty.*",
                    ".*is an instance of `nn.Module`.*", ".*isinstance.*LeafSpec.*", ".*no last checkpoint available.*",
                    ".*Couldn't infer the batch indices.*", ".*You have overridden `transfer_batch_to_device`.*",
                    ".*in eval mode at the start of training.*",  # frozen towers
                    ".*your dataloader is not resumable.*"):  # ours starts where the trainer stopped (GlobalBatchSampler)
        warnings.filterwarnings("ignore", pattern)
