"""What the processes of `render_pairs` need: imported once by the process that they are copied from (see `worker_pool.prepare_workers`)."""

from __future__ import annotations

from contextlib import suppress

import clip2x.data.render_pairs  # noqa: F401
from clip2x.errors import MissingDependencyError
from clip2x.meshes import open3d_module

with suppress(MissingDependencyError):  # said in one line when the first model is drawn
    open3d_module()
