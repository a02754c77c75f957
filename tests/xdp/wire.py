"""Frames as they are on a wire: wire.py INTERFACE

Sends each line of standard input, a frame in hex, and prints each frame that
comes in. Says "ready" when it listens.
"""

import socket
import sys
import threading

EVERY_PROTOCOL = 3

wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(EVERY_PROTOCOL))
wire.bind((sys.argv[1], EVERY_PROTOCOL))


def receive():
    while True:
        frame, address = wire.recvfrom(65535)
        if address[2] != socket.PACKET_OUTGOING:
            print(frame.hex(), flush=True)


print("ready", flush=True)
threading.Thread(target=receive, daemon=True).start()
for line in sys.stdin:
    wire.send(bytes.fromhex(line))
