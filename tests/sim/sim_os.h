/* SPDX-License-Identifier: Apache-2.0 */
/* The simulated kernel, as the other files of this folder ask it. */
#ifndef SB_TESTS_SIM_OS_H
#define SB_TESTS_SIM_OS_H

#include <stdint.h>

int sim_pid(void);
int sim_tid(void); /* of the simulated thread: pid * 256 + number */

#endif
