"""What a stage writes, cut into lines."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from pipcook_provider.launchers.base import Listener, Outcome
from pipcook_provider.runtime.messages import MessageReader

_LONGEST_LINE = 64 * 1024
_LAST_LINES = 20


class Lines:
    """Cuts bytes into lines; one that never ends is passed on in pieces, so that memory stays bounded.

    :param take: is called with each line, without its end.
    """

    def __init__(self, take: Callable[[bytes], None]) -> None:
        self._take = take
        self._rest = b""

    def feed(self, chunk: bytes) -> None:
        """Take bytes as they come, however they are cut."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            self._take(line)
        if len(self._rest) > _LONGEST_LINE:
            end = _last_character(self._rest)
            piece, self._rest = self._rest[:end], self._rest[end:]
            self._take(piece)

    def finish(self) -> None:
        """Pass on what came after the last line end."""
        if self._rest:
            rest, self._rest = self._rest, b""
            self._take(rest)


def _last_character(text: bytes) -> int:
    """Return where the last character of a text in UTF-8 begins, which may not be whole yet."""
    begin = len(text) - 1
    while begin > len(text) - 4 and text[begin] & 0xC0 == 0x80:
        begin -= 1
    return begin


class Heard:
    """Tells a stage's messages from its output, and passes both on.

    :param token: the launch's token.
    :param outcome: is fed the messages.
    :param listener: hears the output, and the messages that decide nothing.
    """

    def __init__(self, token: str, outcome: Outcome, listener: Listener) -> None:
        self._reader = MessageReader(token)
        self._outcome = outcome
        self._listener = listener
        self._last_lines: deque[str] = deque(maxlen=_LAST_LINES)

    @property
    def last_lines(self) -> str:
        """The end of the output."""
        return "\n".join(self._last_lines)

    def stdout(self, line: bytes) -> None:
        """Take a line of the stream that messages come on."""
        message = self._reader.read(line)
        if message is None:
            self.stderr(line)
        else:
            self._outcome.take(message, self._listener)

    def stderr(self, line: bytes) -> None:
        """Take a line of output."""
        # A progress bar redraws its line after carriage returns; what stood there last is what a person saw.
        text = line.decode("utf-8", errors="replace").rstrip("\r").rpartition("\r")[2]
        self._last_lines.append(text)
        self._listener.output(text)
