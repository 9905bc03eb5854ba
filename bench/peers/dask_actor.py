# SPDX-License-Identifier: Apache-2.0
"""A Dask actor, with workers reached directly. A ref is an actor of its own. Eight callers are threads of one client."""
import threading

import dask
from distributed import Client as DaskClient
from distributed import LocalCluster

from service import Made, Service

TITLE = 'Dask actor, direct'
THREADS = True  # callers cannot be processes: an actor belongs to one client

dask.config.set({'distributed.admin.system-monitor.interval': '10s'})


def serve(address, ready):
    cluster = LocalCluster(n_workers=1, threads_per_worker=8, processes=True, dashboard_address=None, protocol='tcp')
    with open(address, 'w') as file:
        file.write(cluster.scheduler_address)
    ready()
    threading.Event().wait()


class Client:
    def __init__(self, address):
        self.client = DaskClient(open(address).read(), direct_to_workers=True)
        self.actor = self.client.submit(Service, actor=True).result()

    def noop(self):
        return self.actor.noop().result()

    def make(self):
        return self.client.submit(Made, actor=True, pure=False).result()

    def release(self, actor):
        pass  # it goes with its last Python reference, which the caller of this drops

    def total(self, array):
        return self.actor.total(array).result()

    def get(self):
        return self.actor.get().result()
