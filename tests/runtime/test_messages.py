"""The message format between a child and its launcher."""

from __future__ import annotations

import os

import pytest

from pipcook_provider.errors import ProtocolError
from pipcook_provider.runtime.messages import (
    MAXIMUM_BYTES,
    Closed,
    Failure,
    Log,
    Message,
    MessageReader,
    MessageWriter,
    Metric,
    Opened,
    Progress,
    Result,
)

TOKEN = "0123456789abcdef"


def sent(*messages: Message) -> list[bytes]:
    """Return the lines that a writer produces."""
    read_end, write_end = os.pipe()
    writer = MessageWriter(write_end, TOKEN)
    for message in messages:
        writer.send(message)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as file:
        return file.read().splitlines()


def test_messages_arrive_as_they_were_sent() -> None:
    """Each kind of message survives the channel, whatever characters it holds."""
    messages = [
        Opened(protocol=1, python="3.11.7", pid=7),
        Log("info", "数据 \x1e\n"),
        Progress(0.5, {"epoch": 3, "loss": 0.25}),
        Metric("accuracy", 0.97, 3),
        Result({"samples": {"train": 10}}),
        Failure("ValueError", "no", "scripts/0-a.py", 3, "x = 1", "Traceback", True),
        Closed(),
    ]
    reader = MessageReader(TOKEN)
    assert [reader.read(line) for line in sent(*messages)] == messages


def test_what_nobody_can_store_is_replaced() -> None:
    """NUL and half a character end in neither a database nor a log; all others stay, escapes that look like them too."""
    reader = MessageReader(TOKEN)
    names = ["a\0b", "lone \ud800", "\udc00\ud800", "pair \U0001f600", r"\u0000 \ud800", "\\\0", "\ud83d\U0001f600"]
    kept = [
        "a\ufffdb",
        "lone \ufffd",
        "\ufffd\ufffd",
        "pair \U0001f600",
        r"\u0000 \ud800",
        "\\\ufffd",
        "\ufffd\U0001f600",
    ]
    assert [reader.read(line) for line in sent(*(Metric(name, 1.0) for name in names))] == [
        Metric(name, 1.0) for name in kept
    ]


def test_output_is_not_a_message() -> None:
    """A line without this launch's mark and token is output, however much it looks like a message."""
    reader = MessageReader(TOKEN)
    assert reader.read(b"epoch 1") is None
    assert reader.read(b'\x1eother {"kind":"closed","sequence":0}') is None


def test_lost_message_is_noticed() -> None:
    """A gap in the sequence is an error, not a silent loss."""
    lines = sent(Log("info", "a"), Log("info", "b"), Closed())
    reader = MessageReader(TOKEN)
    reader.read(lines[0])
    with pytest.raises(ProtocolError, match="expected message 1 of the stage, found message 2"):
        reader.read(lines[2])


def test_broken_message_is_noticed() -> None:
    """A marked line that is no JSON is an error, and so is one that is nested too deeply to be read."""
    for text in (b"{", b"\xff", b"[" * 100_000):
        with pytest.raises(ProtocolError, match="expected a message in JSON"):
            MessageReader(TOKEN).read(b"\x1e" + TOKEN.encode() + b" " + text)


def test_unknown_kind_is_ignored() -> None:
    """A later version may send more kinds of messages."""
    reader = MessageReader(TOKEN)
    assert reader.read(b"\x1e" + TOKEN.encode() + b' {"kind":"telemetry","sequence":0}') is None
    assert reader.read(b"\x1e" + TOKEN.encode() + b' {"kind":"closed","sequence":1}') == Closed()


@pytest.mark.parametrize("text", ["x" * 100_000, "数" * 50_000, "\x01" * 30_000, "😀" * 30_000])
def test_long_texts_lose_their_middle(text: str) -> None:
    """A message never exceeds its bound; the beginning and the end of a text stay."""
    (line,) = sent(Failure("E" * 5_000, text, text, 1, text, text, False))
    assert len(line) <= MAXIMUM_BYTES
    failure = MessageReader(TOKEN).read(line)
    assert isinstance(failure, Failure)
    assert failure.message.startswith(text[0])
    assert failure.message.endswith(text[-1])
    assert " … " in failure.traceback


def test_large_result_is_refused() -> None:
    """A result is a reference, not data: one that is too large is an error instead of being cut."""
    with pytest.raises(ValueError, match="a result may hold 8192 bytes"):
        sent(Result({"data": "x" * 10_000}))
