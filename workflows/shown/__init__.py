"""What a run shows of itself: its progress and the list of runs, read from its tree, and how a changed program is told.

May import the tree. Begin with `reading.progress`, `board.Board`, `listing.Listing`, `changed.change_in_words`.
"""
