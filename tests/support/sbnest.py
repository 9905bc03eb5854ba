# SPDX-License-Identifier: Apache-2.0
"""Python code in a designated owner that calls the library itself, by ctypes: nested calls between sessions."""
import ctypes

_state = {}


def attach(library, directory):
    """Opens the bridge in this process, once; its handle, which stays open."""
    if "bridge" not in _state:
        lib = ctypes.CDLL(library)
        lib.sb_args_pack.restype = ctypes.c_void_p
        bridge = ctypes.c_void_p()
        if lib.sb_bridge_open(directory.encode(), None, ctypes.byref(bridge)):
            raise RuntimeError("sb_bridge_open failed")
        _state.update(lib=lib, bridge=bridge, sessions={})
    return True


class Options(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_size_t), ("session_id", ctypes.c_char_p), ("max_refs", ctypes.c_int64),
        ("ttl_seconds", ctypes.c_int64), ("designated", ctypes.c_int), ("on_full", ctypes.c_int),
        ("persistent", ctypes.c_int), ("release_on_exit", ctypes.c_int), ("tags", ctypes.c_void_p),
        ("tag_count", ctypes.c_size_t), ("timeout_ms", ctypes.c_uint32),
    ]


def session(name):
    if name not in _state["sessions"]:
        options = Options(ctypes.sizeof(Options), name.encode(), -1, -1, 3, 0, -1, 0, None, 0, 0)
        handle = ctypes.c_void_p()
        if _state["lib"].sb_session_open(_state["bridge"], ctypes.byref(options), ctypes.byref(handle)):
            raise RuntimeError("sb_session_open failed")
        _state["sessions"][name] = handle
    return _state["sessions"][name]


def bounce(here, there, depth):
    """Calls itself in the other session, which calls back, depth times. How deep it went."""
    if depth == 0:
        return 0
    lib = _state["lib"]
    value, number = ctypes.c_void_p(), ctypes.c_int64()
    args = lib.sb_args_pack(b"ssi", there.encode(), here.encode(), ctypes.c_int(depth - 1))
    code = lib.sb_call(session(there), b"sbnest:bounce", ctypes.c_void_p(args), ctypes.byref(value))
    if code:
        raise RuntimeError("code %d at depth %d" % (code, depth))
    lib.sb_value_int(value, ctypes.byref(number))
    lib.sb_value_free(value)
    return number.value + 1
