"""Recognisers as graphs that run without this package: by `torch.export` and as ONNX."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from clip2x.depth import DepthViews
from clip2x.encoders.checkpoint_parts import MOST_POINTS
from clip2x.encoders.clip import ClipTowers
from clip2x.encoders.depth import DepthViewEncoder
from clip2x.encoders.dual import AdaptedEncoder
from clip2x.encoders.points import PointEncoder
from clip2x.encoders.points.released import ReleasedEncoder
from clip2x.errors import Clip2xError, InputError, MissingDependencyError
from clip2x.geometry import unit_sphere
from clip2x.predict import Recognizer, SummedRecognizer

INPUT, OUTPUTS = "points", ("embeds", "probabilities")
CARD_KEY = "clip2x"  # of the card inside a file: an extra file of .pt2, a metadata property of .onnx
OPSET = 20  # of ONNX; ours: onnxruntime 1.17 and later
MOST_CLOUDS = 1 << 16  # of a batch; ours: torch.export wants a bound
DOUBLE = 11  # the code of the type in ONNX files
ONNX_LIBRARIES = ("onnx", "onnxscript", "onnxruntime")

Run = Callable[[Tensor], Tensor]


class CloudGraph(nn.Module):
    """What an exported file computes: `Recognizer.embed`, or `Recognizer.classify` with names that are fixed.

    A cloud that those refuse (a coordinate that is not finite, no extent) gives NaN.

    Args:
        recognizer: On the CPU; its encoders are not copied.
        names: None: embeddings.
        templates: See `Recognizer.classify`.

    Attributes:
        num_points: Points of the clouds that are traced and compared.
        least: The fewest points that a cloud may have, repeats among them.
        any_number: Clouds may have any number of points from `least` on; else `num_points`, where encoders share a cloud and one takes less of it.
        draws: Clouds are drawn.
        output: One of `OUTPUTS`.

    Raises:
        InputError: If the recogniser has no embedding, or a name cannot be used.
    """

    def __init__(self, recognizer: Recognizer, names: Sequence[str] | None = None, templates: Sequence[str] | None = None) -> None:
        super().__init__()
        if names is None and isinstance(recognizer, SummedRecognizer):
            raise InputError("the sum of two encoders has no embedding of its own; give --classes, or export one of them (--method points or depth).")
        self.names, self.templates = None if names is None else list(names), templates
        parts = _parts(recognizer)
        self.parts, self.recognizer = nn.ModuleList(dict.fromkeys(parts)), recognizer
        point_encoders = [part for part in parts if isinstance(part, PointEncoder)]
        self.any_number = len(point_encoders) == 0 or isinstance(recognizer.encoder, PointEncoder)
        self.draws = any(isinstance(part, DepthViews) for part in parts)
        self.least = max([1, *(encoder.least_exported for encoder in point_encoders)])
        self.num_points = max(recognizer.num_points, self.least)
        self.output = OUTPUTS[self.names is not None]
        if names is not None:
            self.reference(self.example()[:1])  # names that cannot be used are refused here; of the others the graph finds the embeddings

    def example(self) -> Float[Tensor, "3 N 3"]:
        """Give some clouds of the size that is traced."""
        return torch.randn(3, self.num_points, 3, generator=torch.Generator().manual_seed(0))

    def forward(self, points: Float[Tensor, "B N 3"]) -> Float[Tensor, "B D"]:
        """Embed or classify clouds, object frame (y up), any unit."""
        unusable = ~unit_sphere(points).flatten(1).isfinite().all(dim=1)
        return self.reference(points).masked_fill(unusable[:, None], torch.nan)

    def reference(self, points: Float[Tensor, "B N 3"]) -> Float[Tensor, "B D"]:
        """Ask the recogniser, which refuses what cannot be used."""
        return self.recognizer.embed(points) if self.names is None else self.recognizer.classify(points, self.names, self.templates)


def trace(graph: CloudGraph) -> ExportedProgram:
    """Trace a graph: batch size and, where it may change, the number of points are left open.

    Raises:
        InputError: If that fails, as it does for discs whose radius is chosen for each cloud and for the point encoders of ULIP and OpenShape, and
            as it may for encoders and image towers that look at values.
    """
    if any(getattr(part, "point_radius", None) == "density" for part in graph.parts):
        raise InputError(f"this encoder chooses the radius of its discs for each cloud (density), which cannot be traced{_otherwise(graph)}.")
    if any(isinstance(part, ReleasedEncoder) for part in graph.parts):
        raise InputError(f"the point encoders of ULIP and OpenShape cannot be traced{_otherwise(graph)}.")
    sizes: dict[int, Any] = {0: Dim("batch", min=1, max=MOST_CLOUDS)}
    if graph.any_number:
        sizes[1] = Dim("points", min=graph.least, max=MOST_POINTS)
    with torch.no_grad(), _plain_attention(), _one_line("this recogniser cannot be traced", _otherwise(graph)):
        program = torch.export.export(graph.eval(), (graph.example(),), dynamic_shapes={INPUT: sizes}, strict=False)
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)  # names files of the machine at hand
    return program


def save_torch_export(program: ExportedProgram, path: Path, card: str) -> None:
    """Write a `.pt2` file with the card inside."""
    with path.open("wb") as stream:  # a path would give the archive the name of a temporary file
        torch.export.save(program, stream, extra_files={CARD_KEY: card})


def save_onnx(program: ExportedProgram, path: Path, card: str, output: str) -> None:
    """Write one `.onnx` file with the card inside.

    Raises:
        MissingDependencyError: If what that needs is not installed.
        InputError: If an operation has no counterpart in ONNX.
    """
    require_onnx()
    with warnings.catch_warnings(), _one_line("this recogniser cannot be written as ONNX", "; --format torch-export may do"):
        warnings.simplefilter("ignore")
        written = torch.onnx.export(program, input_names=[INPUT], output_names=[output], opset_version=OPSET, dynamo=True, verbose=False,
                                    custom_translation_table={torch.ops.aten.sort.stable: _stable_sort, torch.ops.aten.mean.dim: _exact_mean})
    assert written is not None
    written.model.metadata_props[CARD_KEY] = card
    for values, axes in ((written.model.graph.inputs, ("batch", "points")), (written.model.graph.outputs, ("batch",))):
        for value in values:
            _name_axes(value, axes)
    written.save(path, external_data=False)


def run_torch_export(path: Path) -> Run:
    """Load a `.pt2` file as any program would."""
    module = torch.export.load(path).module()
    return lambda points: module(points)


def run_onnx(path: Path) -> Run:
    """Load an `.onnx` file as any program would, on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda points: torch.from_numpy(session.run(None, {INPUT: points.numpy()})[0])


