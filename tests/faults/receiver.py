#!/usr/bin/env python3
"""A webhook receiver that writes down what it took before it says so: a kill in between makes a copy, never a gap.

  receiver.py --port PORT --ledger FILE
"""

import argparse
import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def handler(ledger):
    """The handler that appends to this file."""

    class Handler(BaseHTTPRequestHandler):
        """One line for each delivery."""

        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            event = json.loads(body)["data"]
            line = {"webhook": self.headers["webhook-id"], "id": event["id"], "subject": event["subject"], "modelseq": int(event["modelseq"])}
            ledger.write(json.dumps(line).encode() + b"\n")
            os.fsync(ledger.fileno())
            self.send_response(204)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            """Silent: the ledger says it."""

    return Handler


def main():
    """Listens until it is killed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--ledger", type=Path, required=True)
    options = parser.parse_args()
    ThreadingHTTPServer.request_queue_size = 128
    with options.ledger.open("ab", buffering=0) as ledger:
        ThreadingHTTPServer(("127.0.0.1", options.port), handler(ledger)).serve_forever()


if __name__ == "__main__":
    sys.exit(main())
