"""The server that the other tests ask ends cleanly, whatever a script did with its connections."""

import socket
import time

from tests.loopback import FIN, Service, head


def test_a_connection_that_sent_its_last_bytes_after_it_was_closed_is_not_closed_again():
    service = Service()
    service._doors[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    service.on("/", [head(chunked=False), b"x" * (1 << 20), FIN])
    with socket.create_connection(("127.0.0.1", service.port)) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while not (
            closing := [one for one in service.loop._transports.values() if one.is_closing()]
        ):
            time.sleep(0.001)
        assert closing[0].get_write_buffer_size(), "closed, with bytes that are yet to be sent"
        while client.recv(1 << 16):
            pass
    service.close()
