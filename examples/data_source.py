#!/usr/bin/env python3
"""A data source in Python: sends the lines of standard input to `mp2p source --accept`.

    tail -F pump.log | /usr/bin/python3 examples/data_source.py 127.0.0.1 7950 pump-3

docs/protocol.md, R11, says what goes over the wire. For brevity it keeps nothing: when the link is
lost it ends, and says up to which datum peers hold all.
"""
import collections, os, select, socket, struct, sys
try:
    import msgpack
except ImportError:
    sys.exit("%s has no msgpack: %s -m pip install msgpack; or on Debian: "
             "apt-get install python3-msgpack, and /usr/bin/python3" % ((sys.executable,) * 2))

ERROR, PING, PONG, REGISTER, REGISTERED, DATUM, ACCEPTED, HELD, TERMINATE = (
    0x10, 0x11, 0x12, 0x20, 0x21, 0x22, 0x23, 0x24, 0x25)
STDIN, READ_BYTES, FRAME_DATA, DATUM_BYTES = 0, 65_536, 8_192, 16_777_216


def frame(kind, body):
    return struct.pack("<IBBBB", 8 + len(body), 0xB6, 1, kind, 0) + body


def put(data, total=0, offset=0):
    """Puts a DATUM frame behind those that wait: data from `sequence` on, or a piece of that one."""
    head = struct.pack("<QQIIII", sequence, 0, len(data), total, offset, 0)
    table = b"".join(struct.pack("<Ii", len(datum), 0) for datum in data)
    waiting.append(frame(DATUM, head + table + b"".join(data)))


def put_lines(lines):
    global sequence
    while lines:
        count = FRAME_DATA
        if len(lines[0]) > READ_BYTES:  # Only the first may be: the others came with one read.
            line, count = lines[0], 1
            for at in range(0, len(line), READ_BYTES):
                put([line[at:at + READ_BYTES]], len(line), at)
        else:
            put(lines[:count])
        sequence += len(lines[:count])
        lines = lines[count:]


def receive():
    """Takes what came over the link. Answers every PING, or the link would be closed."""
    global inbox, sequence, held, granted
    data = link.recv(READ_BYTES)
    if not data:
        sys.exit("the link was closed; peers hold all up to %d" % held)
    inbox += data
    while len(inbox) >= 8 and len(inbox) >= struct.unpack_from("<I", inbox)[0]:
        length, kind = struct.unpack_from("<IxxB", inbox)
        if length < 8:
            sys.exit("what answers there is no source peer")
        body, inbox = inbox[8:length], inbox[length:]
        if kind == PING:
            link.sendall(frame(PONG, body))
        elif kind == ERROR:
            sys.exit("refused: %s %s" % tuple(msgpack.unpackb(body)))
        elif kind == REGISTERED:
            sequence, held, granted = msgpack.unpackb(body)[:3]
        elif kind == ACCEPTED:
            granted = msgpack.unpackb(body)[1]
        elif kind == HELD:
            held = msgpack.unpackb(body)[0]
        elif kind == TERMINATE:
            last = msgpack.unpackb(body)[1]
            print("peers hold all up to %d" % last, file=sys.stderr)
            sys.exit(None if ended and last == sequence - 1 else "nothing after that is taken")


if len(sys.argv) != 4 or not sys.argv[2].isdecimal() or int(sys.argv[2]) > 65_535:
    sys.exit(__doc__)
waiting = collections.deque()  # DATUM frames that are not granted yet.
inbox, rest, ended, farewell = b"", bytearray(), False, b""
sequence = held = granted = sent = 0
try:
    link = socket.create_connection((sys.argv[1], int(sys.argv[2])))
    who = [1, 1, sys.argv[3], "", "text/plain", os.urandom(16), 0]
    link.sendall(frame(REGISTER, msgpack.packb(who)))
    while True:
        # While nothing is granted the input is not read, so that its writer waits, too.
        reads = sequence > 0 and not ended and not waiting
        ready = select.select([link, STDIN] if reads else [link], [], [])[0]
        if link in ready:
            receive()
        if STDIN in ready:
            text = os.read(STDIN, READ_BYTES)
            ended = not text
            rest += text
            lines = []
            if ended or b"\n" in text:
                *lines, rest = rest.split(b"\n")
            if max(map(len, lines + [rest])) >= DATUM_BYTES:
                sys.exit("line %d has more than %d bytes" % (sequence, DATUM_BYTES))
            put_lines([line + b"\n" for line in lines] + ([rest] if ended and rest else []))
            farewell = frame(TERMINATE, msgpack.packb([0, sequence - 1])) if ended else b""
        while waiting and sent + len(waiting[0]) <= granted:
            sent += len(waiting[0])
            link.sendall(waiting.popleft())
        if farewell and not waiting:
            link.sendall(farewell)
            farewell = b""
except OSError as problem:
    sys.exit("no link to %s port %s: %s; peers hold all up to %d" % (*sys.argv[1:3], problem, held))
