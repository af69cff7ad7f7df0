"""The logs of all engines, rendered from runs of which everything is known.

A renderer is one record in the list of its engine's file. To add one: write how a run looks in the log, line by line, and
say what the log tells, to how many digits, and how a rank without work looks in it. Tests over `RENDERERS` do the rest.
"""

from __future__ import annotations

from engine_logs import others, sglang, sglang_looks, trtllm, vllm
from engine_logs.renderer import Renderer

RENDERERS: dict[str, Renderer] = {
    renderer.name: renderer
    for renderer in (*sglang.RENDERERS, *sglang_looks.RENDERERS, *vllm.RENDERERS, *trtllm.RENDERERS, *others.RENDERERS)
}
