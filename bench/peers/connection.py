# SPDX-License-Identifier: Apache-2.0
"""multiprocessing.connection, a server written by hand: a thread per connection, requests and replies pickled."""
import threading
from multiprocessing.connection import Client as connect
from multiprocessing.connection import Listener

from service import Service

TITLE = 'multiprocessing connection, by hand'


def converse(connection, service):
    try:
        while True:
            name, args = connection.recv()
            connection.send(getattr(service, name)(*args))
    except EOFError:
        pass


def serve(address, ready):
    service = Service()
    listener = Listener(address, 'AF_UNIX', backlog=64)
    ready()
    while True:
        threading.Thread(target=converse, args=(listener.accept(), service), daemon=True).start()


class Client:
    def __init__(self, address):
        self.connection = connect(address, 'AF_UNIX')

    def call(self, name, *args):
        self.connection.send((name, args))
        return self.connection.recv()

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
