"""What would have happened: the same requests under other routing policies.

The package can be called: `lbal.replay(trace, …)` is `lbal.replay.experiment.replaying.replay`.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lbal.analyzers.result.result import Result
    from lbal.analyzers.trace.trace import Trace


class _CallablePackage(ModuleType):
    """This package, which is also the call that a notebook needs of it."""

    def __call__(self, trace: Trace, **options: Any) -> Result:
        """Replay the requests of a trace under routing policies; see `lbal.replay.experiment.replaying.replay`."""
        from lbal.replay.experiment.replaying import replay

        return replay(trace, **options)


sys.modules[__name__].__class__ = _CallablePackage
