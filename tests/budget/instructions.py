# SPDX-License-Identifier: Apache-2.0
"""Counts the instructions of a no-op call with callgrind, by layer and by step, caller and owner apart.

    instructions.py BIN NOOP_CALLS              compare with budget.txt: 1 where a layer takes more than it may
    instructions.py BIN NOOP_CALLS --budget     write budget.txt: what was counted, a twelfth more, and waking
    instructions.py BIN NOOP_CALLS --page FILE  put the tables into a page, between its <!-- counted --> marks

Timings differ from run to run and machine to machine; instructions hardly do. Waiting is left out: it takes as many as it lasts.
CPython's own are shown and have no budget. Status 77: no valgrind, or not x86-64.
"""
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
BUDGET = os.path.join(HERE, 'budget.txt')
CALLS = 2000
WAKING = {'shm': 150, 'base': 60, 'C library': 150}  # more where the other side slept, which depends on the machine
LAYERS = ('api', 'session', 'python', 'shm', 'codec', 'base', 'C library', 'CPython')
# Functions whose instructions are collected; one inside another is where collecting stops: waiting.
COLLECT = {'caller': ('sb_method', 'sb_value_free', 'spin_for_reply', 'sleep_for_reply'),
           'owner': ('sb__mailbox_accept_next', 'sb__execute', 'sb__accepted_complete'),
           'own': ('sb_method', 'sb_value_free'),
           'batch': ('sb_batch_add', 'sb_batch_run', 'sb_batch_free')}
# Steps of a call: functions with all that they call.
STEPS = {'caller': (('sb__request_check', 'check the request'), ('sb__resolve', 'resolve the session'),
                    ('sb__session_enter', 'is the handle at home here'), ('sb__thread_lane', "the thread's lane"),
                    ('sb__way_encode', 'write the request into the lane'), ('sb__flight_post', 'publish it, ring'),
                    ('sb__lane_reply', 'copy the reply'), ('sb__reply_decode_shared', 'make it a value'),
                    ('sb__lane_consume', 'give the lane back'), ('sb_value_free', 'free the value')),
         'owner': (('sb__mailbox_accept_next', 'find the request, copy it'), ('sb__request_decode', 'read its head'),
                   ('sb__running_add', 'note that it runs'), ('sb__gil_enter_as', 'have the GIL'),
                   ('sb__table_find', 'find the target'),
                   ('sb__resolve_method', 'find the method'), ('sb__frame_call', 'run it, in a frame of the session'),
                   ('sb__call_end', 'end'),
                   ('sb__accepted_complete', 'hand the reply over'))}


def valgrind(out, side):
    return ['valgrind', '-q', '--tool=callgrind', '--callgrind-out-file=' + out, '--collect-atstart=no',
            *('--toggle-collect=' + name for name in COLLECT[side])]


def layer_of(file, binary):
    if 'libpython' in binary:
        return 'CPython'
    if 'libcbor' in binary:
        return 'codec'
    found = re.search(r'/src/(\w+)/', file)
    return found.group(1) if found and found.group(1) in LAYERS else 'C library'


class Counts:
    """What a callgrind file says: instructions by layer, and with all callees by function."""

    def __init__(self, path):
        self.layers, self.steps, self.total = dict.fromkeys(LAYERS, 0), {}, 0
        names = {kind: {} for kind in ('ob', 'fl', 'fn')}
        kinds = {'ob': 'ob', 'cob': 'ob', 'fl': 'fl', 'fi': 'fl', 'fe': 'fl', 'cfi': 'fl', 'cfl': 'fl', 'fn': 'fn', 'cfn': 'fn'}
        at = {'ob': '', 'fl': '', 'fn': ''}
        called, callee = False, ''
        for line in open(path, errors='replace'):
            head = re.match(r'(\w+)=(?:\((\d+)\))?\s*(.*)', line)
            if head and head.group(1) in kinds:
                key, kind = head.group(1), kinds[head.group(1)]
                if head.group(3):
                    names[kind][head.group(2)] = head.group(3).strip()
                name = names[kind].get(head.group(2), head.group(3))
                if key == 'cfn':
                    callee = name
                elif not key.startswith('c'):
                    at[kind] = name
            elif line.startswith('calls='):
                called = True
            else:
                cost = re.match(r'[+\-*\d]\S*\s+(\d+)\s*$', line)
                if not cost:
                    continue
                if called:
                    self.steps[callee] = self.steps.get(callee, 0) + int(cost.group(1))
                    called = False
                else:
                    self.layers[layer_of(at['fl'], at['ob'])] += int(cost.group(1))
                    self.total += int(cost.group(1))
                    if at['fn'] in COLLECT['owner'] or at['fn'] in COLLECT['caller']:
                        self.steps.setdefault(at['fn'], 0)


