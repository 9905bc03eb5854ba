/* SPDX-License-Identifier: Apache-2.0 */
/* The real kernel, for the session store: real_os.h renames what the simulated one has, too. */
#include "../../src/base/os_linux.c"
