"""The folders that a run's agents work in: files that stay inside, tests that are run there, branches that are merged.

May import errors, the border and the contract. Begin with `workspace.Workspace` and `pytest_run.TestRun`, and with
`repository.Repository` and `desk.Desk` for branches.
"""
