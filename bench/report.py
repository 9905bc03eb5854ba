# SPDX-License-Identifier: Apache-2.0
"""What bench.py measured as text, as docs/performance.md, and as plots. Every figure comes from the measurements."""
import html
import math
import os
import statistics

# (piece, heading, unit, whether less is better)
COLUMNS = [('noop', 'no-op call', 'µs', True), ('callers', 'calls/s, 8 callers', '/s', False),
           ('refs', 'refs made and released', '/s', False), ('in', '64 MiB in, its sum out', 'ms', True),
           ('out', '64 MiB out', 'ms', True)]


def digits(v):
    """Three digits that count."""
    if v is None or not math.isfinite(v):
        return '–'
    if v >= 100:
        return f'{v:,.0f}'
    return f'{v:.{1 if v >= 10 else 2 if v >= 1 else 3}f}'


def median(system, piece):
    samples = system['samples'][piece]
    return statistics.median(samples) if samples else None


def ratio(ours, theirs, less):
    """How many times better we are; below 1 we lose."""
    if not ours or not theirs:
        return None
    return theirs / ours if less else ours / theirs


def spread(samples):
    if len(samples) < 2:
        return '–'
    low, high = min(samples), max(samples)
    return f'{digits(low)} … {digits(high)}'


def table(rows):
    head, body = rows[0], rows[1:]
    return ['| ' + ' | '.join(head) + ' |', '|' + '---|' * len(head)] + ['| ' + ' | '.join(row) + ' |' for row in body] + ['']


def figures(found):
    for row in found['ours'].get('rows', []):
        for figure in row['figures']:
            yield row, figure


def to_target(figure):
    times = figure.get('ratio_to_target')
    return '' if times is None else digits(times)


SAME_CALL = 'it is the call of the no-op rows above, and what was tried is the same'


def verdicts_beside_peers(found):
    """Targets that are told in peers' figures."""
    by_name = {system['name']: system for system in found['side_by_side']}
    ours, managers = by_name.get('snakebridge'), by_name.get('managers')
    for piece, least, what in (('noop', 30, 'no-op call'), ('callers', 10, 'calls/s of 8 callers')):
        less = piece == 'noop'
        times = ratio(median(ours, piece), median(managers, piece), less) if ours and managers else None
        if times:
            yield (f'{what}, over multiprocessing managers', f'{digits(times)} ×', f'≥ {least} ×', digits(times / least),
                   'met' if times >= least else 'falls short')


STOLEN_TOLD = 1.0  # percent, as sb-bench tells it

# ── text ──


def show(found):
    print()
    systems = found['side_by_side']
    width = max(len(system['title']) for system in systems) + 2
    print(' ' * width + ''.join(f'{heading:>26}' for _, heading, _, _ in COLUMNS))
    for system in systems:
        cells = []
        for piece, _, unit, less in COLUMNS:
            value = median(system, piece)
            times = ratio(median(systems[0], piece), value, less)
            cells.append(f'{digits(value)} {unit}' + (f' ({digits(times)} ×)' if times and system is not systems[0] else ''))
        print(f'{system["title"]:{width}}' + ''.join(f'{cell:>26}' for cell in cells) + (f'  {system["error"]}' if system['error'] else ''))
    print()
    print(f'{"":62}{"figure":>14} {"":8}{"target":16}{"ratio":>8}{"floor":>14}{"ratio":>8}  verdict')
    for _, figure in figures(found):
        floor = figure.get('floor', {}).get('median')
        print(f'{figure["label"].strip():62}{digits(figure["ours"]["median"]):>14} {figure["unit"]:8}{figure.get("target", ""):16}'
              f'{to_target(figure):>8}{digits(floor) if floor else "":>14}{digits(figure["ratio"]) if floor else "":>8}  {figure.get("verdict", "")}')
        if 'tried' in figure:
            print(f'    tried: {figure["tried"]}')
    for what, value, target, of_it, verdict in verdicts_beside_peers(found):
        print(f'{what:62}{value:>14} {"":8}{target:16}{of_it:>8}{"":22}  {verdict}')
        if verdict == 'falls short':
            print(f'    tried: {SAME_CALL}')
    for row in found['ours'].get('rows', []):
        if row.get('error'):
            print(f'row {row["row"]} failed: {row["error"]}')


# ── the page ──


