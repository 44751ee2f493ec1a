"""The folder that a run's agents share: files that stay inside it, and tests that are run there.

May import errors. Begin with `workspace.Workspace` and `pytest_run.TestRun`.
"""
