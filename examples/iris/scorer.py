"""The local target of the example: an HTTP scorer that serves one artifact and no other bytes.

`scorer.py --artifact FILE --digest sha256:HEX` prints one JSON line with its endpoint once it listens.
GET /health says which digest it serves; POST /score {"rows": [[...], ...]} answers {"species": [...]}.
"""

import argparse
import hashlib
import io
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import joblib

BODY_BYTES_MAX = 1_000_000
EXIT_OTHER_BYTES = 3


def load(path, wanted):
    """The model, if the file's bytes have the digest that was released; ends the program if not."""
    content = Path(path).read_bytes()
    found = "sha256:" + hashlib.sha256(content).hexdigest()
    if found != wanted:
        print(f"refusing other bytes: wanted {wanted}, found {found}", file=sys.stderr)
        sys.exit(EXIT_OTHER_BYTES)
    # From the bytes that were checked, not from the file again: it could have changed in between.
    # A pickle runs code, so nothing is loaded before the check.
    return joblib.load(io.BytesIO(content))


def handler(model, digest):
    """The request handler for one model."""

    class Handler(BaseHTTPRequestHandler):
        """Two routes; everything else is 404."""

        def answer(self, status, body):
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_GET(self):
            if self.path == "/health":
                self.answer(200, {"digest": digest})
            else:
                self.answer(404, {"error": "GET /health or POST /score"})

        def do_POST(self):
            length = int(self.headers.get("Content-Length") or 0)
            if self.path != "/score":
                return self.answer(404, {"error": "GET /health or POST /score"})
            if not 0 < length <= BODY_BYTES_MAX:
                return self.answer(413, {"error": f"send 1 to {BODY_BYTES_MAX} bytes with a Content-Length"})
            try:
                rows = json.loads(self.rfile.read(length))["rows"]
                species = [int(s) for s in model.predict(rows)]
            except (ValueError, KeyError, TypeError) as error:
                return self.answer(400, {"error": str(error)})
            return self.answer(200, {"species": species, "digest": digest})

        def log_message(self, *_):
            """Silent: the example prints one line per step."""

    return Handler


def main():
    """Checks, loads, listens, says where."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--artifact", required=True)
    parser.add_argument("--digest", required=True)
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    options = parser.parse_args()
    model = load(options.artifact, options.digest)
    server = ThreadingHTTPServer(("127.0.0.1", options.port), handler(model, options.digest))
    print(json.dumps({"endpoint": f"http://127.0.0.1:{server.server_port}", "digest": options.digest}), flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
