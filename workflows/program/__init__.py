"""What authors write: choreographies, roles, calls, scatters, phases; and how that becomes a workflow.

May import the engine. Begin with `choreography.choreography`, `call.Call`, `scatter.scatter`.
"""
