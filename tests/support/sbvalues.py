# SPDX-License-Identifier: Apache-2.0
"""Values of every kind for the tests: made at random from a seed, and compared exactly."""
import datetime
import decimal
import fractions
import random
import struct
import sys
import uuid
import zoneinfo


def same(value):
    return value


def made(source):
    """What a Python expression gives."""
    return eval(source, globals())


def is_made(source, value):
    """Is it exactly what the expression gives? True, or what differs."""
    return differ(made(source), value, source)


def shown(value):
    """Its repr(), with all digits of ints."""
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        return repr(value)
    finally:
        sys.set_int_max_str_digits(limit)


def said(value):
    """What sb_value_text() should say."""
    return str(value) if type(value) in (str, decimal.Decimal, uuid.UUID) else shown(value)


def differ(a, b, path="value"):
    """True if both are the same in every detail that a program can see but identity, else a text that says where."""
    if type(a) is not type(b):
        return f"{path}: {type(a)} became {type(b)}"
    if isinstance(a, float):
        fine = struct.pack("d", a) == struct.pack("d", b)
    elif isinstance(a, complex):
        fine = struct.pack("dd", a.real, a.imag) == struct.pack("dd", b.real, b.imag)
    elif isinstance(a, (list, tuple)):
        return differ_items(a, b, path)
    elif isinstance(a, dict):
        return differ_items([x for pair in a.items() for x in pair], [x for pair in b.items() for x in pair], path)
    elif isinstance(a, (set, frozenset)):
        fine = sorted(map(shown, a)) == sorted(map(shown, b))
    elif isinstance(a, slice):
        return differ_items([a.start, a.stop, a.step], [b.start, b.stop, b.step], path)
    elif isinstance(a, range):
        fine = (a.start, a.stop, a.step) == (b.start, b.stop, b.step)
    elif isinstance(a, decimal.Decimal):
        fine = a.as_tuple() == b.as_tuple()
    elif isinstance(a, (datetime.datetime, datetime.time)):
        fine = (a.replace(tzinfo=None), a.fold) == (b.replace(tzinfo=None), b.fold) and zone(a.tzinfo) == zone(b.tzinfo)
    else:
        fine = a == b
    return True if fine else f"{path}: {shown(a)} became {shown(b)}"[:500]


def differ_items(a, b, path):
    if len(a) != len(b):
        return f"{path}: {len(a)} items became {len(b)}"
    for i, (x, y) in enumerate(zip(a, b)):
        found = differ(x, y, f"{path}[{i}]")
        if found is not True:
            return found
    return True


def zone(tzinfo):
    if isinstance(tzinfo, zoneinfo.ZoneInfo):
        return type(tzinfo), tzinfo.key
    return type(tzinfo), tzinfo and tzinfo.__getinitargs__()


# ── at random ──

ZONES = ("UTC", "Europe/Berlin", "America/St_Johns", "Asia/Kathmandu")


def integer(r):
    bits = r.choice((0, 1, 8, 31, 32, 62, 63, 64, 65, 127, 128, 256, 1000, 40000))
    return r.choice((-1, 1)) * (r.choice((1 << bits, (1 << bits) - 1, r.getrandbits(bits + 1))) + r.randint(-1, 1))


def number(r):
    if r.random() < 0.3:
        return r.choice((0.0, -0.0, float("inf"), float("-inf"), 5e-324, 1.7976931348623157e308, 0.1))
    return struct.unpack("d", r.randbytes(8))[0]


def text(r):
    alphabet = r.choice(("ab", "aé€🐍\0", "a\ud83d\udc0d\udc80é"))
    return "".join(r.choice(alphabet) for _ in range(r.randint(0, 8)))


def tzinfo(r):
    offset = datetime.timedelta(microseconds=r.randint(-86400 * 10**6 + 1, 86400 * 10**6 - 1))
    return r.choice((
        lambda: None,
        lambda: datetime.timezone.utc,
        lambda: datetime.timezone(datetime.timedelta(minutes=r.randint(-1439, 1439))),
        lambda: datetime.timezone(offset),
        lambda: datetime.timezone(offset, r.choice(("", "CET", "é\0"))),
        lambda: zoneinfo.ZoneInfo(r.choice(ZONES)),
    ))()


def date(r):
    return datetime.date.fromordinal(r.randint(1, datetime.date.max.toordinal()))


def time(r):
    return datetime.time(r.randint(0, 23), r.randint(0, 59), r.randint(0, 59), r.choice((0, 1, 999999)), tzinfo(r),
                         fold=r.randint(0, 1))


def moment(r):
    return datetime.datetime.combine(date(r), time(r))


def duration(r):
    return datetime.timedelta(r.choice((0, -1, 999999998, -999999999, r.randint(-10**9 + 1, 10**9 - 2))),
                              r.randint(0, 86399), r.choice((0, 1, 999999)))


def decimal_number(r):
    digits = tuple(r.randint(0, 9) for _ in range(r.choice((1, 1, 5, 28, 999, 1000, 1001))))
    exponent = r.choice((0, -1, -7, 5, r.randint(-400, 400), "F", "n", "N", 10**17))
    return decimal.Decimal((r.randint(0, 1), digits, exponent))


def plain(r):
    return r.choice((
        lambda: None, lambda: ..., lambda: r.random() < 0.5, lambda: integer(r), lambda: r.randint(-100, 100),
        lambda: number(r), lambda: complex(number(r), number(r)), lambda: text(r), lambda: r.randbytes(r.randint(0, 9)),
        lambda: moment(r), lambda: date(r), lambda: time(r), lambda: duration(r), lambda: decimal_number(r),
        lambda: fractions.Fraction(integer(r), integer(r) or 1), lambda: uuid.UUID(bytes=r.randbytes(16)),
        lambda: range(integer(r), integer(r), integer(r) or 1),
    ))()


def hashable(r):
    """Something that can be a key: no signalling nan, whose hash raises."""
    value = plain(r)
    if isinstance(value, decimal.Decimal) and value.is_snan():
        return None
    return r.choice((value, (value, 1), frozenset((value,))))


def nested(r, depth):
    if depth == 0 or r.random() < 0.3:
        return r.choice((lambda: plain(r), lambda: bytearray(r.randbytes(r.randint(0, 9)))))()
    count = r.randint(0, 4)
    return r.choice((
        lambda: [nested(r, depth - 1) for _ in range(count)],
        lambda: tuple(nested(r, depth - 1) for _ in range(count)),
        lambda: {hashable(r): nested(r, depth - 1) for _ in range(count)},
        lambda: {hashable(r) for _ in range(count)},
        lambda: frozenset(hashable(r) for _ in range(count)),
        lambda: slice(nested(r, depth - 1), nested(r, depth - 1), None),
    ))()


def random_value(seed):
    return nested(random.Random(seed), 4)


def is_random_value(seed, value):
    return differ(random_value(seed), value)
