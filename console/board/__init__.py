"""The board: a page, and the interface beneath it, on which people see runs and steer them.

It reads and writes nothing but Temporal: it may be stopped, started again and run twice. May import the console's other
files, both wings' contracts and what runs show of themselves. Begin with `app.board_of`.
"""
