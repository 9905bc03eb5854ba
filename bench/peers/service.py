# SPDX-License-Identifier: Apache-2.0
"""What every peer's server does: the same work as SnakeBridge's owner does for sb-bench."""
import itertools

import numpy

COUNT = 8 << 20  # 64 MiB of float64


class Made:
    """What a ref is made to; it can be called."""

    def noop(self):
        return None


class Service:
    """For peers without remote objects `make` and `release` keep a table of handles, as one would by hand."""

    def __init__(self):
        self.numbers = itertools.count(1)
        self.objects = {}
        self.big = None

    def noop(self):
        return None

    def make(self):
        number = next(self.numbers)
        self.objects[number] = Made()
        return number

    def release(self, number):
        del self.objects[number]

    def total(self, array):
        return float(array.sum())

    def get(self):
        if self.big is None:
            self.big = numpy.zeros(COUNT) + 1.0
        return self.big
