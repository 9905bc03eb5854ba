# SPDX-License-Identifier: Apache-2.0
"""Thrift over a unix socket, framed, binary protocol in C++ (accelerated); arrays as binary."""
import os
import subprocess
import sys
import tempfile

import numpy
from thrift.protocol.TBinaryProtocol import TBinaryProtocolAcceleratedFactory
from thrift.server.TServer import TThreadedServer
from thrift.transport.TSocket import TServerSocket, TSocket
from thrift.transport.TTransport import TFramedTransport, TFramedTransportFactory

from service import Service

TITLE = 'Thrift (C++ in Python)'


def generated():
    with tempfile.TemporaryDirectory() as to:
        subprocess.run(['thrift', '--gen', 'py', '-out', to, os.path.join(os.path.dirname(__file__), 'bench_service.thrift')], check=True)
        sys.path.insert(0, to)
        from bench_service import Bench
        return Bench


class Handler:
    def __init__(self):
        self.service = Service()
        self.noop, self.make, self.release = self.service.noop, self.service.make, self.service.release

    def total(self, array):
        return self.service.total(numpy.frombuffer(array))

    def get(self):
        return self.service.get().tobytes()


def serve(address, ready):
    server = TThreadedServer(generated().Processor(Handler()), TServerSocket(unix_socket=address),
                             TFramedTransportFactory(), TBinaryProtocolAcceleratedFactory(), daemon=True)
    ready()
    server.serve()


class Client:
    def __init__(self, address):
        transport = TFramedTransport(TSocket(unix_socket=address))
        client = generated().Client(TBinaryProtocolAcceleratedFactory().getProtocol(transport))
        transport.open()
        self.client = client
        self.noop, self.make, self.release = client.noop, client.make, client.release

    def total(self, array):
        return self.client.total(array.tobytes())

    def get(self):
        return numpy.frombuffer(self.client.get())
