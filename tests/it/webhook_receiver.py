"""An endpoint for webhooks, which verifies them with the spec's own library, or misbehaves as its path says.

Prints its URL, then a line of JSON for every request. `v1` is verified by `standardwebhooks`; that knows no `v1a`
(1.1.0), so `v1a` is verified with `cryptography` after the spec's text.
"""

import base64
import json
import socket
import ssl
import struct
import sys
import threading
import time
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

keys: list[str] = []
seen: dict[str, int] = {}
lock = threading.Lock()


def verified_by(headers, body: bytes) -> list[str]:
    """The keys under which the message verifies."""
    found = []
    for key in list(keys):
        try:
            if key.startswith("whsec_"):
                Webhook(key).verify(body, dict(headers.items()))
            else:
                verify_asymmetric(key, headers, body)
            found.append(key)
        except (WebhookVerificationError, InvalidSignature):
            pass
    return found


def verify_asymmetric(key: str, headers, body: bytes):
    if abs(time.time() - int(headers["webhook-timestamp"])) > 300:
        raise InvalidSignature
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(key.removeprefix("whpk_"), validate=True))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    for entry in headers["webhook-signature"].split(" "):
        version, _, signature = entry.partition(",")
        try:
            if version == "v1a":
                return public.verify(base64.b64decode(signature, validate=True), signed)
        except InvalidSignature:
            pass
    raise InvalidSignature


class Endpoint(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.path == "/keys":
            keys[:] = json.loads(body)
            return self.answer(204)
        url = urlsplit(self.path)
        word, _, rest = url.path.strip("/").partition("/")
        id = self.headers.get("webhook-id", "")
        with lock:
            seen[id] = seen.get(id, 0) + 1
            nth = seen[id]
            print(json.dumps({"at": time.time(), "path": self.path, "id": id, "nth": nth,
                              "type": self.headers.get("content-type"), "signature": self.headers.get("webhook-signature"), "verified": verified_by(self.headers, body),
                              "body": json.loads(body)}), flush=True)
        if word == "flaky" and nth <= int(rest):
            return self.answer(500, {}, b"not yet")
        if word in ("hook", "flaky"):
            return self.answer(204 if verified_by(self.headers, body) or not keys else 401)
        getattr(self, word)(rest)

    def answer(self, status, headers={}, body=b""):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def status(self, rest):
        self.answer(int(rest), {}, f"this is {rest}".encode())

    def busy(self, rest):
        self.answer(429, {"retry-after": rest})

    def html(self, _):
        self.answer(404, {"content-type": "text/html"}, b"<html><body><h1>It works!</h1></body></html>")

    def moved(self, rest):
        self.answer(302, {"location": f"http://{rest}"})

    def endless(self, _):
        self.send_response(500)
        self.end_headers()
        try:
            while True:
                self.wfile.write(b"x" * 65536)
        except OSError:
            self.close_connection = True

    def trickle(self, _):
        """A head that comes a byte every half second, and never ends."""
        try:
            for byte in b"HTTP/1.1 200 OK\r\nx-slow: " + b"x" * 1000:
                self.wfile.write(bytes([byte]))
                time.sleep(0.5)
        except OSError:
            self.close_connection = True

    def hang(self, _):
        # until the other side hangs up
        self.connection.recv(1)
        self.close_connection = True

    def reset(self, _):
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()


def certificate(directory: str, kind: str) -> ssl.SSLContext:
    """A certificate for `localhost`, and in `ca.pem` the authority that signed it; wrong in the way that `kind` says."""
    now = datetime.now(timezone.utc)

    def make(name, key, issuer, issuer_key, begins, ends, authority):
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(ends)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if not authority:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        return builder.sign(issuer_key, hashes.SHA256())

    day = timedelta(days=1)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca = make("annals tests", ca_key, "annals tests", ca_key, now - day, now + day, True)
    name = "elsewhere.example" if kind == "wrong-host" else "localhost"
    ends = now - day if kind == "expired" else now + day
    signer = ("itself", key) if kind == "self-signed" else ("annals tests", ca_key)
    leaf = make(name, key, signer[0], signer[1], now - 2 * day, ends, False)
    pem = serialization.Encoding.PEM
    with open(f"{directory}/ca.pem", "wb") as file:
        file.write(ca.public_bytes(pem))
    with open(f"{directory}/leaf.pem", "wb") as file:
        file.write(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()) + leaf.public_bytes(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{directory}/leaf.pem")
    return context


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    tls = None

    def finish_request(self, request, address):
        # the handshake in the connection's own thread, so that one that breaks it off keeps nobody waiting
        if self.tls:
            try:
                request = self.tls.wrap_socket(request, server_side=True)
            except (OSError, ssl.SSLError):
                return
        super().finish_request(request, address)

    def handle_error(self, *_):
        pass


server = Server(("127.0.0.1", int(sys.argv[1])), Endpoint)
if len(sys.argv) > 2:
    server.tls = certificate(sys.argv[2], sys.argv[3])
    print(f"https://localhost:{server.server_port}", flush=True)
else:
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
