# SPDX-License-Identifier: Apache-2.0
"""ZeroMQ over ipc: ROUTER with one worker loop, REQ callers; pickle 5 with arrays out of band, not copied by pyzmq."""
import pickle

import zmq

from service import Service

TITLE = 'ZeroMQ ipc, pickle 5 out of band'


def pack(value):
    buffers = []
    head = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    return [head] + [b.raw() for b in buffers]


def unpack(frames):
    return pickle.loads(frames[0].buffer, buffers=[f.buffer for f in frames[1:]])


def serve(address, ready):
    service = Service()
    socket = zmq.Context().socket(zmq.ROUTER)
    socket.bind('ipc://' + address)
    ready()
    while True:
        identity, empty, *frames = socket.recv_multipart(copy=False)
        name, args = unpack(frames)
        reply = getattr(service, name)(*args)
        socket.send_multipart([identity, empty] + pack(reply), copy=False)


class Client:
    def __init__(self, address):
        self.socket = zmq.Context().socket(zmq.REQ)
        self.socket.connect('ipc://' + address)

    def call(self, name, *args):
        self.socket.send_multipart(pack((name, args)), copy=False)
        return unpack(self.socket.recv_multipart(copy=False))

    def noop(self):
        return self.call('noop')

    def make(self):
        return self.call('make')

    def release(self, number):
        return self.call('release', number)

    def total(self, array):
        return self.call('total', array)

    def get(self):
        return self.call('get')
