/* SPDX-License-Identifier: Apache-2.0 */
/* Which Python executable the embedded interpreter takes its packages from, where none was named. */
#include <stdlib.h>

#include "engine.h"

#ifndef SB_PYTHON_EXECUTABLE
#define SB_PYTHON_EXECUTABLE "/usr/bin/python3"
#endif

const char *sb__python_executable(void)
{
	const char *named = secure_getenv("SNAKEBRIDGE_PYTHON");

	return named && *named ? named : SB_PYTHON_EXECUTABLE;
}