def run_there(binary, noop_calls, directory):
    """A caller and an owner, each under callgrind."""
    bridge, said = os.path.join(directory, 'bridge'), os.path.join(directory, 'said')
    outs = {side: os.path.join(directory, side) for side in ('caller', 'owner')}
    with open(said, 'wb') as file:
        owner = subprocess.Popen(valgrind(outs['owner'], 'owner') + [os.path.join(binary, 'sb-owner'), '--dir', bridge, '--session',
                                                                     'budget', '--persistent'], stderr=file, stdout=file)
    try:
        for _ in range(600):
            if b'serving' in open(said, 'rb').read() or owner.poll() is not None:
                break
            time.sleep(0.1)
        subprocess.run(valgrind(outs['caller'], 'caller') + [noop_calls, bridge, str(CALLS), 'there'], check=True, timeout=120,
                       stderr=subprocess.PIPE)
        owner.wait(60)
    finally:
        if owner.poll() is None:
            owner.kill()
            owner.wait()
            sys.stderr.write(open(said, errors='replace').read())
    return {side: Counts(out) for side, out in outs.items()}


def run_here(noop_calls, directory, side, mode):
    out = os.path.join(directory, side)
    subprocess.run(valgrind(out, side) + [noop_calls, out + '-bridge', str(CALLS), mode], check=True, timeout=120,
                   stderr=subprocess.PIPE)
    return {side: Counts(out)}


def read_budget():
    budget = {}
    for line in open(BUDGET):
        if line.strip() and not line.startswith('#'):
            side, layer, most = line.split('\t')
            budget[side, layer] = int(most)
    return budget


def write_budget(counts):
    with open(BUDGET, 'w') as file:
        file.write('# Instructions that a no-op call may take at most (dev preset, x86-64), by side and layer. Written by\n'
                   '# instructions.py --budget: what was counted, a twelfth more, and what waking the\n'
                   '# other side takes. Lower it when you made something cheaper;\n'
                   '# who raises it says in the commit what for.\n')
        for side, count in counts.items():
            for layer in LAYERS:
                if layer != 'CPython' and count.layers[layer] >= CALLS:
                    most = count.layers[layer] * 13 // 12 // CALLS + 10 + (WAKING.get(layer, 0) if side in ('caller', 'owner') else 0)
                    file.write(f'{side}\t{layer}\t{most}\n')


def compare(counts):
    budget, over = read_budget(), 0
    print(f'{"":8}{"layer":12}{"counted":>9}{"budget":>9}')
    for side, count in counts.items():
        for layer in LAYERS:
            counted = count.layers[layer] / CALLS
            most = budget.get((side, layer), 0 if layer != 'CPython' else None)
            too_many = most is not None and counted > max(most, 2)
            over += too_many
            print(f'{side:8}{layer:12}{counted:9.0f}{"" if most is None else most:>9}{"  too many" if too_many else ""}')
    return 1 if over else 0


def tables(counts):
    sides = {'caller': 'caller', 'owner': 'owner', 'own': 'own session', 'batch': 'item of a batch'}
    lines = ['| layer | ' + ' | '.join(sides.values()) + ' |', '|---|' + '---:|' * len(sides)]
    for layer in LAYERS:
        lines.append(f'| {layer} | ' + ' | '.join(f'{counts[side].layers[layer] / CALLS:,.0f}' for side in sides) + ' |')
    lines.append('| **all** | ' + ' | '.join(f'**{counts[side].total / CALLS:,.0f}**' for side in sides) + ' |')
    for side, steps in STEPS.items():
        lines += ['', f'| {side}\'s step | in | instructions, with all it calls |', '|---|---|---:|']
        for function, what in steps:
            cost = counts[side].steps.get(function)
            if cost:
                lines.append(f'| {what} | `{function}()` | {cost / CALLS:,.0f} |')
    return '\n'.join(lines)


def put_into(page, counts):
    text = open(page).read()
    begin, end = '<!-- counted -->\n', '<!-- /counted -->'
    before, rest = text.split(begin)
    with open(page, 'w') as file:
        file.write(before + begin + tables(counts) + '\n' + end + rest.split(end)[1])


def main():
    if not shutil.which('valgrind') or platform.machine() != 'x86_64':
        print('no valgrind here, or instructions of another kind: skipped')
        return 77
    binary, noop_calls = sys.argv[1:3]
    os.environ.update(SNAKEBRIDGE_SWEEP_MS='0')
    shm = '/dev/shm' if os.access('/dev/shm', os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix='sb-budget-', dir=shm) as directory:
        counts = {**run_there(binary, noop_calls, directory), **run_here(noop_calls, directory, 'own', 'here'),
                  **run_here(noop_calls, directory, 'batch', 'batch')}
    if sys.argv[3:4] == ['--budget']:
        write_budget(counts)
    elif sys.argv[3:4] == ['--page']:
        put_into(sys.argv[4], counts)
    return compare(counts)


sys.exit(main())
