/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Included by force before every source of the library that is compiled for the simulator. The sources are the ones that are
 * shipped; this header gives other meanings to what they ask of the C library, and makes every access to a shared word a
 * point at which another simulated thread may run.
 *
 * Thread-local variables go to a section of their own, which is swapped when another simulated thread runs; all other static
 * data is moved to a section by the build, and swapped when another simulated process does.
 */
#ifndef SB_TESTS_SIM_HOOKS_H
#define SB_TESTS_SIM_HOOKS_H

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "sim_hooked.h"

/* ── memory ── */

#define malloc  sim_malloc
#define calloc  sim_calloc
#define realloc sim_realloc
#define free    sim_free
#undef strdup
#define strdup sim_strdup

#define tsearch  sim_tsearch
#define tfind    sim_tfind
#define tdelete  sim_tdelete
#define tdestroy sim_tdestroy
#define twalk_r  sim_twalk_r

/* ── processes and threads ── */

#define getpid    sim_getpid
#define nanosleep sim_nanosleep
#define __thread __attribute__((section("sim_tls")))
#define _Thread_local __attribute__((section("sim_tls")))

#define pthread_mutex_init     sim_mutex_init
#define pthread_mutex_destroy  sim_mutex_destroy
#define pthread_mutex_lock     sim_mutex_lock
#define pthread_mutex_trylock  sim_mutex_trylock
#define pthread_mutex_unlock   sim_mutex_unlock
#define pthread_cond_init      sim_cond_init
#define pthread_cond_destroy   sim_cond_destroy
#define pthread_cond_wait      sim_cond_wait
#define pthread_cond_timedwait sim_cond_timedwait
#define pthread_cond_broadcast sim_cond_broadcast
#define pthread_cond_signal    sim_cond_broadcast
#define pthread_create         sim_create
#define pthread_join           sim_join
#define pthread_detach         sim_detach
#define pthread_self           sim_pthread_self
#define pthread_once           sim_once
#define pthread_key_create     sim_key_create
#define pthread_setspecific    sim_setspecific
#define pthread_getspecific    sim_getspecific
#define pthread_atfork         sim_atfork
#define pthread_sigmask        sim_sigmask

/* ── shared words ── */

#define sb__load          sim_raw_load
#define sb__load_acquire  sim_raw_load_acquire
#define sb__store         sim_raw_store
#define sb__store_release sim_raw_store_release
#define sb__cas           sim_raw_cas
#define sb__add           sim_raw_add
#define sb__or            sim_raw_or
#define sb__and           sim_raw_and
#define sb__load32        sim_raw_load32
#define sb__store32       sim_raw_store32
#define sb__cas32         sim_raw_cas32
#define sb__add32         sim_raw_add32
#define sb__barrier       sim_raw_barrier
#define sb__read_barrier  sim_raw_read_barrier
#define sb__pause         sim_raw_pause
#include "atomics.h"
#undef sb__load
#undef sb__load_acquire
#undef sb__store
#undef sb__store_release
#undef sb__cas
#undef sb__add
#undef sb__or
#undef sb__and
#undef sb__load32
#undef sb__store32
#undef sb__cas32
#undef sb__add32
#undef sb__barrier
#undef sb__read_barrier
#undef sb__pause
#include "sim_words.h"

#define sb__load(w)             sim_load((w), __func__)
#define sb__load_acquire(w)     sim_load((w), __func__)
#define sb__store(w, v)         sim_store((w), (v), __func__)
#define sb__store_release(w, v) sim_store((w), (v), __func__)
#define sb__cas(w, old, new)    sim_cas((w), (old), (new), __func__)
#define sb__add(w, n)           sim_add((w), (n), __func__)
#define sb__or(w, bits)         sim_or((w), (bits), __func__)
#define sb__and(w, bits)        sim_and((w), (bits), __func__)
#define sb__load32(w)           sim_load32((w), __func__)
#define sb__store32(w, v)       sim_store32((w), (v), __func__)
#define sb__cas32(w, old, new)  sim_cas32((w), (old), (new), __func__)
#define sb__add32(w, n)         sim_add32((w), (n), __func__)
#define sb__barrier()           sim_barrier(__func__)
#define sb__read_barrier()      sim_barrier(__func__)
#define sb__pause()             sim_pause()

#endif
