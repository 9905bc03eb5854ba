/* SPDX-License-Identifier: Apache-2.0 */
/* What sim_hooks.h puts in the place of the C library's functions. */
#ifndef SB_TESTS_SIM_HOOKED_H
#define SB_TESTS_SIM_HOOKED_H

#include <pthread.h>
#include <search.h>
#include <signal.h>
#include <stddef.h>
#include <sys/types.h>
#include <time.h>

void *sim_malloc(size_t n);
void *sim_calloc(size_t n, size_t size);
void *sim_realloc(void *p, size_t n);
void sim_free(void *p);
char *sim_strdup(const char *s);

void *sim_tsearch(const void *key, void **root, int (*compare)(const void *, const void *));
void *sim_tfind(const void *key, void *const *root, int (*compare)(const void *, const void *));
void *sim_tdelete(const void *key, void **root, int (*compare)(const void *, const void *));
void sim_tdestroy(void *root, void (*free_key)(void *key));
void sim_twalk_r(const void *root, void (*visit)(const void *node, VISIT which, void *arg), void *arg);

int sim_getpid(void);
int sim_nanosleep(const struct timespec *t, struct timespec *left);
int sim_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *attr);
int sim_mutex_destroy(pthread_mutex_t *mutex);
int sim_mutex_lock(pthread_mutex_t *mutex);
int sim_mutex_trylock(pthread_mutex_t *mutex);
int sim_mutex_unlock(pthread_mutex_t *mutex);
int sim_cond_init(pthread_cond_t *cond, const pthread_condattr_t *attr);
int sim_cond_destroy(pthread_cond_t *cond);
int sim_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex);
int sim_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex, const struct timespec *until);
int sim_cond_broadcast(pthread_cond_t *cond);
int sim_create(pthread_t *ret, const pthread_attr_t *attr, void *(*fn)(void *arg), void *arg);
int sim_join(pthread_t thread, void **ret);
int sim_detach(pthread_t thread);
pthread_t sim_pthread_self(void);
int sim_once(pthread_once_t *once, void (*fn)(void));
int sim_key_create(pthread_key_t *key, void (*destroy)(void *value));
int sim_setspecific(pthread_key_t key, const void *value);
void *sim_getspecific(pthread_key_t key);
int sim_atfork(void (*before)(void), void (*parent)(void), void (*child)(void));
int sim_sigmask(int how, const sigset_t *set, sigset_t *old);

int sim_no_lock(int fd, off_t byte);
void sim_store_point(void); /* a transaction of the store is about to begin */

#endif
