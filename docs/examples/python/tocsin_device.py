"""A Tocsin device in Python: signs readings, keeps them on disk until the server has them, and sends them.

    device, outbox = Device("sensor-1", load_key("sensor-1.pem")), Outbox("outbox.db")
    outbox.put("seismic", [{"at": now_ms(), "value": 1.5}])
    Sender(device, outbox, "https://tocsin.example.org", api_key).drain()

Python 3.9 or newer and the package `cryptography`. Times are Unix milliseconds. What is put into the outbox survives the
end of this process (SQLite, synced before `put` returns) and reaches the server once: the id is made once, and the server
knows ids for seven days. One process for each outbox. Checked against packages/protocol/fixtures by check_vectors.py.
"""
from __future__ import annotations

import base64
import http.client
import json
import os
import random
import re
import sqlite3
import ssl
import threading
import time
import uuid
from email.utils import parsedate_to_datetime
from typing import Optional
from urllib.parse import urlsplit

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
NONCE = re.compile(r"[A-Za-z0-9_-]{22,64}")
HTTP_DATE = re.compile(r"[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT")
MOST_READINGS = 500
MOST_BYTES = 262_144
LONGEST_WAIT_MS = 3_600_000
ANSWER_BYTES = 65_536
HOLD_MS = (300_000, 3_600_000)
BACKOFF_MS = (1_000, 60_000)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def make_key(path: str) -> ec.EllipticCurvePrivateKey:
    """Makes a key and writes it for its owner's eyes only; refuses to overwrite."""
    key = ec.generate_private_key(ec.SECP256R1())
    form = serialization.PrivateFormat.PKCS8
    pem = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)
    return key


