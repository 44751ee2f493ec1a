"""Answering a prompt: the turn loop with its tools, re-asks, approvals and compaction, and what it records.

May import declarations and models. Begin with `answer.TurnLoop`, `interpreters.answer_in_process`,
`checkpoint.Checkpoint`.
"""
