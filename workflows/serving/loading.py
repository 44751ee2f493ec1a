"""The import of litellm, which takes seconds, before a process serves prompts."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread

from activities.errors import SettingInvalid
from activities.models.model import load


class Loading(Thread):
    """An import that is made while the process does other things.

    Beside the sandbox of a run, which replaces `sys.modules`, it would die half-way and leave what it has begun: wait
    for it before anything is served.
    """

    def __init__(self, *, needed: bool) -> None:
        """Begin to load; nothing, if nothing is needed."""
        super().__init__(name="import of litellm", daemon=True)
        self._load: Callable[[], None] = load if needed else lambda: None
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        """Load."""
        try:
            self._load()
        except BaseException as error:
            self._error = error

    def wait(self) -> None:
        """Wait until it is there.

        Raises:
            SettingInvalid: It can't be imported; says why.
        """
        self.join()
        if self._error is not None:
            said = " ".join(f"{type(self._error).__name__}: {self._error}".split())
            raise SettingInvalid(
                f"litellm can't be imported: {said}. Install what requirements.lock names, or serve no prompts here "
                "(--serve)."
            ) from self._error
