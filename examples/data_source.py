#!/usr/bin/env python3
"""A data source in Python: sends the lines of standard input to `mp2p source --accept`.

    python3 examples/data_source.py 127.0.0.1 7950 pump-3 < readings.txt

Needs msgpack (Debian: python3-msgpack; else: pip install msgpack). docs/protocol.md, R11, says what
goes over the wire. For brevity it does not link up again when the link is lost.
"""
import os, socket, struct, sys
import msgpack

ERROR, PING, PONG, REGISTER, REGISTERED, DATUM, ACCEPTED, HELD, TERMINATE = (
    0x10, 0x11, 0x12, 0x20, 0x21, 0x22, 0x23, 0x24, 0x25)


def frame(kind, body):
    return struct.pack("<IBBBB", 8 + len(body), 0xB6, 1, kind, 0) + body


def receive():
    """The next frame that is no PING: its type and fields."""
    while True:
        length, _, _, kind, _ = struct.unpack("<IBBBB", link.read(8))
        body = link.read(length - 8)
        if kind == PING:
            sock.sendall(frame(PONG, body))
        elif kind == ERROR:
            sys.exit("refused: %s %s" % tuple(msgpack.unpackb(body)))
        elif kind != PONG:
            return kind, msgpack.unpackb(body)


host, port, source_id = sys.argv[1:4]
sock = socket.create_connection((host, int(port)))
link = sock.makefile("rb")
sock.sendall(frame(REGISTER, msgpack.packb([1, 1, source_id, "", "text/plain", os.urandom(16), 0])))
sequence, _held, granted, _overlay, _epoch = receive()[1]
sent = 0


def send(lines):
    """One DATUM frame, as soon as its bytes are granted."""
    global sequence, sent, granted
    table = b"".join(struct.pack("<Ii", len(line), 0) for line in lines)
    head = struct.pack("<QQIIII", sequence, 0, len(lines), 0, 0, 0)
    datum = frame(DATUM, head + table + b"".join(lines))
    while sent + len(datum) > granted:
        kind, fields = receive()
        if kind == ACCEPTED:
            granted = fields[1]
    sock.sendall(datum)
    sent += len(datum)
    sequence += len(lines)


batch = []
for line in sys.stdin.buffer:
    batch.append(line)
    if sum(map(len, batch)) >= 16_000 or len(batch) == 500:
        send(batch)
        batch = []
if batch:
    send(batch)
sock.sendall(frame(TERMINATE, msgpack.packb([0, sequence - 1])))
while receive()[0] != TERMINATE:
    pass
print("peers hold all up to %d" % (sequence - 1), file=sys.stderr)
