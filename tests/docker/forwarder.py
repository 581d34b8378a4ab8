"""Another address of the engine: a TCP port, with TLS or without, whose connections can be cut."""

from __future__ import annotations

import select
import socket
import ssl
import threading


class Forwarder:
    """Passes connections from a free port on to the engine's socket.

    :param target: the socket's path.
    :param context: with which the port speaks TLS.
    """

    def __init__(self, target: str, context: ssl.SSLContext | None = None) -> None:
        self._target = target
        self._context = context
        self._connections: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.refuses = False
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """End all connections."""
        connections, self._connections = self._connections, []
        for connection in connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def close(self) -> None:
        """Take no more connections, and end those that there are."""
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            if self.refuses:
                connection.close()
                continue
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            front = self._context.wrap_socket(connection, server_side=True) if self._context else connection
        except OSError:
            connection.close()
            return
        with front, socket.socket(socket.AF_UNIX) as back:
            back.connect(self._target)
            self._connections.append(front)
            while _pass_on(front, back):
                pass


def _pass_on(front: socket.socket, back: socket.socket) -> bool:
    """Pass on what has come; return whether more may come."""
    pending = isinstance(front, ssl.SSLSocket) and front.pending()
    for end in [front] if pending else select.select([front, back], [], [])[0]:
        try:
            data = end.recv(65_536)
            (back if end is front else front).sendall(data)
        except OSError:
            return False
        if not data:
            return False
    return True
