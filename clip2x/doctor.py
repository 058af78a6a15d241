"""Say what is installed, what is missing and what to do about it."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from clip2x import __version__
from clip2x.depth import compiled_kernels
from clip2x.errors import MissingDependencyError
from clip2x.manifest import manifest_names
from clip2x.meshes import open3d_module
from clip2x.provenance import commit, hardware, versions

OPTIONAL = {"open3d": "mesh pictures and the mini-world", "torchvision": "open_clip's own picture transforms"}


def examine() -> int:
    """Print the findings; the exit status is 1 when something that clip2x needs is missing."""
    problems = []
    print(f"clip2x {__version__}" + (f", commit {commit()}" if commit() else ""))
    for name, version in versions().items():
        print(f"  {name:<16} {version or 'missing'}")
        if version is None:
            problems.append(f"{name} is not installed ({OPTIONAL.get(name, 'needed')}); run: pip install {name}.")
    machine = hardware()
    print(f"processor: {machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads, {machine['cpu_capability']}, "
          f"bf16 {'yes' if torch.cpu._is_avx512_bf16_supported() else 'no (32 bits are used)'}")
    print("GPUs: " + (", ".join(machine["gpus"]) or _no_gpu()))
    try:
        open3d_module()
        print("Open3D: works")
    except MissingDependencyError as error:
        problems.append(str(error))
    print("compiled depth views: " + ("ready" if compiled_kernels() is not None else "no Numba that fits, run: pip install clip2x[fast]"))
    print(f"manifests: {', '.join(manifest_names())}")
    print(f"free disk here: {shutil.disk_usage(Path.cwd()).free / 2**30:.0f} GiB")
    for problem in problems:
        print(f"problem: {problem}")
    print("all is well" if not problems else f"{len(problems)} problem(s)")
    return 1 if problems else 0


def _no_gpu() -> str:
    if torch.version.cuda is None:
        return "none (this torch is built for CPUs)"
    return f"none found (torch is built for CUDA {torch.version.cuda}; check the driver with nvidia-smi)"
