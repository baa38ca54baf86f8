"""A W&B server that behaves badly, on this machine alone."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = "0" * 40  # of the form of an API key


@contextmanager
def bad_server(behaviour: str) -> Iterator[str]:
    """The address of a server that answers every request with an HTTP status, "hangs", "drops" the connection, or is
    "absent"; "stalls" takes a new run and then hangs."""
    end = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if behaviour == "stalls" and b"mutation UpsertBucket" in body:
                self._answer(200, _new_run(json.loads(body)["variables"]["name"]))
            elif behaviour.isdigit():
                self._answer(int(behaviour), {"error": "no"})
            else:
                self.close_connection = True
                if behaviour != "drops":
                    end.wait()

        do_GET = do_PUT = do_POST

        def _answer(self, status: int, content: dict) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    address = f"http://127.0.0.1:{server.server_port}"
    if behaviour == "absent":
        server.server_close()
        yield address
        return
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield address
    finally:
        end.set()
        server.shutdown()
        server.server_close()


def _new_run(name: str) -> dict:
    project = {"name": "hqcnn_lab", "entity": {"name": "nobody"}}
    bucket = {"id": "1", "name": name, "displayName": name, "description": "", "config": "{}", "sweepName": None}
    bucket |= {"historyLineCount": 0, "project": project}
    return {"data": {"upsertBucket": {"bucket": bucket, "inserted": True}}}
