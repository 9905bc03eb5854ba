#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Measures one peer, piece by piece, as bench.py asks: one line in ("noop 0.2"), one line of JSON out.

    peer.py MODULE              talk with bench.py
    peer.py MODULE --server A   the peer's server at address A; says "ready"
    peer.py MODULE --caller A   one of many callers: "go SECONDS" in, the number of calls out

Pieces: noop (µs a call), callers (calls/s of eight, and the least as a part of their mean), refs (made and released, per
second), in and out (64 MiB of float64, ms).
"""
import ctypes
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time

CALLERS = 8


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def start(*args):
    return subprocess.Popen([sys.executable, __file__, *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                            preexec_fn=die_with_parent)


def counted(client, seconds):
    until, n = time.perf_counter() + seconds, 0
    while time.perf_counter() < until:
        client.noop()
        n += 1
    return n


class Measured:
    def __init__(self, module, name, address):
        self.module, self.name, self.address = module, name, address
        self.client = module.Client(address)
        self.callers = None
        self.array = None

    def noop(self, seconds):
        begun = time.perf_counter()
        n = counted(self.client, seconds)
        return {'us': (time.perf_counter() - begun) / n * 1e6}

    def threads(self, seconds):
        counts = []
        run = lambda: counts.append(counted(self.client, seconds))
        threads = [threading.Thread(target=run) for _ in range(CALLERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return counts

    def processes(self, seconds):
        if self.callers is None:
            self.callers = [start(self.name, '--caller', self.address) for _ in range(CALLERS)]
            for caller in self.callers:
                caller.stdout.readline()
        for caller in self.callers:
            caller.stdin.write(f'go {seconds}\n')
            caller.stdin.flush()
        return [int(caller.stdout.readline()) for caller in self.callers]

    def callers_(self, seconds):
        counts = self.threads(seconds) if getattr(self.module, 'THREADS', False) else self.processes(seconds)
        return {'rate': sum(counts) / seconds, 'fairness': min(counts) * len(counts) / max(sum(counts), 1)}

    def refs(self, seconds):
        begun, n = time.perf_counter(), 0
        while time.perf_counter() - begun < seconds:
            self.client.release(self.client.make())
            n += 1
        return {'rate': n / (time.perf_counter() - begun)}

    def in_(self, seconds):
        if self.array is None:
            import numpy
            from service import COUNT
            self.array = numpy.arange(COUNT, dtype=float)
        begun = time.perf_counter()
        total = self.client.total(self.array)
        took = time.perf_counter() - begun
        if total != self.array.size * (self.array.size - 1) / 2:
            raise ValueError(f'a wrong sum, {total}')
        return {'ms': took * 1e3}

    def out(self, seconds):
        begun = time.perf_counter()
        array = self.client.get()
        took = time.perf_counter() - begun
        if array.nbytes != 64 << 20:
            raise ValueError(f'{array.nbytes} bytes came')
        return {'ms': took * 1e3}


def talk(module, name):
    with tempfile.TemporaryDirectory(prefix='sb-peer-', dir='/dev/shm' if os.access('/dev/shm', os.W_OK) else None) as directory:
        address = os.path.join(directory, 'address')
        server = start(name, '--server', address)
        try:
            if server.stdout.readline().strip() != 'ready':
                raise RuntimeError('the server did not start')
            measured = Measured(module, name, address)
            measured.client.noop()
            pieces = {'noop': measured.noop, 'callers': measured.callers_, 'refs': measured.refs, 'in': measured.in_,
                      'out': measured.out}
            print(json.dumps({'title': module.TITLE, 'note': module.__doc__}), flush=True)
            for line in sys.stdin:
                piece, seconds = line.split()
                try:
                    answer = pieces[piece](float(seconds))
                except Exception as error:  # said, and the next piece tried
                    answer = {'error': f'{type(error).__name__}: {error}'[:200]}
                print(json.dumps(answer), flush=True)
        finally:
            for process in [server] + (measured.callers or [] if 'measured' in locals() else []):
                process.terminate()


def serve(module, address):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    module.serve(address, lambda: print('ready', flush=True))


def call(module, address):
    client = module.Client(address)
    client.noop()
    print('ready', flush=True)
    for line in sys.stdin:
        print(counted(client, float(line.split()[1])), flush=True)


def main():
    name = sys.argv[1]
    module = importlib.import_module(name)
    if sys.argv[2:3] == ['--server']:
        serve(module, sys.argv[3])
    elif sys.argv[2:3] == ['--caller']:
        call(module, sys.argv[3])
    else:
        talk(module, name)
    sys.stdout.flush()
    os._exit(0)  # not waiting for threads that peers left


if __name__ == '__main__':
    main()
