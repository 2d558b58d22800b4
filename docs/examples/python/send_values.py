"""Sends numbers from standard input as triggers of a seismic sensor, one envelope for each line:

    sensor-program | TOCSIN_API_KEY=… python3 send_values.py https://tocsin.example.org sensor-1 sensor-1.pem outbox.db

Prints `queued <id>` once a value is on disk, and `<action> <id>` for each answer. A line that begins with ! is urgent.
Ends when the input has ended and the outbox is empty; killed in between, it goes on where it was.
"""
from __future__ import annotations

import os
import sys
import threading

from tocsin_device import Device, Outbox, Sender, load_key


def main(server: str, device_id: str, key_path: str, outbox_path: str) -> None:
    outbox = Outbox(outbox_path)
    sender = Sender(Device(device_id, load_key(key_path)), outbox, server, os.environ["TOCSIN_API_KEY"])
    sender.learn_time()

    def report(action: str, envelope_id: str) -> None:
        print(action, envelope_id, flush=True)

    thread = threading.Thread(target=sender.run, args=(report,), daemon=True)
    thread.start()
    for line in sys.stdin:
        value = float(line.lstrip("!"))
        envelope_id = outbox.put("seismic", [{"at": sender.now(), "value": value}], urgent=line.startswith("!"))
        print("queued", envelope_id, flush=True)
    while len(outbox) > 0:
        thread.join(0.1)
    sender.stop.set()
    outbox.filled.set()
    thread.join()


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    main(*sys.argv[1:])
