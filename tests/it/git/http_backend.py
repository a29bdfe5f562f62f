"""Serves the repositories below a directory over HTTP with git's own `http-backend`, and does what files beside them say.

`token`: the password that must be given. `denied`: nothing may be pushed. `before-list`, `before-update`: programs that run once,
before a push is told the references, and before it is let change them: somebody else who is faster. `hang`: nothing is answered.
`trickle`: what is fetched comes in this many pieces, a tenth of a second apart.
Arguments: the directory, the port or 0, and for https a file with a key and a certificate.
"""

import base64
import os
import ssl
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(sys.argv[1])


def once(name: str) -> None:
    taken = ROOT / f"{name}.taken"
    try:
        (ROOT / name).rename(taken)
    except FileNotFoundError:
        return
    subprocess.run([str(taken)], check=True)


class Backend(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        slow = self.path.endswith("/git-upload-pack") and (ROOT / "trickle").exists()
        pieces = int((ROOT / "trickle").read_text()) if slow else 1
        size = len(body) // pieces + 1
        for start in range(0, len(body), size):
            self.wfile.write(body[start : start + size])
            self.wfile.flush()
            if pieces > 1:
                time.sleep(0.1)

    def chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def serve(self) -> None:
        path, _, query = self.path.partition("?")
        chunked = self.headers.get("Transfer-Encoding", "") == "chunked"
        body = self.chunks() if chunked else self.rfile.read(int(self.headers.get("Content-Length") or 0))
        while (ROOT / "hang").exists():
            time.sleep(0.05)
        if (ROOT / "token").exists():
            wanted = base64.b64encode(b"bot:" + (ROOT / "token").read_bytes().strip()).decode()
            if self.headers.get("Authorization") != f"Basic {wanted}":
                return self.answer(401, [("WWW-Authenticate", 'Basic realm="git"')], b"who are you?")
        pushes = "git-receive-pack" in self.path
        if pushes and (ROOT / "denied").exists():
            return self.answer(403, [], b"no")
        if pushes:
            once("before-list" if path.endswith("/info/refs") else "before-update")
        variables = os.environ | {
            "GIT_PROJECT_ROOT": str(ROOT),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REMOTE_USER": "bot",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
        }
        done = subprocess.run(["git", "http-backend"], input=body, stdout=subprocess.PIPE, env=variables, check=False)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = [tuple(line.split(": ", 1)) for line in head.decode().split("\r\n") if ": " in line]
        status = next((int(value.split()[0]) for name, value in headers if name == "Status"), 200)
        self.answer(status, [(name, value) for name, value in headers if name != "Status"], content)

    do_GET = do_POST = serve


server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Backend)
if len(sys.argv) > 3:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[3])
    server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_port, flush=True)
server.serve_forever()
