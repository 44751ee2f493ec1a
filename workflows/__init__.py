"""The deterministic wing: choreographies and the words that they are written in."""

from workflows.choreography import choreography
from workflows.continuation import continue_with
from workflows.phase import phase
from workflows.plugin import ChoreographyPlugin
from workflows.role import instance
from workflows.scatter import fan_out, scatter

__all__ = ["ChoreographyPlugin", "choreography", "continue_with", "fan_out", "instance", "phase", "scatter"]
