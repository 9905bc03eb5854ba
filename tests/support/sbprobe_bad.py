# SPDX-License-Identifier: Apache-2.0
"""A module that needs another one, which is not there."""
import no_such_dependency


def f():
    return no_such_dependency
