"""Messages over a connection: a size, then that many bytes."""

from __future__ import annotations

import os

from s0.tasks.sandbox.guest import codec
from s0.tasks.sandbox.guest.wire_format import SIZE


class ConnectionEnded(Exception):
    """The other side has closed the connection."""


def send(descriptor: int, payload: bytes) -> None:
    """Write one message.

    Raises:
        ConnectionEnded: the other side is gone.
    """
    size = SIZE.pack(len(payload))
    if len(payload) < 1 << 16:
        size, payload = b"", size + payload
    for part in (size, payload):
        left = memoryview(part)
        try:
            while left:
                left = left[os.write(descriptor, left) :]
        except OSError:
            raise ConnectionEnded from None


def receive(descriptor: int) -> bytes:
    """Read one message; memory used is bounded by the codec's cap, whatever the other side announces.

    Raises:
        ConnectionEnded: the other side is gone.
        CodecError: it announces more than a message may have.
    """
    (size,) = SIZE.unpack(_exactly(descriptor, SIZE.size))
    if size > codec.MAX_MESSAGE_BYTES:
        raise codec.CodecError(f"a message of {size} bytes; at most {codec.MAX_MESSAGE_BYTES} are allowed")
    return _exactly(descriptor, size)


def _exactly(descriptor: int, size: int) -> bytes:
    parts = []
    missing = size
    while missing:
        try:
            part = os.read(descriptor, min(missing, 1 << 20))
        except OSError:
            raise ConnectionEnded from None
        if not part:
            raise ConnectionEnded
        parts.append(part)
        missing -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
