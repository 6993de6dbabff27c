"""Carries packets from one port of the bridge to another, each by a time of its own later, and some of them twice.

Arguments: a seed, the most milliseconds a packet is late, how many of a hundred are sent twice, and links, each as
PORT-FROM,PORT-TO,ADDRESS-TO. It sees packets before the filter of the bridge's namespace drops them.
"""

import heapq
import random
import select
import socket
import sys
import time

ETH_P_ALL = 3
SOL_PACKET, PACKET_VNET_HDR = 263, 15
# With that option ten bytes come before each frame: checksums and the sizes of segments that the kernel still has to do.
TYPE, DESTINATION = slice(22, 24), slice(40, 44)
IPV4 = b"\x08\x00"

dice = random.Random(sys.argv[1])
late_s, twice_percent = float(sys.argv[2]) / 1000, int(sys.argv[3])


def opened(name):
    port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    port.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    port.bind((name, ETH_P_ALL))
    port.setblocking(False)
    return port


ports, roads = {}, {}
for link in sys.argv[4:]:
    one, other, address = link.split(",")
    for name in (one, other):
        if name not in ports:
            ports[name] = opened(name)
    roads[ports[one], socket.inet_aton(address)] = ports[other]
heard = list({port for port, _ in roads})
print("ready", flush=True)

on_the_way, number = [], 0
while True:
    wait = max(0, on_the_way[0][0] - time.monotonic()) if on_the_way else None
    for port in select.select(heard, [], [], wait)[0]:
        try:
            frame, whence = port.recvfrom(1 << 17)
        except OSError:
            continue
        to = roads.get((port, frame[DESTINATION]))
        if to is None or frame[TYPE] != IPV4 or whence[2] == socket.PACKET_OUTGOING:
            continue
        for _ in range(2 if dice.random() * 100 < twice_percent else 1):
            number += 1
            heapq.heappush(on_the_way, (time.monotonic() + dice.random() * late_s, number, to, frame))
    while on_the_way and on_the_way[0][0] <= time.monotonic():
        _, _, to, frame = heapq.heappop(on_the_way)
        try:
            to.send(frame)
        except OSError:
            # No room on the way: it is lost, as on any road.
            pass
