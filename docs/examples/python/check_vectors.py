"""Checks tocsin_device.py against the test vectors: python3 check_vectors.py [folder of the vectors]

`cryptography` signs with random nonces, so signatures are not compared: those of the vectors are verified, and ours too.
Prints each difference and how much was checked; ends with 1 at a difference.
"""
from __future__ import annotations

import json
import os
import sys
import tempfile

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

import tocsin_device as td

HERE = os.path.dirname(os.path.abspath(__file__))
FOLDER = os.path.join(HERE, "../../../packages/protocol/fixtures")


class Checker:
    def __init__(self, folder: str):
        self.folder, self.checks, self.wrong = folder, 0, 0
        self.keys = {key["name"]: key for key in self.load("keys")["keys"]}

    def load(self, name: str) -> dict:
        with open(os.path.join(self.folder, f"{name}.json"), encoding="utf-8") as file:
            return json.load(file)

    def expect(self, right: bool, kind: str, name: str) -> None:
        self.checks += 1
        if not right:
            self.wrong += 1
            print(f"wrong: {kind}: {name}")

    def private(self, name: str) -> ec.EllipticCurvePrivateKey:
        return ec.derive_private_key(int(self.keys[name]["scalar"], 16), ec.SECP256R1())


def checks(key: ec.EllipticCurvePublicKey, text: str, signature: bytes) -> bool:
    """r||s when it has 64 bytes, else DER."""
    if len(signature) == 64:
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
        signature = utils.encode_dss_signature(r, s)
    try:
        key.verify(signature, text.encode(), ec.ECDSA(hashes.SHA256()))
        return True
    except InvalidSignature:
        return False


def decode(text: str) -> bytes:
    return td.base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def refuses(work) -> bool:
    try:
        work()
    except ValueError:
        return True
    return False


def check_keys(c: Checker) -> None:
    for name, key in c.keys.items():
        public = c.private(name).public_key()
        numbers = public.public_numbers()
        xy = numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")
        c.expect(xy.hex() == key["xyHex"], "key", name)
        c.expect(td.Device("a", c.private(name)).public_key_pem() == key["spkiPem"], "public PEM", name)
        der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        c.expect(der.hex() == key["spkiHex"], "public DER", name)
        for form in ("pkcs8Pem", "sec1Pem"):
            with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
                file.write(key[form])
                file.flush()
                loaded = td.load_key(file.name)
            c.expect(loaded.private_numbers() == c.private(name).private_numbers(), form, name)


def check_envelopes(c: Checker) -> None:
    for one in c.load("envelopes")["envelopes"]:
        key = c.private(one["key"])
        signed, _, signature = one["jws"].rpartition(".")
        c.expect(signed == one["signingInput"] and checks(key.public_key(), signed, decode(signature)), "envelope", one["name"])
        ours = td.Device(one["deviceId"], key).seal_text(one["payload"])
        signed, _, signature = ours.rpartition(".")
        same = signed == one["signingInput"] or not one["canonical"]
        c.expect(same and len(decode(signature)) == 64, "our envelope", one["name"])
        c.expect(checks(key.public_key(), signed, decode(signature)), "our signature", one["name"])
        content = one["content"]
        built = td.Device(one["deviceId"], key).seal(content["id"], content["at"], content["profile"], content["readings"])
        c.expect(json.loads(decode(built.split(".")[1])) == content, "our payload", one["name"])


def check_texts(c: Checker) -> None:
    challenge = c.load("challenge")
    for one in challenge["challenges"]:
        key = c.private(one["key"])
        signature = td.Device(one["deviceId"], key).sign_challenge(one["nonce"])
        for form in (one["raw"], one["der"], signature):
            c.expect(checks(key.public_key(), one["text"], decode(form)), "challenge", one["name"])
    for one in challenge["refused"]:
        key = c.private("first")
        c.expect(refuses(lambda: td.Device(one["deviceId"], key).sign_challenge(one["nonce"])), "no challenge", one["name"])
    for one in c.load("original")["measurements"]:
        public = c.private(one["key"]).public_key()
        for form in ("raw", "der"):
            c.expect(checks(public, one["text"], bytes.fromhex(one[form])), "original", one["name"])


def check_alerts(c: Checker) -> None:
    """The signatures only: a device gets no alerts, and Python has no RFC 8785 of its own."""
    alerts = c.load("alerts")
    public = c.private("alerts").public_key()
    for one in alerts["alerts"]:
        if one["canonical"] is None:
            continue
        rest = {name: value for name, value in one["alert"].items() if name != "signature"}
        header, signature = one["alert"]["signature"].split("..")
        signed = f"{header}.{td.base64url(one['canonical'].encode())}"
        c.expect(checks(public, signed, decode(signature)), "alert", one["name"])
        c.expect(json.loads(one["canonical"]) == rest, "canonical form", one["name"])


def check_answers(c: Checker) -> None:
    for one in c.load("answers")["answers"]:
        c.expect(td.decide(one["status"], one["code"]) == one["action"], "answer", one["name"])
        c.expect(td.retry_after(one["retryAfter"], one["date"]) == one["waitMs"], "wait", one["name"])
    for one in c.load("clock")["clocks"]:
        bounds = one["bounds"] and (one["bounds"]["least"], one["bounds"]["most"])
        c.expect(td.clock_bounds(one["sent"], one["received"], one["date"]) == bounds, "clock", one["name"])
    for attempt in range(100):
        most = min(1000 * 2**attempt, 60_000)
        c.expect(most // 2 <= td.back_off(attempt) <= most, "back-off", str(attempt))


def check_outbox(c: Checker) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "outbox.db")
        box = td.Outbox(path, most=4)
        put = [box.put("seismic", [{"at": 1, "value": n}], urgent=n in (1, 3)) for n in range(6)]
        c.expect(len(box) == 4 and box.next()[0] == put[1], "outbox", "urgent first, the oldest of the others makes room")
        again = td.Outbox(path, most=4)
        order = []
        while again.next() is not None:
            order.append(again.next()[0])
            again.delivered(order[-1])
        c.expect(order == [put[1], put[3], put[4], put[5]], "outbox", "opened again: the same, in order")
        full = [box.put("seismic", [{"at": 1, "value": n}], urgent=True) for n in range(4)]
        try:
            box.put("seismic", [{"at": 1, "value": 9}])
            c.expect(False, "outbox", "full of urgent ones")
        except OverflowError:
            c.expect(len(box) == 4 and box.next()[0] == full[0], "outbox", "full of urgent ones")
        box.set_aside(full[0], "422 schema")
        c.expect(box.next()[0] == full[1], "outbox", "goes on behind what was set aside")
        box.put("seismic", [{"at": 1, "value": 9}])
        c.expect(len(box) == 4, "outbox", "what was set aside makes room first")
        for bad in ([], [{"at": 1}] * 501, [{"at": 1, "value": float("nan")}], [{"at": 1, "x": [0.123] * 40_000}]):
            c.expect(refuses(lambda: box.put("seismic", bad)), "outbox", f"{len(bad)} readings that no server would take")


def main(folder: str) -> int:
    c = Checker(folder)
    for check in (check_keys, check_envelopes, check_texts, check_alerts, check_answers, check_outbox):
        before = c.checks
        check(c)
        if c.checks == before:
            c.expect(False, "nothing was checked", check.__name__)
    print(f"{c.checks} checks, {c.wrong} wrong")
    return 1 if c.wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else FOLDER))
