"""`clip2x export`: a trained recogniser as a file for other programs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clip2x.errors import InputError
from clip2x.naming_options import note_unknown_words, templates_of

if TYPE_CHECKING:
    from clip2x.predict import Recognizer

Build = Callable[[argparse.Namespace, str], "tuple[Recognizer, Path | None]"]
ENDINGS = {"safetensors": ".safetensors", "torch-export": ".pt2", "onnx": ".onnx"}


def add_export_command(commands: Any, recognizer: Build, names: Callable[[str], list[str]]) -> argparse.ArgumentParser:
    """Add the parser, without the options that say which checkpoint.

    Args:
        commands: What `add_subparsers` gave.
        recognizer: Builds what the options ask for on a device.
        names: Reads `--classes`.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        "export", help="write a trained encoder as safetensors, torch.export or ONNX, with a card that describes it", allow_abbrev=False,
        description="Write a trained encoder as a file for other programs, and OUTPUT.json, a card that says what it takes and gives. The file is "
        "compared with clip2x on several batches first. Graphs (torch-export, onnx) take clouds (B, N, 3), y up, any unit, and give embeddings of "
        "unit length, or with --classes probabilities.")
    parser.add_argument("--output", type=Path, required=True, help="the file, which must not be there yet; ends in "
                        f"{', '.join(f'{ending} ({name})' for name, ending in ENDINGS.items())}")
    parser.add_argument("--format", choices=tuple(ENDINGS), default="safetensors",
                        help="safetensors (default): weights for clip2x and for ports; torch-export: for programs with PyTorch; "
                             "onnx: for those without (pip install clip2x[export])")
    parser.add_argument("--classes", help="names, separated by commas, or a file with one name per line: a graph then gives their probabilities, a "
                        "safetensors file holds their embeddings")
    parser.add_argument("--templates", help="prompts with {}, separated by |; default: those of the checkpoint")
    parser.set_defaults(run=lambda options: _export(options, recognizer, names))
    return parser


def _export(options: argparse.Namespace, build: Build, read_names: Callable[[str], list[str]]) -> int:
    output: Path = options.output
    right = ENDINGS[options.format]
    if output.suffix != right:
        others = [name for name, ending in ENDINGS.items() if ending == output.suffix]
        raise InputError(f"--output {output}: --format {options.format} writes files that end in {right}; give such a name"
                         + (f", or --format {others[0]}." if others else "."))
    if there := next((path for path in (output, output.with_name(f"{output.name}.json")) if path.exists()), None):
        raise InputError(f"{there}: is there already; give another --output, or remove it.")
    if options.templates and not options.classes:
        raise InputError("--templates are the prompts of --classes; give these too.")
    if options.format == "onnx":
        from clip2x.exporting.graph import require_onnx

        require_onnx()
    from clip2x.exporting.files import export
    from clip2x.exporting.graph import CloudGraph
    from clip2x.predict import load

    recognizer, checkpoint = build(options, "cpu")
    names = read_names(options.classes) if options.classes else None
    graph = CloudGraph(recognizer, names, templates_of(options.templates))
    note_unknown_words(recognizer, names or [])

    def reload(path: Path) -> Recognizer:
        towers, clip = recognizer.towers, options.pretrained
        if clip is None and towers.tag is None and towers.trained_words is None:
            clip = checkpoint  # it holds a CLIP that is too large to travel on, as ULIP's do
        return load(path, "cpu", clip, trust_torchscript=options.trust_torchscript)  # files that are written say which model that is

    written = export(graph, options.format, output, checkpoint, reload)
    for name, difference in written.differences.items():
        print(f"  {name}: largest difference from clip2x {difference:.1e}")
    largest = max(written.differences.values())
    print(f"{written.file}: {written.num_bytes:,} bytes, {options.format}, {graph.output}; at most {largest:.1e} from clip2x "
          f"(allowed: {written.tolerance:g})")
    print(f"{written.card}: what it takes and gives, and where it comes from")
    return 0
