"""The board: a page, and the interface beneath it, on which people see runs and steer them.

It keeps nothing: all of it is in Temporal, but for the repositories of runs, which it reads where it finds them. So it
may be stopped, started again and run twice. May import the console's other files, the contracts of both wings, the
workspace's reading side and what runs show of themselves. Begin with `app.board_of`.
"""
