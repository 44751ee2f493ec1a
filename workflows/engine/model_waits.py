"""What a run knows of models that its calls wait for: workers tell it."""

from __future__ import annotations

from activities.contract.text import clip

_MOST_TOLD = 20
_LENGTH = 400


class ModelWaits:
    """Which models are waited for, each told by one call, for all.

    Attributes:
        hold_all: Whether no call has been answered since the last model was told of.
    """

    def __init__(self) -> None:
        self.hold_all = False
        self._told: dict[tuple[str, str], str] = {}

    def hears(self, about: str, step: str, text: str, *, under_way: bool) -> None:
        """Note that a model is waited for, or that this is over.

        Args:
            about: The model.
            step: The call that tells it.
            text: Since when, why, and when it is tried again; empty when that is over.
            under_way: Whether there is such a call.
        """
        if not text:
            self._told.pop((about, step), None)
        elif under_way and len(self._told) < _MOST_TOLD:
            self._told[about, step] = f"{clip(about, _LENGTH)} {clip(text, _LENGTH)}"
            self.hold_all = True
        self.hold_all = self.hold_all and bool(self._told)

    def ends(self, step: str, *, answered: bool) -> None:
        """Note that a call has ended: it waits no more."""
        if self._told:
            self._told = {told: text for told, text in self._told.items() if told[1] != step}
            self.hold_all = self.hold_all and bool(self._told) and not answered

    def waits(self) -> list[str]:
        """Say what is waited for, once for each model."""
        return list({about: text for (about, _), text in self._told.items()}.values())
