# SPDX-License-Identifier: Apache-2.0
"""Pyro4 over a unix socket with pickle. A ref is an object registered with the daemon, of which the caller has the id."""
import Pyro4

from service import Made, Service

TITLE = 'Pyro4, pickle'
Pyro4.config.SERIALIZER = 'pickle'
Pyro4.config.SERIALIZERS_ACCEPTED = {'pickle'}
Pyro4.config.PICKLE_PROTOCOL_VERSION = 5


@Pyro4.expose
class Exposed(Pyro4.expose(Service)):
    def make(self):
        made = Pyro4.expose(Made)()
        self._pyroDaemon.register(made)
        return made._pyroId

    def release(self, number):
        self._pyroDaemon.unregister(number)


def serve(address, ready):
    daemon = Pyro4.Daemon(unixsocket=address)
    daemon.register(Exposed(), 'service')
    ready()
    daemon.requestLoop()


class Client:
    def __init__(self, address):
        self.service = Pyro4.Proxy('PYRO:service@./u:' + address)
        for name in ('noop', 'make', 'release', 'total', 'get'):
            setattr(self, name, getattr(self.service, name))
