"""What a worker does, for whoever watches many: metrics and spans, the ports that they go through, and their adapters.

May import `border` and what is below it. Begin with `measures.count`, `catalogue`, `spans.part`.
"""
