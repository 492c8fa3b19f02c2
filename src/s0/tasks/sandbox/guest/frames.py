"""Messages over a connection: a size, then that many bytes of `codec`."""

from __future__ import annotations

import os
import struct

from s0.tasks.sandbox.guest import codec

_SIZE = struct.Struct("<I")


class ConnectionEnded(Exception):
    """The other side has closed the connection."""


def send(descriptor: int, value: object) -> None:
    """Write one message.

    Raises:
        CodecError: `value` is not plain data; nothing has been written then.
        ConnectionEnded: the other side is gone.
    """
    payload = codec.encode(value)
    data = memoryview(_SIZE.pack(len(payload)) + payload)
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    except OSError:
        raise ConnectionEnded from None


def receive(descriptor: int) -> object:
    """Read one message; memory used is bounded by the codec's caps, whatever the other side announces.

    Raises:
        ConnectionEnded: the other side is gone.
        CodecError: what it sent is no message.
    """
    (size,) = _SIZE.unpack(_exactly(descriptor, _SIZE.size))
    if size > codec.MAX_MESSAGE_BYTES:
        raise codec.CodecError(f"a message of {size} bytes; at most {codec.MAX_MESSAGE_BYTES} are allowed")
    return codec.decode(_exactly(descriptor, size))


def _exactly(descriptor: int, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        try:
            part = os.read(descriptor, min(size - len(data), 1 << 16))
        except OSError:
            raise ConnectionEnded from None
        if not part:
            raise ConnectionEnded
        data += part
    return bytes(data)
