/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Included by force before the session store's sources: LMDB is real, so what surrounds it asks the real kernel, under
 * other names (base/os_linux.c itself is compiled with them, too). Each transaction is one step of the simulation: at its begin another
 * thread may run, in it none.
 */
#ifndef SB_TESTS_REAL_OS_H
#define SB_TESTS_REAL_OS_H

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "sim_hooked.h"

/* Every transaction begins with it. */
static inline int sim_rdlock(pthread_rwlock_t *lock)
{
	sim_store_point();
	return pthread_rwlock_rdlock(lock);
}
#define pthread_rwlock_rdlock sim_rdlock

#define malloc  sim_malloc
#define calloc  sim_calloc
#define realloc sim_realloc
#define free    sim_free

/* Faster; what a crash of the machine leaves is not simulated. */
#define mdb_env_open sim_env_open

/* One process has nobody to keep out, and the gates in front of LMDB are none of the simulation's. */
#ifndef SIM_REAL_OS
#define sb__os_posix_lock   sim_no_lock
#define sb__os_posix_unlock sim_no_lock
#endif

#define sb__os_openat        real_os_openat
#define sb__os_open_own      real_os_open_own
#define sb__os_own_at        real_os_own_at
#define sb__os_unlinkat      real_os_unlinkat
#define sb__os_renameat      real_os_renameat
#define sb__os_fstat         real_os_fstat
#define sb__os_statat        real_os_statat
#define sb__os_readlinkat    real_os_readlinkat
#define sb__os_fallocate     real_os_fallocate
#define sb__os_reserve       real_os_reserve
#define sb__os_punch         real_os_punch
#define sb__os_reopen        real_os_reopen
#define sb__os_close         real_os_close
#define sb__os_map           real_os_map
#define sb__os_map_over      real_os_map_over
#define sb__os_map_shield    real_os_map_shield
#define sb__os_unmap         real_os_unmap
#define sb__os_unload        real_os_unload
#define sb__os_kill          real_os_kill
#define sb__os_tid           real_os_tid
#define sb__os_read_file_at  real_os_read_file_at
#define sb__os_pread         real_os_pread
#define sb__os_getrandom     real_os_getrandom
#define sb__os_map_dontfork  real_os_map_dontfork
#define sb__os_dir_each      real_os_dir_each
#define sb__os_ofd_lock      real_os_ofd_lock
#define sb__os_ofd_test      real_os_ofd_test
#define sb__os_ofd_test_from real_os_ofd_test_from
#define sb__os_sleep         real_os_sleep
#define sb__os_futex_wait    real_os_futex_wait
#define sb__os_futex_wake    real_os_futex_wake
#define sb__os_futex_waitv   real_os_futex_waitv
#define sb__os_futex_wait2   real_os_futex_wait2
#define sb__os_eventfd       real_os_eventfd
#define sb__os_eventfd_set   real_os_eventfd_set
#define sb__os_eventfd_clear real_os_eventfd_clear
#define sb__os_poll          real_os_poll
#define sb__os_pidfd_open    real_os_pidfd_open
#define sb__os_cpu_count     real_os_cpu_count
#define sb__os_cpu           real_os_cpu
#define sb__os_cpu_clock     real_os_cpu_clock
#define sb__os_cpu_time      real_os_cpu_time
#define sb__os_yield         real_os_yield
#define sb__os_slice_shorten real_os_slice_shorten
#define sb__os_slice_restore real_os_slice_restore

#endif
