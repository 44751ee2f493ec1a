"""What a run shows of itself: its board, progress, the list of runs, and how a changed program is told.

Begin with `board.Board`, `progress.Progress`, `listing.Listing`, `changed.change_in_words`.
"""
