# SPDX-License-Identifier: Apache-2.0
"""gRPC over a unix socket; messages are pickled bytes, so that no time goes into protocol buffers."""
import pickle
from concurrent.futures import ThreadPoolExecutor

import grpc

from service import Service

TITLE = 'gRPC'
OPTIONS = [('grpc.max_send_message_length', -1), ('grpc.max_receive_message_length', -1)]


def dumps(value):
    return pickle.dumps(value, protocol=5)


def handler(function):
    return grpc.unary_unary_rpc_method_handler(lambda args, context: (function(*args),), pickle.loads, dumps)


def serve(address, ready):
    service = Service()
    server = grpc.server(ThreadPoolExecutor(8), options=OPTIONS)
    names = ('noop', 'make', 'release', 'total', 'get')
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(
        'bench', {name: handler(getattr(service, name)) for name in names}),))
    server.add_insecure_port('unix:' + address)
    server.start()
    ready()
    server.wait_for_termination()


class Client:
    def __init__(self, address):
        self.channel = grpc.insecure_channel('unix:' + address, options=OPTIONS)
        for name in ('noop', 'make', 'release', 'total', 'get'):
            call = self.channel.unary_unary('/bench/' + name, dumps, pickle.loads)
            # In a tuple, for gRPC takes None for a failure.
            setattr(self, name, lambda *args, call=call: call(args)[0])
