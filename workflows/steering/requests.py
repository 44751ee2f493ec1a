"""What a borrower asks its lender for."""

from __future__ import annotations

from datetime import datetime

from workflows.steering.budget import Amount, Limit, Purse


class Requests:
    """What a borrower asks its lender for, request by request: there is no clock in here, and no server.

    Attributes:
        purse: What it may spend, and has spent.
        number: That of its last request.
        is_open: Whether an answer to that is to come.
    """

    def __init__(self, purse: Purse, number: int = 0) -> None:
        self.purse = purse
        self.number = number
        self.is_open = False

    def next(self, now: datetime, *, wants: bool = True, keep_for: str | None = None) -> Purse:
        """Give back what is not needed; return what the lender is to be told.

        Args:
            now: The time.
            wants: Whether it asks for more.
            keep_for: The method of a call that is about to start.
        """
        self.is_open = wants
        self.number += 1
        self.purse.give_back(now, keep_for=keep_for)
        return self.purse.model_copy(deep=True)

    def take(self, limits: dict[Limit, Amount], request: int) -> bool:
        """Go on with another share, unless it was sent before the lender heard what was given back of this one."""
        if request != self.number:
            return False
        self.is_open = False
        self.purse.limits = limits
        return True
