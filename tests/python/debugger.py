"""A client of debugpy, as an editor is one: attaches to a program and to each of its children, and
notes where they stop.
"""

import json
import socket
import threading
import time

from waits import LONG


class Debugger:
    """Attaches to the program that debugpy serves at `port`, and sets a breakpoint."""

    def __init__(self, port, path, line):
        #: The functions in which processes have stopped at the breakpoint. Each then went on.
        self.stops = []
        self._breakpoint = path, line
        self._follow(port, {'subProcess': True})

    def _follow(self, port, config):
        threading.Thread(target=self._serve, args=(_Connection(port), config), daemon=True).start()

    def _serve(self, connection, config):
        path, line = self._breakpoint
        connection.send('initialize', adapterID='tests', pathFormat='path')
        while (message := connection.receive()) is not None:
            body = message.get('body')
            match message.get('event') or message['command']:
                case 'initialize':
                    connection.send('attach', **config)
                case 'initialized':
                    connection.send('setBreakpoints', source={'path': path}, breakpoints=[{'line': line}])
                    connection.send('configurationDone')
                case 'debugpyAttach':
                    self._follow(body['connect']['port'], body)
                case 'stopped':
                    thread = body['threadId']
                    connection.send('stackTrace', threadId=thread)
                case 'stackTrace':
                    self.stops.append(body['stackFrames'][0]['name'])
                    connection.send('continue', threadId=thread)


class _Connection:
    def __init__(self, port):
        end = time.monotonic() + LONG
        while True:
            try:
                self._socket = socket.create_connection(('127.0.0.1', port))
                break
            except ConnectionRefusedError:
                # debugpy does not listen yet.
                assert time.monotonic() < end
                time.sleep(0.05)
        self._file = self._socket.makefile('rb')
        self._number = 0

    def send(self, command, **arguments):
        self._number += 1
        request = {'seq': self._number, 'type': 'request', 'command': command, 'arguments': arguments}
        content = json.dumps(request).encode()
        self._socket.sendall(b'Content-Length: %d\r\n\r\n' % len(content) + content)

    def receive(self):
        """Returns the next message; `None` after the last."""
        length = None
        try:
            while (line := self._file.readline().strip()) or length is None:
                if line.startswith(b'Content-Length:'):
                    length = int(line.split()[1])
                elif not line:
                    return None
            return json.loads(self._file.read(length))
        except ConnectionResetError:
            return None
