"""Run a stage in which one process sends itself or its group a signal at a step: `python faulty_run.py SIGTERM@3@1 fit --config ...`.

The parts of the first argument: a signal (with `group:` before it for all processes of the group), the step before whose end it comes, the rank
that it comes from, or `all`. Lightning starts the other processes of a run by the same command line.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any

from clip2x.cli import main
from clip2x.modules.frozen_clip import FrozenClipTraining


def inject(fault: str) -> None:
    """Let `FrozenClipTraining` send the signal when its loss of the step before is looked at, which every stage does once a step."""
    name, step, rank = fault.split("@")
    check = FrozenClipTraining._check_last_loss

    def faulty(self: Any) -> None:
        if self.trainer.training and self.global_step == int(step) and rank in ("all", str(self.global_rank)):
            number = getattr(signal, name.removeprefix("group:"))
            if name.startswith("group:"):  # from another process, as a scheduler does: readers obey their parent
                subprocess.run(["kill", f"-{int(number)}", "--", f"-{os.getpgid(0)}"], start_new_session=True, check=True)
            else:
                os.kill(os.getpid(), number)
        check(self)

    FrozenClipTraining._check_last_loss = faulty  # type: ignore[method-assign]


if __name__ == "__main__":
    inject(sys.argv[1])
    sys.exit(main(sys.argv[2:]))
