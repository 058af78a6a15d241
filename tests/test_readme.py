"""Every command of the README and of the pages of docs is tried: make targets by a dry run, options by the parsers, Python by running it."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from conftest import REPO

from clip2x.cli import _parser

README = (REPO / "README.md").read_text()
PAGES = sorted(path.name for path in (REPO / "docs").glob("*.md"))
DOCS = [(REPO / "docs" / name).read_text() for name in PAGES]
TEXTS = "".join([README, *DOCS])
BASH = [line.split("#")[0].strip() for block in re.findall(r"```bash\n(.*?)```", TEXTS, re.DOTALL) for line in block.splitlines() if line.strip()]
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_there_are_commands() -> None:
    assert len(BASH) >= 8
    assert PYTHON


@pytest.mark.parametrize("command", [line for line in BASH if line.startswith("make")])
def test_make_commands_expand(command: str) -> None:
    done = subprocess.run([*shlex.split(command), "--dry-run"], cwd=REPO, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in re.findall(r"--config (\S+)", done.stdout):
        assert (REPO / name).is_file()


@pytest.mark.parametrize("command", [line for line in BASH if "clip2x" in line.split()[0]])
def test_clip2x_commands_parse(command: str) -> None:
    assert _parser().parse_args(shlex.split(command)[1:]).run


def test_pictures_and_files_that_the_docs_name_are_there() -> None:
    for text, folder in ((README, REPO), *((text, REPO / "docs") for text in DOCS)):
        for target in re.findall(r"\]\((?!https?:|#)([^)]+)\)", text):
            assert (folder / target).is_file(), target


def test_the_python_example_runs(tiny_clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exec(PYTHON[0].replace("runs/mini/pretrain_depth/depth_encoder.safetensors", str(tiny_clip)), {})
    assert "tensor" in capsys.readouterr().out


def test_a_tuned_depth_encoder_is_evaluated_with_its_own_clip_only(tmp_path: Path) -> None:
    """The one that lies there, another one, none, and never with another CLIP unless it is named."""
    def option(*variables: str) -> str | None:
        command = ["make", "eval-zeroshot", f"RUNS={tmp_path}", *variables, "--dry-run"]
        done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=True)
        found = re.search(r"--model.tuned_checkpoint (\S+)", done.stdout)
        return None if found is None else found.group(1)

    own = tmp_path / "tune_depth" / "depth_encoder.safetensors"
    assert option() is None
    own.parent.mkdir()
    own.write_text("")
    assert option() == option("PROFILE=full") == str(own)
    assert option("TUNED=none") is option("PRETRAINED=openai") is option("PROFILE=full", "TUNED=none") is None
    assert option("TUNED=other.safetensors") == option("TUNED=other.safetensors", "PRETRAINED=openai") == "other.safetensors"


def test_every_make_target_has_a_note() -> None:
    makefile = (REPO / "Makefile").read_text()
    targets = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert targets
    for target in targets.group(1).split():
        assert re.search(rf"^{target}:.*##", makefile, re.MULTILINE), f"{target} has no ## note"
    shown = subprocess.run(["make", "help"], cwd=REPO, capture_output=True, text=True, check=True).stdout
    for name in [*targets.group(1).split(), *re.findall(r"^([A-Z]+) \?=", makefile, re.MULTILINE)]:
        assert re.search(rf"^  {name}\b", shown, re.MULTILINE), f"make help does not list {name}"
