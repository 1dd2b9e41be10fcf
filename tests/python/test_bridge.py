"""The bridge program of the Rust face: its frames, and the build ids of executables. Its pools are
tested by `crates/procession/tests/bridge.rs`.
"""

import socket
import struct
import subprocess
import sys

import pytest
from procession.remote import _frames
from procession.remote._build_id import build_id_of


def test_frames_come_back_as_they_were_sent():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        _frames.send_frame(ours, _frames.MESSAGE, 7, b'x' * 100_000)
        _frames.send_frame(ours, _frames.READY, 0)
        reader = _frames.FrameReader(theirs)
        assert reader.receive() == (_frames.MESSAGE, 7, b'x' * 100_000)
        assert reader.receive() == (_frames.READY, 0, b'')
        assert not reader.has_received()
        ours.close()
        assert reader.receive() is None


def test_frames_that_come_together_are_told_one_by_one():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        frames = [(_frames.MESSAGE, number, b'x' * number) for number in range(50)]
        for frame in frames:
            _frames.send_frame(ours, *frame)
        ours.close()
        reader = _frames.FrameReader(theirs)
        assert [reader.receive() for _ in frames] == frames
        assert reader.receive() is None


def test_frame_that_is_too_long_is_refused():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(struct.pack('<BIQ', _frames.MESSAGE, 1, 1 << 60))
        with pytest.raises(ValueError, match='a frame of'):
            _frames.FrameReader(theirs).receive()


def test_fields_are_bounded_by_the_body():
    body = struct.pack('<I', 3) + b'one' + struct.pack('<I', 0)
    assert list(_frames.fields(body)) == [b'one', b'']
    with pytest.raises(ValueError, match='cut short'):
        list(_frames.fields(struct.pack('<I', 1 << 30) + b'one'))


def test_build_id_is_that_of_the_linker(tmp_path):
    notes = struct.pack('<III', 4, 4, 1) + b'GNU\0' + b'\0\0\0\0'
    notes += struct.pack('<III', 4, 5, 3) + b'GNU\0' + b'build\0\0\0'
    head = b'\x7fELF\x02\x01'.ljust(32, b'\0') + struct.pack('<Q', 64) + bytes(14) + struct.pack('<HH', 56, 1) + bytes(6)
    entry = struct.pack('<IIQQQQQQ', 4, 4, 120, 0, 0, len(notes), len(notes), 4)
    path = tmp_path / 'program'
    path.write_bytes(head + entry + notes)
    assert build_id_of(str(path)) == b'build'
    for cut in range(len(head + entry + notes)):
        path.write_bytes((head + entry + notes)[:cut])
        assert build_id_of(str(path)) in (b'', b'build')


def test_file_that_is_no_executable_has_no_build_id(tmp_path):
    path = tmp_path / 'text'
    path.write_text('#!/bin/sh\n' * 10)
    assert build_id_of(str(path)) == b''


def test_program_that_is_gone_ends_its_bridge_program():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        bridge = subprocess.Popen([sys.executable, '-m', 'procession.remote.bridge', 'ray', ''], stdin=theirs.fileno())
        theirs.close()
        ours.close()
        assert bridge.wait(60) == 0
