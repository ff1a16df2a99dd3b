"""The block itself must hold, or every other test proves less than it says."""

import socket
import subprocess
import sys
import threading

import pytest


def test_this_process_cannot_reach_out():
    with pytest.raises(OSError, match="without the network"):
        socket.create_connection(("192.0.2.1", 80), timeout=5)
    with pytest.raises(OSError, match="without the network"):
        socket.getaddrinfo("example.org", 443)


def test_processes_started_by_tests_cannot_reach_out():
    code = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=5)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "without the network" in done.stderr


def test_a_local_server_can_be_reached():
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=lambda: server.accept()[0].close(), daemon=True).start()
        socket.create_connection(server.getsockname(), timeout=5).close()
