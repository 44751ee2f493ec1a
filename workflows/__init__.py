"""The deterministic wing: choreographies and the words that they are written in."""

from workflows.engine.continuation import continue_with
from workflows.program.choreography import choreography
from workflows.program.phase import phase
from workflows.program.role import instance
from workflows.program.scatter import fan_out, scatter
from workflows.serving.plugin import ChoreographyPlugin

__all__ = ["ChoreographyPlugin", "choreography", "continue_with", "fan_out", "instance", "phase", "scatter"]
