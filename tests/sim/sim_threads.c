/* SPDX-License-Identifier: Apache-2.0 */
/* What the library asks of pthreads, for simulated threads. A mutex begins with its owner's thread id, as glibc's does. */
#include "sim.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <linux/futex.h>

#include "sim_hooked.h"
#include "sim_os.h"

struct sim_mutex {
	volatile unsigned int word;
	unsigned int robust;
};
_Static_assert(sizeof(struct sim_mutex) <= sizeof(pthread_mutex_t),
               "a simulated mutex lies in a real one's place");

static struct sim_mutex *of(pthread_mutex_t *mutex)
{
	return (struct sim_mutex *)mutex;
}

int sim_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *attr)
{
	int robust = PTHREAD_MUTEX_STALLED;

	if (attr)
		(void)pthread_mutexattr_getrobust(attr, &robust);
	memset(mutex, 0, sizeof(*mutex));
	of(mutex)->robust = robust == PTHREAD_MUTEX_ROBUST;
	return 0;
}

int sim_mutex_destroy(pthread_mutex_t *mutex)
{
	(void)mutex;
	return 0;
}

int sim_mutex_trylock(pthread_mutex_t *mutex)
{
	struct sim_mutex *m = of(mutex);

	sim_point(SIM_AT_CALL);
	if (m->word & FUTEX_TID_MASK)
		return EBUSY;
	m->word = (unsigned int)sim_tid();
	if (m->robust && sim_self())
		sim_self()->robust = &m->word;
	return 0;
}

int sim_mutex_lock(pthread_mutex_t *mutex)
{
	while (sim_mutex_trylock(mutex) != 0) {
		if (!sim.current || (of(mutex)->word & FUTEX_TID_MASK) == (unsigned int)sim_tid())
			abort(); /* nobody will ever give it back */
		(void)sim_wait_object(mutex, UINT64_MAX);
	}
	return 0;
}

int sim_mutex_unlock(pthread_mutex_t *mutex)
{
	struct sim_mutex *m = of(mutex);

	if (m->robust && sim_self())
		sim_self()->robust = NULL;
	m->word = 0;
	sim_wake_object(mutex, 1);
	return 0;
}

int sim_cond_init(pthread_cond_t *cond, const pthread_condattr_t *attr)
{
	(void)attr;
	memset(cond, 0, sizeof(*cond));
	return 0;
}

int sim_cond_destroy(pthread_cond_t *cond)
{
	(void)cond;
	return 0;
}

int sim_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex, const struct timespec *until)
{
	uint64_t ns = until ? (uint64_t)until->tv_sec * 1000000000u + (uint64_t)until->tv_nsec : UINT64_MAX;
	bool woken;

	of(mutex)->word = 0;
	sim_wake_object(mutex, 1);
	woken = sim_wait_object(cond, ns);
	(void)sim_mutex_lock(mutex);
	return woken ? 0 : ETIMEDOUT;
}

int sim_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex)
{
	return sim_cond_timedwait(cond, mutex, NULL);
}

int sim_cond_broadcast(pthread_cond_t *cond)
{
	sim_wake_object(cond, UINT32_MAX);
	return 0;
}

int sim_create(pthread_t *ret, const pthread_attr_t *attr, void *(*fn)(void *arg), void *arg)
{
	struct sim_thread *t = sim_thread_new(sim_self(), fn, arg);

	(void)attr;
	if (!t)
		return EAGAIN;
	*ret = (pthread_t)t;
	sim_point(SIM_AT_CALL);
	return 0;
}

int sim_join(pthread_t thread, void **ret)
{
	struct sim_thread *t = (struct sim_thread *)thread;

	sim_point(SIM_AT_CALL);
	while (t->state < SIM_ENDED)
		(void)sim_wait_object(t, UINT64_MAX);
	if (ret)
		*ret = t->result;
	return 0;
}

int sim_detach(pthread_t thread)
{
	((struct sim_thread *)thread)->detached = true;
	return 0;
}

pthread_t sim_pthread_self(void)
{
	return (pthread_t)sim.current;
}

int sim_once(pthread_once_t *once, void (*fn)(void))
{
	if (*once == 0) {
		*once = 1;
		fn();
	}
	return 0;
}

/* Outside of simulated threads there is one of each. */
static void *outside_specific[SIM_KEYS_MAX];
static unsigned outside_keys;

int sim_key_create(pthread_key_t *key, void (*destroy)(void *value))
{
	struct sim_proc *p = sim_self();
	unsigned *keys = p ? &p->keys : &outside_keys;

	if (*keys == SIM_KEYS_MAX)
		return EAGAIN;
	if (p)
		p->key_destroy[*keys] = destroy;
	*key = (*keys)++;
	return 0;
}

int sim_setspecific(pthread_key_t key, const void *value)
{
	void **values = sim.current ? sim.current->specific : outside_specific;

	values[key] = (void *)(uintptr_t)value;
	return 0;
}

void *sim_getspecific(pthread_key_t key)
{
	return sim.current ? sim.current->specific[key] : outside_specific[key];
}

int sim_atfork(void (*before)(void), void (*parent)(void), void (*child)(void))
{
	(void)before;
	(void)parent;
	(void)child;
	return 0;
}

int sim_sigmask(int how, const sigset_t *set, sigset_t *old)
{
	(void)how;
	(void)set;
	if (old)
		sigemptyset(old);
	return 0;
}

int sim_getpid(void)
{
	return sim_pid();
}

int sim_nanosleep(const struct timespec *t, struct timespec *left)
{
	(void)left;
	sim_sleep((uint64_t)t->tv_sec * 1000000000u + (uint64_t)t->tv_nsec);
	return 0;
}

void sim_store_point(void)
{
	sim_point(SIM_AT_STORE_LAYER);
}

int sim_no_lock(int fd, off_t byte)
{
	(void)fd;
	(void)byte;
	return 0;
}

/* LMDB's own, and what the store's sources call in its place: without its header, which only they include. */
int sim_env_open(void *env, const char *path, unsigned int flags, mode_t mode);
int mdb_env_open(void *env, const char *path, unsigned int flags, mode_t mode);
enum { NO_SYNC = 0x10000, WRITE_MAP = 0x80000 }; /* MDB_NOSYNC, MDB_WRITEMAP */

int sim_env_open(void *env, const char *path, unsigned int flags, mode_t mode)
{
	return mdb_env_open(env, path, flags | NO_SYNC | WRITE_MAP, mode);
}
