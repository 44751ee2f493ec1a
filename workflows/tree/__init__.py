"""The tree of what goes on in a run: main line, scatters, items, phases and calls, each for as long as it lasts.

May import nothing of the wing but its errors. Begin with `scope.Scope` and `current.current_scope`.
"""
