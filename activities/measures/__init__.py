"""What a worker does, counted: what is measured, the port that everything measures through, and its adapter.

May import `border` and what is below it. Begin with `measures.count`, `catalogue`.
"""