def require_onnx() -> None:
    """Raise a MissingDependencyError where a library that ONNX files need is absent."""
    if missing := [name for name in ONNX_LIBRARIES if find_spec(name) is None]:
        raise MissingDependencyError(f"--format onnx needs {' and '.join(missing)}, not installed here; run: pip install clip2x[export].")


def _parts(recognizer: Recognizer) -> list[nn.Module]:
    """List the modules that a recogniser asks for a cloud: not the text tower, whose weights would lie in the file for nothing."""
    if isinstance(recognizer, SummedRecognizer):
        return [*_parts(recognizer.points), *_parts(recognizer.depth)]
    encoder = recognizer.encoder
    parts: list[nn.Module] = []
    if isinstance(encoder, AdaptedEncoder):
        parts = [encoder.adapter, recognizer.towers.image_tower, *([] if encoder.towers.points is None else [encoder.towers.points])]
        encoder = encoder.towers.depth
    if recognizer.ensemble is not None:
        parts.append(recognizer.towers.image_tower)
    if isinstance(encoder, DepthViewEncoder):
        return [*parts, encoder.tower.image_tower if isinstance(encoder.tower, ClipTowers) else encoder.tower, encoder.draw]
    return [*parts, encoder]


def _stable_sort(self: Any, stable: bool = True, dim: int = -1, descending: bool = False) -> Any:
    """Sort as ONNX can: its TopK gives equal values in the order in which they came."""
    from onnxscript import opset20 as op

    size = op.Gather(op.Shape(self), op.Constant(value_ints=[dim]))
    return op.TopK(self, size, axis=dim, largest=int(descending), sorted=1)


def _exact_mean(self: Any, dim: Sequence[int], keepdim: bool = False) -> Any:
    """Take the mean in 64 bits: the sums of onnxruntime in 32 are several times less exact than PyTorch's, and the centre of a cloud moves pixels."""
    from onnxscript import opset20 as op

    mean = op.ReduceMean(op.Cast(self, to=DOUBLE), op.Constant(value_ints=list(dim)), keepdims=int(keepdim))
    return op.CastLike(mean, self)


def _name_axes(value: Any, names: Sequence[str]) -> None:
    """Give the open axes of an input or output their names, in the place of those of the tracer."""
    shape = list(value.shape)
    for place, name in enumerate(names):
        if not isinstance(shape[place], int):
            shape[place] = name
    value.shape = type(value.shape)(shape)


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Trace attention as matrix products: PyTorch's fused operator for inference is known to no other program."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _otherwise(graph: CloudGraph) -> str:
    """Name the format that takes any trained encoder, but no sum of two and no CLIP with names."""
    recognizer = graph.recognizer
    trained = recognizer.ensemble is None and not isinstance(getattr(recognizer.encoder, "tower", None), ClipTowers)
    return "; take --format safetensors" if trained else ""


@contextmanager
def _one_line(what: str, otherwise: str) -> Iterator[None]:
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # of what it cannot trace PyTorch logs and prints whole graphs
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield
    except Clip2xError:
        raise
    except Exception as error:  # whatever the tracers raise
        reason = " ".join(str(error.__cause__ or error).split())[:200]
        raise InputError(f"{what} ({type(error).__name__}: {reason}){otherwise}.") from error
    finally:
        logging.disable(before)