def machine_lines(found):
    m = found['machine']
    lines = [f'{found["date"]}: {m["cpus"]} CPUs ({m["cpu"]}), {m["memory_mib"]:,} MiB of memory, {m["system"]}, Linux {m["kernel"]}, '
             f'Python {m["python"]}; load average before {m["load_before"]:.2f}, after {m["load_after"]:.2f}; '
             f'{found["took_s"]:.0f} seconds in all; the host took {m["stolen_percent"]:.1f} % of the CPUs\' time meanwhile.', '']
    if m['load_before'] > 0.5 * m['cpus']:
        lines += ['**The machine was busy with other work while this was measured**: compare within the page only.', '']
    stolen = [(row['row'], row['stolen_percent']) for row in found['ours'].get('rows', [])
              if row.get('stolen_percent', 0) >= STOLEN_TOLD]
    if stolen:
        lines += ['Rows during which the host took more than 1 %: ' + ', '.join(f'{row} ({percent:.1f} %)' for row, percent in stolen) +
                  '. While a CPU is away nothing is done there, and a spinning thread may keep another CPU from coming back.', '']
    if found['quick']:
        lines += ['**A quick run**: few short rounds; only orders of magnitude mean something.', '']
    return lines


def side_lines(found):
    systems = found['side_by_side']
    ours = systems[0]
    rows = [['', *(f'{heading}, {unit}' if unit != '/s' else heading for _, heading, unit, _ in COLUMNS)]]
    spreads = [['', *(heading for _, heading, _, _ in COLUMNS), 'slowest of 8 / mean']]
    for system in systems:
        cells = []
        for piece, _, _, less in COLUMNS:
            value = median(system, piece)
            times = ratio(median(ours, piece), value, less)
            cells.append(digits(value) + (f' ({digits(times)} ×)' if times and system is not ours else ''))
        rows.append([f'**{system["title"]}**' if system is ours else system['title'], *cells])
        fairness = statistics.median(system['fairness']) if system['fairness'] else None
        spreads.append([system['title'], *(spread(system['samples'][piece]) for piece, *_ in COLUMNS), digits(fairness)])
    lines = table(rows) + ['In brackets: how many times better SnakeBridge is.', '']
    for system in systems:
        if system['error']:
            lines += [f'- {system["title"]} is left out or cut short: {system["error"]}']
        for piece, error in system['errors'].items():
            lines += [f'- {system["title"]}, {piece}: {error}']
    return lines + ['', '![no-op call](images/performance-noop.svg)', '', '![calls of eight callers](images/performance-callers.svg)', '',
                    '![refs](images/performance-refs.svg)', '', '![64 MiB in](images/performance-in.svg)', '',
                    '![64 MiB out](images/performance-out.svg)', '', 'From the least to the greatest of the rounds:', ''] + table(spreads)


def reach_lines(found):
    rows = [['what', 'figure', 'quartiles', 'target', 'ratio to it', 'floor, measured in turns', 'ratio to it', 'verdict']]
    tried = []
    for _, figure in figures(found):
        ours, floor = figure['ours'], figure.get('floor')
        rows.append([figure['label'].strip(), f'{digits(ours["median"])} {figure["unit"]}',
                     f'{digits(ours["quartile_1"])} … {digits(ours["quartile_3"])}' if ours['samples'] > 1 else '', figure.get('target', ''), to_target(figure),
                     f'{digits(floor["median"])} ({figure["floor_label"]})' if floor else '',
                     digits(figure['ratio']) if floor else '', figure.get('verdict', '')])
        if 'tried' in figure:
            tried.append(f'- {figure["label"].strip()}: {figure["tried"]}.')
    for what, value, target, of_it, verdict in verdicts_beside_peers(found):
        rows.append([what, value, '', target, of_it, '', '', verdict])
        if verdict == 'falls short':
            tried.append(f'- {what}: {SAME_CALL}.')
    lines = table(rows)
    failed = [f'- row `{row["row"]}` failed: {row["error"]}' for row in found['ours'].get('rows', []) if row.get('error')]
    if tried:
        lines += ['What was tried where a target is missed:', ''] + tried + ['']
    return lines + failed + ['']


def loss_lines(found):
    systems, lines = found['side_by_side'], []
    for piece, heading, unit, less in COLUMNS:
        mine = median(systems[0], piece)
        for system in systems[1:]:
            times = ratio(mine, median(system, piece), less)
            if times and times < 1:
                lines.append(f'- {heading}: {system["title"]} needs {digits(median(system, piece))} {unit}, we {digits(mine)}.')
    if not lines:
        lines = ['- To none of these peers in any column.']
    short = [figure['label'].strip() for _, figure in figures(found) if figure.get('verdict') == 'falls short']
    if short:
        lines.append('- Against our own targets: ' + '; '.join(short) + '.')
    return lines + ['- Across machines: this library does not leave the machine; gRPC, Thrift, Redis, RPyC, Pyro and Dask do.', '']


