# SPDX-License-Identifier: Apache-2.0
"""multiprocessing managers: proxies of objects in a server process. A ref is a proxy."""
from multiprocessing.managers import BaseManager

from service import Made, Service

TITLE = 'multiprocessing managers'


class Manager(BaseManager):
    pass


SERVICE = Service()
Manager.register('service', callable=lambda: SERVICE)
Manager.register('Made', Made)


def serve(address, ready):
    server = Manager(address=address, authkey=b'bench').get_server()
    ready()
    server.serve_forever()


class Client:
    def __init__(self, address):
        self.manager = Manager(address=address, authkey=b'bench')
        self.manager.connect()
        self.service = self.manager.service()
        self.noop = self.service.noop
        self.total = self.service.total
        self.get = self.service.get

    def make(self):
        return self.manager.Made()

    def release(self, proxy):
        proxy._close()  # what its finalizer does
