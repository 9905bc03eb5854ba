/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Words that several processes read and write. The only includer of atomic_ops.h; every access to a
 * shared word goes through here (HAZARDS rule 24).
 */
#ifndef SB_SHM_ATOMICS_H
#define SB_SHM_ATOMICS_H

#include <stdbool.h>
#include <stdint.h>

#include <atomic_ops.h>

#if defined(AO_USE_PTHREAD_DEFS)
#error "libatomic_ops emulates atomics with a process-local mutex here: useless between processes"
#endif
#if !defined(AO_HAVE_compare_and_swap_full) || !defined(AO_HAVE_int_fetch_and_add_full)
#error "libatomic_ops lacks the operations that the mailbox needs on this machine"
#endif

typedef volatile AO_t sb__word;           /* 64 bits */
typedef volatile unsigned int sb__word32; /* 32 bits: futexes */
_Static_assert(sizeof(AO_t) == 8, "the mailbox packs state and owner into 64 bits");
_Static_assert(sizeof(unsigned int) == 4, "a futex has 32 bits");

/* No order: counters and hints. */
static inline uint64_t sb__load(const sb__word *w)
{
	return AO_load(w);
}
static inline uint64_t sb__load_acquire(const sb__word *w)
{
	return AO_load_acquire(w);
}
static inline void sb__store(sb__word *w, uint64_t v)
{
	AO_store(w, v);
}
static inline void sb__store_release(sb__word *w, uint64_t v)
{
	AO_store_release(w, v);
}
static inline bool sb__cas(sb__word *w, uint64_t old, uint64_t new)
{
	return AO_compare_and_swap_full(w, old, new);
}
static inline uint64_t sb__add(sb__word *w, uint64_t n)
{
	return AO_fetch_and_add_full(w, n);
}
static inline void sb__or(sb__word *w, uint64_t bits)
{
	AO_or_full(w, bits);
}
static inline void sb__and(sb__word *w, uint64_t bits)
{
	AO_and_full(w, bits);
}
static inline unsigned int sb__load32(const sb__word32 *w)
{
	return AO_int_load_acquire(w);
}
static inline void sb__store32(sb__word32 *w, unsigned int v)
{
	AO_int_store_release(w, v);
}
static inline bool sb__cas32(sb__word32 *w, unsigned int old, unsigned int new)
{
	return AO_int_compare_and_swap_full(w, old, new);
}
static inline unsigned int sb__add32(sb__word32 *w, unsigned int n)
{
	return AO_int_fetch_and_add_full(w, n);
}
static inline void sb__barrier(void)
{
	AO_nop_full();
}
/* Stores before it are seen before stores after it: all that one who only writes needs. */
static inline void sb__write_barrier(void)
{
	AO_nop_write();
}
/* Loads before it are done before loads after it: for who copies and then looks whether the copy stands. */
static inline void sb__read_barrier(void)
{
	AO_nop_read();
}
static inline void sb__pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#else
	AO_nop_full();
#endif
}

#endif
