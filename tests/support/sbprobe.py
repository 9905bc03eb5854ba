# SPDX-License-Identifier: Apache-2.0
"""What the engine's tests call."""
import collections
import enum
import os
import threading
import time
import weakref

constant = 42
Point = collections.namedtuple("Point", "x y")


class Color(enum.IntEnum):
    RED = 1


class Text(str):
    pass


class Box:
    """Holds a value; counts how many boxes live."""
    alive = weakref.WeakSet()

    def __init__(self, value=None, **more):
        self.value = value
        self.more = more
        Box.alive.add(self)

    def get(self):
        return self.value

    def put(self, value):
        self.value = value
        return self

    @classmethod
    def of(cls, *values):
        return [cls(value) for value in values]

    @property
    def broken(self):
        return self.no_such_thing

    def lookup_fails(self):
        return self.no_such_thing


class Sealed:
    __slots__ = ("value",)


class Setter:
    @property
    def value(self):
        return 1

    @value.setter
    def value(self, new):
        raise AttributeError("the setter says no")


class Lazy:
    def __getattr__(self, name):
        if name == "made":
            return "made"
        raise AttributeError(name)


def boxes_alive():
    return len(Box.alive)


def boxes(n):
    return [Box(i) for i in range(n)]


def same(*args, **kwargs):
    if kwargs:
        return args, kwargs
    return args[0] if len(args) == 1 else args


def is_same(a, b):
    return a is b


def nest(depth, make=list, core=None):
    value = core
    for _ in range(depth):
        value = {"k": value} if make is dict else make((value,))
    return value


def nest_tuple(depth):
    return nest(depth, tuple)


def nest_dict(depth):
    return nest(depth, dict)


def depth_of(value):
    depth = 0
    while isinstance(value, (list, tuple)) and value:
        value, depth = value[0], depth + 1
    return depth


def loop_list():
    a = [1]
    a.append(a)
    return a


def loop_dict():
    d = {}
    d["me"] = [d]
    return d


def twice():
    box = Box("twice")
    return [box, (box, {"k": box})]


def shared_list():
    inner = [1]
    return [inner, inner]


class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("no text")


class WrongText(Exception):
    def __str__(self):
        return 7


def raises(what):
    if what == "chain":
        try:
            try:
                raise KeyError("first")
            except KeyError as error:
                raise ValueError("second") from error
        except ValueError:
            raise TypeError("third")
    if what == "suppressed":
        try:
            raise KeyError("hidden")
        except KeyError:
            raise ValueError("shown") from None
    if what == "exit":
        raise SystemExit(3)
    if what == "interrupt":
        raise KeyboardInterrupt()
    if what == "unprintable":
        raise Unprintable()
    if what == "wrong text":
        raise WrongText()
    if what == "surrogate":
        raise ValueError("lone \udc80 here")
    if what == "nul":
        raise ValueError("a\0b")
    if what == "huge":
        raise ValueError("é" * 5_000_000)
    if what == "long chain":
        error = None
        for i in range(50):
            new = ValueError(f"error {i}")
            new.__cause__ = error
            error = new
        raise error
    if what == "own cause":
        error = ValueError("own cause")
        error.__cause__ = error
        raise error
    raise ValueError(what)


def recurse(n):
    if n == 0:
        raise ValueError("at the bottom")
    recurse(n - 1)


def recurse_for_ever():
    recurse_for_ever()


class Resurrector:
    """Comes back to life when it is dropped, once."""
    kept = []

    def __del__(self):
        if not Resurrector.kept:
            Resurrector.kept.append(self)


class DropsOthers:
    """Runs Python code, and lets other threads run, while it is dropped."""

    def __del__(self):
        time.sleep(0)
        [Box(i) for i in range(10)]


def droppers(n):
    return [DropsOthers() for _ in range(n)]


counter_lock = threading.Lock()
counter = 0


def count(n):
    """Counts in a loop of bytecode."""
    global counter
    for _ in range(n):
        with counter_lock:
            counter += 1
    return n


stop = threading.Event()
spinning = threading.Event()


def spin():
    """A loop of bytecode that never lets go of the GIL by itself, until stop is set."""
    n = 0
    spinning.set()
    while not stop.is_set():
        n += 1
    return n


def hold(*held):
    """Keeps a call with these objects running until stop is set."""
    spinning.set()
    stop.wait(30)
    return len(held)


def wait_spinning():
    return spinning.wait(30)


def pid():
    return os.getpid()


before, after_parent, after_child = [], [], []
os.register_at_fork(before=lambda: before.append(os.getpid()),
                    after_in_parent=lambda: after_parent.append(os.getpid()),
                    after_in_child=lambda: after_child.append(os.getpid()))


def fork_hooks():
    return [len(before), len(after_parent), len(after_child)]


def fork_in_python():
    """Forks as Python does it; the child ends inside. The child's exit status."""
    child = os.fork()
    if child == 0:
        os._exit(7)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def thread_answer():
    """A Python thread's answer: does threading work here?"""
    result = []
    thread = threading.Thread(target=lambda: result.append(41 + 1))
    thread.start()
    thread.join()
    return result[0]


class Local(threading.local):
    def __init__(self):
        self.box = Box("local")


local = Local()


def touch_local():
    return local.box.value