METHOD = '''\
- `sb-bench` measures the second table, each row in a process of its own, floor and ours in turns; medians of its rounds.
- `bench/bench.py` measures the first: each system is one process that is asked for a piece of work at a time, round after round,
  all systems in turn, after one round to warm up. Medians of the rounds.
- We are called from C, the peers from Python, as each is meant to be used. Servers and callers on one machine, over unix
  sockets (Dask: loopback TCP), nothing pinned. What each peer does is a page of Python in `bench/peers/`.
- A ref is made by calling a class, and released: with us and where a peer has remote objects, by its means; else in a
  table of handles as one writes it by hand.
- Arrays are float64; "in" goes from ordinary memory and the sum comes back; "out" is a snapshot of an array that is there.
- Repeat it: `./dev bench` (or `--quick`); all samples are in `build/release/bench.json`.
'''


def page(found):
    lines = ['# Performance', '', 'Written by `./dev bench`; no figure is typed by hand. What a call is made of:',
             '[design/call-cost.md](design/call-cost.md).', '', *machine_lines(found), '## Side by side', '', *side_lines(found),
             '## Against the machine and the targets', '', *reach_lines(found), '![latency](images/performance-latency.svg)', '',
             '## What we lose at', '', *loss_lines(found), '## How it is measured', '', METHOD]
    return '\n'.join(lines)


# ── plots ──


def svg(width, height, body):
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
            f'font-family="sans-serif" font-size="13">\n<rect width="100%" height="100%" fill="white"/>\n' + '\n'.join(body) + '\n</svg>\n')


def text(x, y, content, anchor='start', weight='normal'):
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" font-weight="{weight}" fill="#222">{html.escape(content)}</text>'


def bars(found, piece, heading, unit, less):
    """A bar for each system, on a logarithmic scale."""
    values = [(system['title'], median(system, piece)) for system in found['side_by_side'] if median(system, piece)]
    values.sort(key=lambda item: item[1], reverse=not less)
    body = [text(10, 22, f'{heading} ({unit}, logarithmic; {"less" if less else "more"} is better)', weight='bold')]
    if not values:
        return svg(760, 60, body)
    low = 10 ** math.floor(math.log10(min(v for _, v in values)))
    span = max(math.log10(max(v for _, v in values) / low), 1e-9)
    for i, (title, value) in enumerate(values):
        y = 40 + i * 24
        length = 4 + 400 * math.log10(value / low) / span
        color = '#c2410c' if title == 'SnakeBridge' else '#64748b'
        body += [text(240, y + 13, title, 'end'), f'<rect x="250" y="{y}" width="{length:.1f}" height="17" fill="{color}"/>',
                 text(256 + length, y + 13, digits(value))]
    return svg(760, 50 + 24 * len(values), body)


def latency(found):
    """The histogram of a no-op call."""
    buckets = next((figure['histogram'] for _, figure in figures(found) if figure.get('histogram')), [])
    body = [text(10, 22, 'latency of a no-op call, caller and owner awake (calls, by µs; buckets of a quarter octave)', weight='bold')]
    most = max((bucket['count'] for bucket in buckets), default=1)
    step = 740 / max(len(buckets), 1)
    for i, bucket in enumerate(buckets):
        height = 200 * bucket['count'] / most
        x = 10 + i * step
        body.append(f'<rect x="{x:.1f}" y="{240 - height:.1f}" width="{step * 0.85:.1f}" height="{height:.1f}" fill="#c2410c"/>')
        if i % max(1, len(buckets) // 12) == 0:
            body.append(text(x, 258, digits(bucket['up_to_ns'] / 1000)))
    return svg(760, 270, body)


def write(found, docs):
    images = os.path.join(docs, 'images')
    os.makedirs(images, exist_ok=True)
    with open(os.path.join(docs, 'performance.md'), 'w') as file:
        file.write(page(found))
    for piece, heading, unit, less in COLUMNS:
        with open(os.path.join(images, f'performance-{piece}.svg'), 'w') as file:
            file.write(bars(found, piece, heading, unit, less))
    with open(os.path.join(images, 'performance-latency.svg'), 'w') as file:
        file.write(latency(found))
