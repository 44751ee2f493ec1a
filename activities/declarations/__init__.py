"""What authors declare: agents and persons, their prompts, tasks and tools, checked when a class is defined.

May import memory, values and the workspace; knows of no model. Begin with `agent.Agent`, `decorators.prompt`,
`method.Method` and `person.Person`.
"""
