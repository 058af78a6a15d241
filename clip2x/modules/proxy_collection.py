"""CLIP2's collection of proxies as a pass of Lightning's `Trainer.predict` over frames: detect, lift, store."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from numpy.typing import NDArray

from clip2x.data.faults import BadSample, BadSampleLog
from clip2x.data.frame_loading import LoadedFrame, LoadedFrames
from clip2x.data.triplets.embeddings import CropEncoder
from clip2x.data.triplets.index import read_index
from clip2x.data.triplets.tools import embed_proxies
from clip2x.data.triplets.writer import TripletWriter
from clip2x.data.worker_pool import quiet_start
from clip2x.encoders.clip import ClipTowers
from clip2x.errors import BadFileError, InputError
from clip2x.modules.gathering import gathered_objects
from clip2x.provenance import commit, hardware, versions
from clip2x.proxies.collect import FrameTask, TripletMaker, Unusable, make_or_report
from clip2x.proxies.crops import Cropping
from clip2x.proxies.detectors import Detector, Picture
from clip2x.proxies.indoor import IndoorLifting
from clip2x.proxies.outdoor import OutdoorLifting
from clip2x.proxies.vocabulary import load_vocabulary
from clip2x.signals import leave_with_parent
from clip2x.storage import check_writable
from clip2x.types import FrameTriplets

MISSING = "picture is missing"  # counts pictures, as do other rules whose name begins with "picture "
AHEAD = 2  # frames per lifting process that wait for it; ours: bounds memory, keeps the processes busy


class ProxyCollection(LightningModule):
    """Mine text-image-point triplets from frames (CLIP2, arXiv:2303.12417; a reconstruction of ours: neither code nor proxies were published).

    Frames are shared out over the processes of the trainer; each holds a detector on its device and writes shards of its own. Lifting runs in
    processes beside it, so that a GPU need not wait. A killed run goes on when the same command is given again: frames that are in the store
    are not looked at a second time.

    Args:
        detector: Finds and names boxes.
        vocabulary: A list of concepts that comes with clip2x (`lvis`, `mini`), a file, or `manifest:NAME`.
        output: Folder of the triplet store.
        indoor, outdoor: Lift the boxes of depth cameras, and of LiDAR with cameras.
        cropping: How picture crops are kept.
        max_points: Of a proxy with more points so many are drawn. Ours.
        lifting_workers: Processes that lift, for each process of the trainer; 0 lifts in the process itself.
        shard_frames: Frames in a shard.
        embed: A CLIP whose embeddings of the crops are added at the end; None: later, with `clip2x embed-proxies`.
        seed: Of the points drawn from large proxies.
    """

    def __init__(self, detector: Detector, output: Path, vocabulary: str = "lvis", indoor: IndoorLifting | None = None,
                 outdoor: OutdoorLifting | None = None, cropping: Cropping | None = None, max_points: int = 4096, lifting_workers: int = 0,
                 shard_frames: int = 64, embed: ClipTowers | None = None, seed: int = 0) -> None:
        super().__init__()
        if lifting_workers < 0:
            raise InputError(f"model.lifting_workers must be at least 0, got {lifting_workers}.")
        self.detector, self.output, self.embed, self.shard_frames = detector, Path(output), embed, shard_frames
        self.vocabulary = load_vocabulary(vocabulary)
        self.maker = TripletMaker(indoor=indoor or IndoorLifting(), outdoor=outdoor or OutdoorLifting(), cropping=cropping or Cropping(),
                                  max_points=max_points, seed=seed)
        self.lifting_workers = lifting_workers
        self.num_written = 0
        self._writer: TripletWriter | None = None
        self.encoder: CropEncoder | None = None
        self._rotations: dict[str, NDArray[np.float64]] = {}

    @property
    def frames(self) -> LoadedFrames:
        """The frames that are still to be done."""
        frames: LoadedFrames = self.trainer.datamodule.frame_set  # type: ignore[attr-defined]
        return frames

    @property
    def writer(self) -> TripletWriter:
        """The store that is written."""
        if self._writer is None:
            raise RuntimeError("the store is opened by setup")
        return self._writer

    def setup(self, stage: str) -> None:
        """Open the store, or find where an earlier run stopped; get the detector ready.

        Raises:
            InputError: If another stage is asked for, the store cannot be written or holds triplets of other settings, or the detector's files
                name none of the pictures.
            CheckpointMismatchError, DataNotFoundError: If the detector's weights or files cannot be used.
        """
        if stage != "predict":
            raise InputError(f"this module only collects proxies; run the subcommand predict, not {stage}.")
        check_writable(self.output)
        self.detector.prepare(self.vocabulary)
        self.frames.with_pixels = self.detector.needs_pixels
        notes = list(self.frames.notes)
        notes += [f"{rule}: {count:,}." for rule, count in self.detector.check_pictures(self.frames.picture_keys()).items()]
        if self.trainer.is_global_zero:
            for path in self.output.glob("unreadable-rank*.jsonl"):  # of an earlier run; what was mended since is looked at again
                path.unlink(missing_ok=True)
        self.encoder = None if self.embed is None else CropEncoder.of(self.embed)
        self._writer = TripletWriter(self.output, self._about(), rank=self.trainer.global_rank, world_size=self.trainer.world_size,
                                     barrier=self.trainer.strategy.barrier, shard_frames=self.shard_frames,
                                     on_shard=None if self.encoder is None else self.encoder.embed_shard)
        self.trainer.predict_loop.return_predictions = False  # they are in the store; a list of all of them would fill the memory
        self.frames.leave_out(self.trainer.strategy.broadcast(self.writer.done))  # on every process the same, whatever its view of the folder
        self._rotations = {name: np.array(data.variant.ours_from_files) for name, data in zip(self.frames.names, self.frames.sets, strict=True)}
        if len(self.frames) < self.frames.total:
            notes.append(f"{self.frames.total - len(self.frames):,} of {self.frames.total:,} frames are in {self.output} already.")
        for note in [*notes, *self.writer.notes]:
            self.print(note)

    def configure_callbacks(self) -> Sequence[Callback]:
        """Write what is predicted."""
        return [ProxyWriter()]

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Leave frames on the processor; the detector takes its pictures to its device."""
        return batch

    def predict_step(self, batch: list[LoadedFrame], batch_idx: int) -> list[FrameTask]:
        """Detect in all pictures of some frames."""
        readable = [(item, item.frame) for item in batch if item.frame is not None]
        pictures = [Picture(key=item.keys[camera.name], file=camera.file, width_px=camera.width_px, height_px=camera.height_px,
                            rgb=item.pictures[camera.name].numpy() if item.pictures else None)
                    for item, frame in readable for camera in frame.cameras]
        answers = iter(self.detector(pictures) if pictures else [])
        tasks = []
        for item, frame in readable:
            found = {camera.name: next(answers) for camera in frame.cameras}
            rules: Counter[str] = sum((answer.rules for answer in found.values()), Counter())
            rules.update({MISSING: item.missing} if item.missing else {})
            tasks.append(FrameTask(item.data, frame, {name: answer.detections for name, answer in found.items()}, rules,
                                   self._rotations[item.data]))
        return tasks

    def finish(self, unread: int) -> None:
        """Close the store once every process has written its last frame; embed what an earlier run left without embeddings.

        Args:
            unread: Frames that this process could not read and left out.
        """
        unread, written = sum(gathered_objects(self, [unread])), sum(gathered_objects(self, [self.num_written]))
        self.writer.close(complete=written + unread == len(self.frames))  # not after --trainer.limit_predict_batches, for example
        if self.encoder is not None:
            embed_proxies(self.output, self.encoder, rank=self.trainer.global_rank, world_size=self.trainer.world_size,
                          barrier=self.trainer.strategy.barrier)
        if self.trainer.is_global_zero:
            lines = summary(read_index(self.output))
            if unread:
                lines.append(f"{unread:,} frames could not be read: {self.output}/unreadable-rank*.jsonl; once mended, the same command adds them.")
            print("\n".join([*lines, f"triplets: {self.output}"]))

    def _about(self) -> dict[str, Any]:
        """Say where the triplets come from; `settings` are what other triplets would come from."""
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        sources = {name: {"title": item.manifest.title, "manifest_sha256": item.manifest.sha256, "sweeps": data.sweeps, "depth": data.depth,
                          "max_points": self.maker.max_points, "files": "mini-world" if (item.root / "miniworld.json").is_file() else "files"}
                   for name, item in zip(self.frames.names, self.frames.sets, strict=True)}
        detector, lifting = self.detector.describe(), self.maker.describe()
        return {
            "settings": {"detector": detector, **lifting, "sweeps": data.sweeps, "depth": data.depth},
            "vocabulary": self.vocabulary.describe(), "detector": detector, "lifting": lifting, "sources": sources,
            "provenance": {"commit": commit(), "versions": versions(), "hardware": hardware(),
                           "config": getattr(self.trainer, "clip2x_config", None)},  # None where no command line made the trainer
        }