def load_key(path: str) -> ec.EllipticCurvePrivateKey:
    with open(path, "rb") as file:
        key = serialization.load_pem_private_key(file.read(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
        raise ValueError("the key of a device is a private P-256 key")
    return key


class Device:
    """A device with its key. It signs two forms of text and no other."""

    def __init__(self, device_id: str, key: ec.EllipticCurvePrivateKey):
        if not NAME.fullmatch(device_id):
            raise ValueError("a device id is 1 to 64 of A-Z a-z 0-9 . _ -")
        self.id, self._key = device_id, key

    def public_key_pem(self) -> str:
        """As `publicKey` of POST /v1/devices."""
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return self._key.public_key().public_bytes(serialization.Encoding.PEM, form).decode("ascii")

    def seal(self, envelope_id: str, at: int, profile: str, readings: list) -> str:
        """The compact JWS for POST /v1/readings; `at` is the moment of signing."""
        if not NAME.fullmatch(envelope_id):
            raise ValueError("an envelope id is 1 to 64 of A-Z a-z 0-9 . _ -")
        if not 1 <= len(readings) <= MOST_READINGS:
            raise ValueError(f"an envelope has 1 to {MOST_READINGS} readings")
        content = {"id": envelope_id, "at": at, "profile": profile, "readings": readings}
        sealed = self.seal_text(json.dumps(content, separators=(",", ":"), allow_nan=False))
        if len(sealed) > MOST_BYTES:
            raise ValueError(f"an envelope has at most {MOST_BYTES} bytes")
        return sealed

    def seal_text(self, payload: str) -> str:
        header = json.dumps({"alg": "ES256", "kid": self.id}, separators=(",", ":"))
        signed = f"{base64url(header.encode())}.{base64url(payload.encode())}"
        return f"{signed}.{base64url(self._sign(signed))}"

    def sign_challenge(self, nonce: str) -> str:
        """`signature` of POST /v1/auth/device. Refuses what is no nonce, so that nobody chooses the text that is signed."""
        if not NONCE.fullmatch(nonce):
            raise ValueError("a nonce is 22 to 64 of A-Z a-z 0-9 _ -")
        return base64url(self._sign(f"tocsin-challenge:{self.id}:{nonce}"))

    def _sign(self, text: str) -> bytes:
        r, s = utils.decode_dss_signature(self._key.sign(text.encode("ascii"), ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def decide(status: int, code: Optional[str]) -> str:
    """What to do with an envelope after an answer; status 0: none came. The table is in docs/devices-in-c-and-python.md."""
    if status == 202 or (status, code) == (409, "replay"):
        return "delivered"
    # Without a code it is not our server's word, but that of a proxy or a portal, or silence: nothing is dropped.
    if code is None or status < 400 or status in (408, 429) or status >= 500:
        return "wait"
    if status in (400, 413, 415, 422) or (status, code) == (409, "id-conflict"):
        return "set-aside"
    if status == 403 and code in ("envelope-stale", "envelope-future"):
        return "resign"
    return "wait" if status == 409 else "hold"


def http_date(text: Optional[str]) -> Optional[int]:
    """A date of HTTP in its fixed form (RFC 9110 section 5.6.7), else None."""
    if text is None or not HTTP_DATE.fullmatch(text):
        return None
    try:
        return int(parsedate_to_datetime(text).timestamp()) * 1000
    except (TypeError, ValueError):
        return None


def retry_after(header: Optional[str], date: Optional[str]) -> Optional[int]:
    """Milliseconds to wait, an hour at most; None when the header says nothing."""
    if header is not None and re.fullmatch(r"[0-9]+", header):
        return min(int(header[:12]) * 1000, LONGEST_WAIT_MS)
    then, now = http_date(header), http_date(date)
    return None if then is None or now is None else min(max(then - now, 0), LONGEST_WAIT_MS)


def clock_bounds(sent: int, received: int, date: Optional[str]) -> Optional[tuple[int, int]]:
    """Bounds of the server's clock minus ours, from one exchange."""
    second = http_date(date)
    return None if second is None or received < sent else (second - received, second + 999 - sent)


def back_off(attempt: int, bounds: tuple[int, int] = BACKOFF_MS) -> int:
    """Milliseconds: doubles from attempt to attempt, by chance half to all of it."""
    most = min(bounds[0] << min(attempt, 20), bounds[1])
    return random.randint(most // 2, most)


class Outbox:
    """Envelopes on disk, urgent ones first. When `most` wait, the oldest that is not urgent makes room; urgent ones are
    kept, and when there are only these, new ones are refused."""

    def __init__(self, path: str, most: int = 10_000):
        self._most, self._lock, self.filled = most, threading.Lock(), threading.Event()
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS outbox (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL,"
            " urgent INTEGER NOT NULL, profile TEXT NOT NULL, readings TEXT NOT NULL, refused TEXT)"
        )

    def put(self, profile: str, readings: list, urgent: bool = False) -> str:
        """Keeps readings; they are on disk when this returns. Answers the envelope's id. ValueError: what no server would
        take; OverflowError: full."""
        envelope_id = uuid.uuid4().hex
        text = json.dumps(readings, separators=(",", ":"), allow_nan=False)
        if not 1 <= len(readings) <= MOST_READINGS or (len(text) + 200) * 4 // 3 + 300 > MOST_BYTES:
            raise ValueError(f"an envelope has 1 to {MOST_READINGS} readings and at most {MOST_BYTES} bytes")
        with self._lock, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            if self._count() >= self._most:
                freed = self._db.execute(
                    "DELETE FROM outbox WHERE number = (SELECT number FROM outbox WHERE NOT urgent"
                    " ORDER BY refused IS NULL, number LIMIT 1)"
                )
                if freed.rowcount == 0:
                    raise OverflowError("the outbox is full of urgent envelopes")
            self._db.execute(
                "INSERT INTO outbox (id, urgent, profile, readings) VALUES (?, ?, ?, ?)",
                (envelope_id, urgent, profile, text),
            )
        self.filled.set()
        return envelope_id

    def next(self) -> Optional[tuple[str, str, list]]:
        """Id, profile and readings of the next to send."""
        with self._lock:
            row = self._db.execute(
                "SELECT id, profile, readings FROM outbox WHERE refused IS NULL ORDER BY urgent DESC, number LIMIT 1"
            ).fetchone()
        return row and (row[0], row[1], json.loads(row[2]))

    def delivered(self, envelope_id: str) -> None:
        with self._lock:
            self._db.execute("DELETE FROM outbox WHERE id = ?", (envelope_id,))

    def set_aside(self, envelope_id: str, why: str) -> None:
        """Keeps it for people to look at (the column `refused`), not to be sent; first to make room."""
        with self._lock:
            self._db.execute("UPDATE outbox SET refused = ?, urgent = 0 WHERE id = ?", (why[:1000], envelope_id))

    def __len__(self) -> int:
        with self._lock:
            return self._db.execute("SELECT count(*) FROM outbox WHERE refused IS NULL").fetchone()[0]

    def _count(self) -> int:
        return self._db.execute("SELECT count(*) FROM outbox").fetchone()[0]


class Sender:
    """Sends what the outbox holds, one after the other, until it is empty or `stop` is set."""

    def __init__(self, device: Device, outbox: Outbox, server: str, api_key: str, clock=now_ms, context=None):
        parts = urlsplit(server)
        if parts.scheme not in ("http", "https") or parts.hostname is None:
            raise ValueError("the server is http://… or https://…")
        self._device, self._outbox, self._api_key, self._clock = device, outbox, api_key, clock
        self._secure, self._host, self._port = parts.scheme == "https", parts.hostname, parts.port
        self._context = context or (ssl.create_default_context() if self._secure else None)
        self.offset = 0
        self.stop = threading.Event()

    def learn_time(self) -> bool:
        """Asks for the server's time, so that readings get the right one before they are stored; no key is needed."""
        return self._exchange("GET", "/health/live", None, {})[0] != 0

    def now(self) -> int:
        """The server's time, as far as it is known."""
        return self._clock() + self.offset

    def run(self, report=lambda action, envelope_id: None) -> None:
        """Sends whatever comes, until `stop` is set and `outbox.filled` too. `report` hears of every answer."""
        while not self.stop.is_set():
            self._outbox.filled.clear()
            self.drain(report)
            self._outbox.filled.wait()

    def drain(self, report=lambda action, envelope_id: None) -> None:
        """Sends until the outbox is empty or `stop` is set."""
        attempt = 0
        while not self.stop.is_set():
            envelope = self._outbox.next()
            if envelope is None:
                return
            action, wait_ms = self.send(*envelope)
            report(action, envelope[0])
            attempt = attempt + 1 if action in ("wait", "hold", "resign") else 0
            if action == "hold":
                wait_ms = back_off(attempt - 1, HOLD_MS)
            elif action == "wait" and wait_ms is None or action == "resign" and attempt > 1:
                wait_ms = back_off(attempt - 1)
            self.stop.wait((wait_ms or 0) / 1000)

    def send(self, envelope_id: str, profile: str, readings: list) -> tuple[str, Optional[int]]:
        """Signs with the time of now and posts once. Answers what comes next, and the wait that was asked for."""
        body = self._device.seal(envelope_id, self.now(), profile, readings)
        headers = {"Content-Type": "application/jose", "X-API-Key": self._api_key}
        status, code, wait_ms = self._exchange("POST", "/v1/readings", body, headers)
        action = decide(status, code)
        if action == "delivered":
            self._outbox.delivered(envelope_id)
        elif action == "set-aside":
            self._outbox.set_aside(envelope_id, f"{status} {code}")
        return action, wait_ms

    def _exchange(self, method: str, path: str, body: Optional[str], headers: dict) -> tuple:
        """Status (0: no answer), code and wait. Every answer sets the clock."""
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        extra = {"context": self._context} if self._secure else {}
        connection = kind(self._host, self._port, timeout=10, **extra)
        sent = self._clock()
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            text = answer.read(ANSWER_BYTES)
        except (OSError, http.client.HTTPException):
            return 0, None, None
        finally:
            connection.close()
        date = answer.headers.get("Date")
        bounds = clock_bounds(sent, self._clock(), date)
        if bounds is not None and not bounds[0] <= self.offset <= bounds[1]:
            self.offset = sum(bounds) // 2
        return answer.status, problem_code(text), retry_after(answer.headers.get("Retry-After"), date)


def problem_code(text: bytes) -> Optional[str]:
    """The code of a problem document (RFC 9457); None when it is none."""
    try:
        code = json.loads(text).get("code")
    except (ValueError, AttributeError):
        return None
    return code if isinstance(code, str) else None
