# SPDX-License-Identifier: Apache-2.0
"""Calls through lists of a Redis server on a unix socket: LPUSH, BRPOP, and a list for each caller's replies."""
import os
import pickle
import subprocess
import time
import uuid

import redis

from service import Service

TITLE = 'Redis, calls through lists'


def open_client(address):
    client = redis.Redis(unix_socket_path=address)
    for _ in range(100):
        try:
            client.ping()
            return client
        except redis.ConnectionError:
            time.sleep(0.05)
    raise RuntimeError('redis-server does not answer')


def serve(address, ready):
    server = subprocess.Popen(['redis-server', '--port', '0', '--unixsocket', address, '--save', '', '--appendonly', 'no',
                               '--dir', os.path.dirname(address)], stdout=subprocess.DEVNULL)
    try:
        client = open_client(address)
        service = Service()
        ready()
        while server.poll() is None:
            _, request = client.brpop('requests')
            reply_to, name, args = pickle.loads(request)
            client.lpush(reply_to, pickle.dumps(getattr(service, name)(*args), protocol=5))
    finally:
        server.kill()
        server.wait()


class Client:
    def __init__(self, address):
        self.client = open_client(address)
        self.reply_to = uuid.uuid4().hex

    def call(self, name, *args):
        self.client.lpush('requests', pickle.dumps((self.reply_to, name, args), protocol=5))
        return pickle.loads(self.client.brpop(self.reply_to)[1])

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
