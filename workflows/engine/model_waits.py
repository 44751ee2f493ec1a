"""What a workflow knows of models that its calls wait for: workers tell it."""

from __future__ import annotations

from collections.abc import Callable

from temporalio import workflow

from activities.contract.text import clip

_MOST_TOLD = 20
_LENGTH = 400


class ModelWaits:
    """Which models are waited for, each told by one call, for all.

    Attributes:
        hold_all: Whether no call has been answered since the last model was told of.
    """

    def __init__(self, is_under_way: Callable[[str], bool]) -> None:
        """Begin without any.

        Args:
            is_under_way: Whether the call of a step is.
        """
        self.hold_all = False
        self._is_under_way = is_under_way
        self._waits: dict[tuple[str, str], str] = {}

    @workflow.signal(description="Calls wait for a model that is not to be had; without a text, that is over.")
    def waits_for_model(self, about: str = "", step: str = "", text: str = "") -> None:
        """Note that a model is waited for, or that this is over.

        Args:
            about: The model.
            step: The call that tells it.
            text: Since when, why, and when it is tried again; empty when that is over.
        """
        if not text:
            self._waits.pop((about, step), None)
        elif self._is_under_way(step) and len(self._waits) < _MOST_TOLD:
            self._waits[about, step] = f"{clip(about, _LENGTH)} {clip(text, _LENGTH)}"
            self.hold_all = True
        self.hold_all = self.hold_all and bool(self._waits)

    def call_ends(self, step: str, *, answered: bool) -> None:
        """Note that a call has ended: it waits no more."""
        if self._waits:
            self._waits = {key: text for key, text in self._waits.items() if key[1] != step}
            self.hold_all = self.hold_all and bool(self._waits) and not answered

    def in_words(self) -> list[str]:
        """Say what is waited for, once for each model."""
        return list({about: text for (about, _), text in self._waits.items()}.values())
