#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Measures SnakeBridge and its peers in turns, runs sb-bench, and writes docs/performance.md with its plots.

    bench.py BUILD-DIRECTORY [--quick] [--no-docs] [--peers NAME,NAME]

./dev bench calls it. A peer that is not installed, or fails, is named as such. Everything that was measured is kept in
BUILD-DIRECTORY/bench.json.
"""
import argparse
import datetime
import json
import os
import platform
import select
import statistics
import subprocess
import sys
import time

import report

HERE = os.path.dirname(os.path.abspath(__file__))
# Module of bench/peers and what it is called where it cannot be had.
PEERS = {'managers': 'multiprocessing managers', 'connection': 'multiprocessing connection, by hand', 'thrift_peer': 'Thrift',
         'redis_rpc': 'Redis', 'pyro': 'Pyro4', 'zeromq': 'ZeroMQ', 'rpyc_peer': 'RPyC', 'grpc_peer': 'gRPC', 'dask_actor': 'Dask'}
PIECES = {'noop': 'us', 'callers': 'rate', 'refs': 'rate', 'in': 'ms', 'out': 'ms'}
PIECE_TIMEOUT_S = 30
SLOW_MS = 1500  # a peer whose arrays take longer gets two rounds of them


class Taker:
    """A process that measures a piece when it is asked to."""

    def __init__(self, name, argv):
        self.name, self.samples, self.errors, self.buffer = name, {piece: [] for piece in PIECES}, {}, b''
        self.fairness = []
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        start_new_session=True)
        self.error = None
        hello = self.answer(PIECE_TIMEOUT_S)
        self.title, self.note = (hello or {}).get('title', PEERS.get(name, name)), (hello or {}).get('note', '')

    def answer(self, timeout):
        """The next line; None and self.error if there is none in time."""
        until = time.monotonic() + timeout
        while b'\n' not in self.buffer:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0, until - time.monotonic()))
            more = os.read(self.process.stdout.fileno(), 65536) if ready else b''
            if not more:
                self.fail('no answer in time' if not ready else 'it ended')
                return None
            self.buffer += more
        line, self.buffer = self.buffer.split(b'\n', 1)
        return json.loads(line)

    def fail(self, what):
        self.kill()
        said = self.process.stderr.read().decode(errors='replace').strip().splitlines()
        self.error = f'{what}: {said[-1][:160]}' if said else what

    def wants(self, piece):
        taken = self.samples[piece]
        slow = piece in ('in', 'out') and len(taken) >= 2 and statistics.median(taken) > SLOW_MS
        return not self.error and piece not in self.errors and not slow

    def take(self, piece, seconds):
        try:
            self.process.stdin.write(f'{piece} {seconds}\n'.encode())
            self.process.stdin.flush()
        except OSError:
            return self.fail('it ended')
        answer = self.answer(PIECE_TIMEOUT_S)
        if answer is None:
            return
        if 'error' in answer:
            self.errors[piece] = answer['error']
            return
        self.samples[piece].append(answer[PIECES[piece]])
        if 'fairness' in answer:
            self.fairness.append(answer['fairness'])

    def kill(self):
        try:
            os.killpg(self.process.pid, 15)
            self.process.wait(3)
        except (OSError, subprocess.TimeoutExpired):
            pass
        try:
            os.killpg(self.process.pid, 9)  # and whom it has started
        except OSError:
            pass
        self.process.wait()

    def stop(self):
        if self.error:
            return
        try:
            self.process.stdin.close()
            self.process.wait(5)
        except (OSError, subprocess.TimeoutExpired):
            pass
        self.kill()

    def result(self):
        return {'name': self.name, 'title': self.title, 'note': self.note, 'samples': self.samples, 'fairness': self.fairness,
                'errors': self.errors, 'error': self.error}


def side_by_side(binary, names, rounds, seconds):
    takers = [Taker('snakebridge', [binary, '@turns'])]
    for name in names:
        print(f'starting {PEERS[name]}', flush=True)
        takers.append(Taker(name, [sys.executable, '-B', os.path.join(HERE, 'peers', 'peer.py'), name]))
    try:
        for taken in range(-1, rounds):  # the first warms up
            for piece in PIECES:
                for taker in takers:
                    if taker.wants(piece):
                        taker.take(piece, seconds)
                    if taken < 0 and piece not in ('in', 'out'):
                        taker.samples[piece].clear()
            print(f'round {taken + 1} of {rounds}' if taken >= 0 else 'warmed up', flush=True)
    finally:
        for taker in takers:
            taker.stop()
    return [taker.result() for taker in takers]


def sb_bench(binary, quick):
    argv = [binary, '--json'] + (['--quick'] if quick else ['--rounds', '9', '--piece', '0.3'])
    print('running sb-bench', flush=True)
    try:
        done = subprocess.run(argv, stdout=subprocess.PIPE, timeout=600)
        return json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError) as error:
        print(f'sb-bench failed: {error}', file=sys.stderr)
        return {'rows': []}


def cpu_model():
    with open('/proc/cpuinfo') as file:
        for line in file:
            if line.startswith('model name'):
                return line.split(':', 1)[1].strip()
    return platform.machine()


def machine():
    release = platform.freedesktop_os_release().get('PRETTY_NAME', 'Linux')
    return {'cpu': cpu_model(), 'cpus': len(os.sched_getaffinity(0)), 'system': release, 'kernel': platform.release(),
            'python': platform.python_version(), 'load_before': os.getloadavg()[0],
            'memory_mib': os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') >> 20}


def stolen_s():
    """What the host of a virtual machine took of its CPUs' time (proc_stat(5), steal)."""
    with open('/proc/stat') as file:
        return int(file.readline().split()[8]) / os.sysconf('SC_CLK_TCK')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('build')
    parser.add_argument('--quick', action='store_true', help='few short rounds: does it run?')
    parser.add_argument('--no-docs', action='store_true', help='do not write docs/performance.md')
    parser.add_argument('--peers', help='only these modules of bench/peers, separated by commas; "" for none')
    args = parser.parse_args()
    binary = os.path.join(os.path.abspath(args.build), 'bin', 'sb-bench')
    names = list(PEERS) if args.peers is None else [name for name in args.peers.split(',') if name]
    for name in names:
        if name not in PEERS:
            parser.error(f'no peer {name}: there are {", ".join(PEERS)}')
    begun, stolen = time.monotonic(), stolen_s()
    found = {'date': datetime.date.today().isoformat(), 'quick': args.quick, 'machine': machine()}
    found['rounds'], found['seconds'] = (2, 0.1) if args.quick else (7, 0.3)
    found['ours'] = sb_bench(binary, args.quick)
    found['side_by_side'] = side_by_side(binary, names, found['rounds'], found['seconds'])
    found['machine']['load_after'] = os.getloadavg()[0]
    found['took_s'] = time.monotonic() - begun
    found['machine']['stolen_percent'] = 100 * (stolen_s() - stolen) / (found['took_s'] * os.cpu_count())
    with open(os.path.join(args.build, 'bench.json'), 'w') as file:
        json.dump(found, file, indent=1)
    report.show(found)
    if not args.no_docs:
        report.write(found, os.path.join(HERE, '..', 'docs'))


if __name__ == '__main__':
    main()
