/* SPDX-License-Identifier: Apache-2.0 */
/* A service thread, for serve.c, which is what it does, and relief.c, which decides whether another is needed. */
#ifndef SB_SESSION_WORKER_H
#define SB_SESSION_WORKER_H

#include "host_impl.h"
#include "spin.h"

struct sb__worker {
	struct sb__worker *next;
	struct sb__host *host;
	pthread_t thread;
	bool done; /* left worker_main; under host->lock */
	struct sb__spin linger;
	/* Written by the thread itself, read by the one on duty: */
	_Atomic uint64_t steps;    /* grows with whatever it does */
	_Atomic uint64_t began_ns; /* its running call; 0: none */
	_Atomic uint32_t serving;  /* 1 + bell index of the session whose calls it runs; 0: none */
	_Atomic bool entering;     /* waits for Python, without a call */
	_Atomic bool parks;        /* its call waits for its caller's answer */
	_Atomic int cpu_clock;     /* counts its CPU time; see sb__os_cpu_clock() */
	uint8_t scratch[SB__INLINE_MAX];
};

/*
 * A thread standing by that was nudged: watches the leader for as long as work waits, one thread at a time. True: the leader
 * does not get to that work, so this thread leads now, and may be in Python already (engine.h, batch_begin).
 */
bool sb__relief(struct sb__worker *worker);

/* serve.c: with host->lock held, by a thread standing by: it leads, and another one stands by. */
void sb__serve_take_lead_locked(struct sb__worker *worker);

#endif