def summary(index: Mapping[str, Any]) -> list[str]:
    """Say of each data set how many boxes came in and what became of them, most frequent rule first."""
    lines = []
    for name, counts in index["data"].items():
        pictures = {rule: count for rule, count in counts["rules"].items() if rule.startswith("picture ")}
        rules = Counter({rule: count for rule, count in counts["rules"].items() if rule not in pictures})
        boxes, lifted, kept = rules.pop("boxes", 0), rules.pop("detections", 0), rules.pop("proxies", 0)
        lines.append(f"{name}: {counts['frames']:,} frames, {boxes:,} boxes, {lifted:,} to lift, {kept:,} triplets")
        lines += [f"  pictures: {rule.removeprefix('picture ')}: {count:,}" for rule, count in pictures.items()]
        lines += [f"  {count:>9,}  {rule}" for rule, count in rules.most_common()]
    return lines


class ProxyWriter(BasePredictionWriter):
    """Lift what was detected, in processes of its own or on the spot, and put it into the store frame by frame."""

    def __init__(self) -> None:
        super().__init__(write_interval="batch")
        self._pool: ProcessPoolExecutor | None = None
        self._waiting: deque[Future[FrameTriplets | Unusable]] = deque()
        self._log: BadSampleLog | None = None

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the lifting processes and the list of frames that cannot be read."""
        module = cast(ProxyCollection, pl_module)
        share = max(1, -(-module.frames.total // trainer.world_size))
        path = module.output / f"unreadable-rank{trainer.global_rank}.jsonl"
        self._log = BadSampleLog("the frames", share, trainer.datamodule.max_bad_share, path)  # type: ignore[attr-defined]
        if module.lifting_workers:
            self._pool = ProcessPoolExecutor(module.lifting_workers, mp_context=get_context("spawn"), initializer=leave_with_parent)
            # spawn: a fork would copy CUDA's state

    def write_on_batch_end(self, trainer: Trainer, pl_module: LightningModule, prediction: Any, batch_indices: Sequence[int] | None, batch: Any,
                           batch_idx: int, dataloader_idx: int) -> None:
        """Hand frames to the lifting processes; write those that are done."""
        module = cast(ProxyCollection, pl_module)
        for item in batch:
            if item.frame is None:
                self._unreadable(module, item.data, item.token, item.problem)
        with _killed_in_one_line():
            for task in prediction:
                if self._pool is None:
                    self._store(module, make_or_report(module.maker, task))
                else:
                    with quiet_start():
                        self._waiting.append(self._pool.submit(partial(make_or_report, module.maker), task))
            self._drain(module, AHEAD * module.lifting_workers)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Wait for the last frames and finish the store."""
        module = cast(ProxyCollection, pl_module)
        with _killed_in_one_line():
            self._drain(module, 0)
        if self._pool is not None:
            self._pool.shutdown()
        module.finish(0 if self._log is None else len(self._log.reasons))

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Let the lifting processes go; what is in the store stays."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _drain(self, module: ProxyCollection, keep: int) -> None:
        """Write what is done, in the order in which it was handed out, until no more than `keep` frames are waited for."""
        while self._waiting and (len(self._waiting) > keep or self._waiting[0].done()):
            self._store(module, self._waiting.popleft().result())

    def _store(self, module: ProxyCollection, answer: FrameTriplets | Unusable) -> None:
        if isinstance(answer, Unusable):
            self._unreadable(module, answer.data, answer.frame, answer.reason)
        else:
            module.writer.add(answer)
            module.num_written += 1

    def _unreadable(self, module: ProxyCollection, data: str, frame: str, reason: str) -> None:
        """Note a frame that the store will lack: a later run looks at it again.

        Raises:
            BadFileError: If there are more of them than `data.max_bad_share` allows, or none is allowed.
        """
        if not module.frames.skip_bad or self._log is None:
            raise BadFileError(reason)
        self._log.add([BadSample(len(self._log.reasons), f"{data} {frame}: {reason}")])


@contextmanager
def _killed_in_one_line() -> Iterator[None]:
    """Say what the end of a lifting process means.

    Raises:
        InputError: If one was killed.
    """
    try:
        yield
    except BrokenProcessPool as error:
        raise InputError("a lifting process was killed, as the system does when memory runs out; what was written is kept: start the same "
                         "command again with a lower model.lifting_workers.") from error
